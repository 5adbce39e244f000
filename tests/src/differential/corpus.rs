//! The corpus: lines of text. A line `case` has a case's form in hexadecimal digits; the line behind
//! it, `is`, has what mode `hvm` made of it in the rig. Lines that begin with `#` are prose.

use case_runner::{Case, HEAD};

/// A case and what it must come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The case.
    pub case: Case,
    /// The result, as the kernel writes it.
    pub expected: String,
}

/// Read a corpus.
///
/// # Errors
/// Names the line that makes no sense.
pub fn read(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut open = None;
    for (number, line) in (1..).zip(text.lines()) {
        let fail = |what: &str| Err(format!("line {number} of the corpus: {what}"));
        match (line.split_once(' ').unwrap_or((line, "")), open.take()) {
            (("case", digits), None) => match parse(digits) {
                Some(case) => open = Some(case),
                None => return fail("no case in hexadecimal digits"),
            },
            (("is", expected), Some(case)) => entries.push(Entry {
                case,
                expected: expected.to_owned(),
            }),
            (("", ""), None) => {}
            ((start, _), None) if start.starts_with('#') => {}
            (_, None) => return fail("expected `case`, or `#` and prose"),
            (_, Some(_)) => return fail("expected `is`, as a case is before it"),
        }
    }
    match open {
        Some(_) => Err("the last case of the corpus has no result".to_owned()),
        None => Ok(entries),
    }
}

/// An entry's lines.
pub fn write(case: &Case, expected: &str) -> String {
    let used = HEAD + case.instructions().len();
    let digits: String = case.to_bytes()[..used]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("case {digits}\nis {expected}\n")
}

fn parse(digits: &str) -> Option<Case> {
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return None;
    }
    let bytes: Option<Vec<u8>> = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect();
    Case::from_bytes(&bytes?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::generate;

    #[test]
    fn what_is_written_is_read() {
        let cases = generate(1, 20);
        let text: String = cases.iter().map(|case| write(case, "#3 rip=1")).collect();
        let entries = read(&format!("# prose\n\n{text}")).expect("a corpus");
        assert_eq!(entries.len(), 20);
        for (entry, case) in entries.iter().zip(&cases) {
            assert_eq!(&entry.case, case);
            assert_eq!(entry.expected, "#3 rip=1");
        }
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        let good = write(&generate(1, 1)[0], "#3");
        for (text, says) in [
            ("case 12", "line 1 of the corpus: no case"),
            ("case zz", "line 1 of the corpus: no case"),
            ("is #3", "line 1 of the corpus: expected `case`"),
            ("prose", "line 1 of the corpus: expected `case`"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.starts_with(says), "{error}");
        }
        let case = good.lines().next().expect("a line");
        assert!(read(case).expect_err(case).contains("has no result"));
        let twice = format!("{case}\n{case}");
        assert!(
            read(&twice)
                .expect_err("no result")
                .starts_with("line 2 of the corpus: expected `is`")
        );
    }
}
