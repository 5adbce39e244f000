//! What the guest's benchmark says on its console: pv-guest/src/bench/mod.rs defines it.

use crate::error::BenchError;

/// The beginning of each line.
pub const MARK: &str = "@bench ";
/// The last line.
const END: &str = "end";

/// A row's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The row.
    pub row: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was measured.
    Measured {
        /// Operations in a sample.
        n: u64,
        /// Exits in all samples.
        exits: u64,
        /// Calls of tier 2 in all samples.
        calls: u64,
        /// Calls of tier 3, entries of the batch ring, in all samples.
        entries: u64,
        /// The samples, in cycles.
        ticks: Vec<u64>,
    },
    /// This image has no such thing.
    Absent,
    /// It did not work.
    Failed(String),
}

/// Read the lines of a whole run.
pub fn parse(lines: &[String]) -> Result<Vec<Line>, BenchError> {
    let Some((END, rows)) = lines
        .split_last()
        .and_then(|(last, rows)| Some((last.strip_prefix(MARK)?, rows)))
    else {
        let line = lines.last().cloned().unwrap_or_default();
        return Err(BenchError::Line {
            line,
            reason: "it should be the last line, `@bench end`",
        });
    };
    rows.iter().map(|line| parse_line(line)).collect()
}

fn parse_line(line: &str) -> Result<Line, BenchError> {
    let fail = |reason| BenchError::Line {
        line: shortened(line),
        reason,
    };
    let body = line
        .strip_prefix(MARK)
        .ok_or_else(|| fail("it does not begin with @bench"))?;
    let (row, rest) = body
        .split_once(' ')
        .ok_or_else(|| fail("nothing follows the row's name"))?;
    let outcome = match rest.split_once(' ') {
        None if rest == "absent" => Outcome::Absent,
        Some(("failed", why)) => Outcome::Failed(why.to_owned()),
        _ => measured(rest).map_err(fail)?,
    };
    Ok(Line {
        row: row.to_owned(),
        outcome,
    })
}

fn measured(text: &str) -> Result<Outcome, &'static str> {
    let mut fields = text.split(' ');
    let mut field = |name| {
        fields
            .next()
            .and_then(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    let number = |text: &str| text.parse::<u64>().ok();
    let n = field("n")
        .and_then(number)
        .filter(|n| *n > 0)
        .ok_or("n= and a number from 1 on should come first")?;
    let exits = field("exits")
        .and_then(number)
        .ok_or("exits= and a number should follow n=")?;
    let calls = field("calls")
        .and_then(number)
        .ok_or("calls= and a number should follow exits=")?;
    let entries = field("entries")
        .and_then(number)
        .ok_or("entries= and a number should follow calls=")?;
    let samples = field("ticks").ok_or("ticks= should follow entries=")?;
    if fields.next().is_some() {
        return Err("something follows the samples");
    }
    let hexadecimal = |sample| u64::from_str_radix(sample, 16);
    let ticks = samples
        .split(',')
        .map(hexadecimal)
        .collect::<Result<Vec<_>, _>>();
    let ticks =
        ticks.map_err(|_| "the samples should be hexadecimal numbers, with commas between")?;
    Ok(Outcome::Measured {
        n,
        exits,
        calls,
        entries,
        ticks,
    })
}

/// As much of a line as a message needs.
fn shortened(line: &str) -> String {
    line.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Vec<Line>, BenchError> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        parse(&lines)
    }

    #[test]
    fn a_run_is_a_line_a_row_and_an_end() {
        let text = "@bench null_machine n=64 exits=192 calls=191 entries=3 ticks=3f1c8,a,ffffffffffffffff\n\
                    @bench null_batch absent\n\
                    @bench idle_wake failed the timer did not fire\n\
                    @bench end";
        let lines = parse_text(text).unwrap();
        let row = |row: &str, outcome| Line {
            row: row.into(),
            outcome,
        };
        let ticks = vec![0x3f1c8, 10, u64::MAX];
        assert_eq!(
            lines[0],
            row(
                "null_machine",
                Outcome::Measured {
                    n: 64,
                    exits: 192,
                    calls: 191,
                    entries: 3,
                    ticks
                }
            )
        );
        assert_eq!(lines[1], row("null_batch", Outcome::Absent));
        assert_eq!(
            lines[2],
            row(
                "idle_wake",
                Outcome::Failed("the timer did not fire".into())
            )
        );
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_run_without_its_end_was_cut_short() {
        for text in [
            "",
            "@bench empty_loop n=1 exits=0 calls=0 entries=0 ticks=1",
            "@bench endless",
        ] {
            let error = parse_text(text).unwrap_err().to_string();
            assert!(error.contains("`@bench end`"), "{error}");
        }
    }

    #[test]
    fn a_bad_line_is_shown_with_what_is_wrong() {
        for (line, reason) in [
            ("bench x absent", "begin with @bench"),
            ("@bench x", "nothing follows"),
            ("@bench x gone", "n= and a number"),
            ("@bench x n=0 exits=0", "from 1 on"),
            ("@bench x n=-1 exits=0", "n= and a number"),
            ("@bench x n=1 calls=1", "exits= and a number"),
            ("@bench x n=1 exits=z", "exits= and a number"),
            ("@bench x n=1 exits=0 ticks=1", "calls= and a number"),
            ("@bench x n=1 exits=0 calls=0", "entries= and a number"),
            (
                "@bench x n=1 exits=0 calls=0 entries=-1 ticks=1",
                "entries= and a number",
            ),
            (
                "@bench x n=1 exits=0 calls=0 entries=0",
                "ticks= should follow",
            ),
            (
                "@bench x n=1 exits=0 calls=0 entries=0 ticks=",
                "hexadecimal",
            ),
            (
                "@bench x n=1 exits=0 calls=0 entries=0 ticks=1,,2",
                "hexadecimal",
            ),
            (
                "@bench x n=1 exits=0 calls=0 entries=0 ticks=0x1",
                "hexadecimal",
            ),
            (
                "@bench x n=1 exits=0 calls=0 entries=0 ticks=10000000000000000",
                "hexadecimal",
            ),
            (
                "@bench x n=1 exits=0 calls=0 entries=0 ticks=1 more",
                "follows the samples",
            ),
        ] {
            let error = parse_text(&format!("{line}\n@bench end"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(line) && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_long_line_is_not_repeated_whole() {
        let line = format!("@bench {}", "x".repeat(100_000));
        let error = parse_text(&format!("{line}\n@bench end"))
            .unwrap_err()
            .to_string();
        assert!(error.len() < 400);
    }
}
