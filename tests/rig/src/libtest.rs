//! Reads what a test binary of Rust's writes: the list of its tests, and the results of a run with
//! one thread. Called by `verdict` and `cargo`. It relies on the text that people read, since there
//! is no other in stable Rust, and so it checks each name against the list.

use std::collections::HashMap;

/// The result of one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It is marked so that it is not run.
    Ignored,
    /// It had begun when the binary ended.
    Running,
    /// It had not begun when the binary ended.
    NotRun,
}

/// What a binary wrote of its tests.
#[derive(Debug, Default)]
pub struct Parsed {
    /// By name, for each test that is mentioned.
    pub outcomes: HashMap<String, Outcome>,
    /// By name, what a test wrote.
    pub outputs: HashMap<String, String>,
    /// Whether there was a last line with the counts.
    pub is_complete: bool,
}

/// The names in the answer to `--list --format terse`.
pub fn list(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect()
}

/// Read the output of a run with `--test-threads 1 --show-output`.
pub fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut begun: Option<String> = None;
    let mut section: Option<String> = None;
    let mut in_sections = false;
    for line in text.lines() {
        if line == "successes:" || line == "failures:" {
            (in_sections, section) = (true, None);
        } else if line.starts_with("test result: ") {
            parsed.is_complete = true;
            section = None;
        } else if in_sections {
            if let Some(name) = header(line) {
                section = Some(name.to_owned());
            } else if let Some(name) = &section {
                let output = parsed.outputs.entry(name.clone()).or_default();
                output.push_str(line);
                output.push('\n');
            }
        } else if let Some((name, rest)) = line
            .strip_prefix("test ")
            .and_then(|line| line.split_once(" ..."))
        {
            let name = name.trim_end_matches(" - should panic");
            let outcome = outcome(rest.trim()).unwrap_or(Outcome::Running);
            parsed.outcomes.insert(name.to_owned(), outcome);
            begun = (outcome == Outcome::Running).then(|| name.to_owned());
        } else if let Some(name) = &begun
            && let Some(outcome) = outcome(line.trim())
        {
            // Something wrote between the name and its result.
            parsed.outcomes.insert(name.clone(), outcome);
            begun = None;
        }
    }
    parsed
}

fn outcome(word: &str) -> Option<Outcome> {
    match word {
        "ok" => Some(Outcome::Passed),
        "FAILED" => Some(Outcome::Failed),
        _ if word == "ignored" || word.starts_with("ignored, ") => Some(Outcome::Ignored),
        _ => None,
    }
}

fn header(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "
running 4 tests
test boots ... ok
test fails ... FAILED
test later ... ignored, needs a disk
test panics - should panic ... ok

successes:

---- boots stdout ----
mode pv
test fake ... ok


successes:
    boots
    panics

failures:

---- fails stdout ----

thread 'fails' panicked at tests/tests/x.rs:3:5:
the timer is dead
note: run with `RUST_BACKTRACE=1`


failures:
    fails

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn each_result_is_read_and_what_a_test_writes_is_none() {
        let parsed = parse(RUN);
        assert_eq!(parsed.outcomes.len(), 4, "{parsed:?}");
        assert_eq!(parsed.outcomes["boots"], Outcome::Passed);
        assert_eq!(parsed.outcomes["fails"], Outcome::Failed);
        assert_eq!(parsed.outcomes["later"], Outcome::Ignored);
        assert_eq!(parsed.outcomes["panics"], Outcome::Passed);
        assert!(parsed.is_complete);
    }

    #[test]
    fn the_output_of_each_test_is_its_own() {
        let parsed = parse(RUN);
        assert!(parsed.outputs["fails"].contains("the timer is dead"));
        assert!(!parsed.outputs["fails"].contains("mode pv"));
        assert!(parsed.outputs["boots"].contains("test fake"));
        assert!(!parsed.outputs["fails"].contains("failures:"));
    }

    #[test]
    fn a_run_that_was_cut_off_names_the_test_that_ran() {
        let parsed = parse("running 3 tests\ntest a ... ok\ntest b ... ");
        assert_eq!(parsed.outcomes["a"], Outcome::Passed);
        assert_eq!(parsed.outcomes["b"], Outcome::Running);
        assert!(!parsed.outcomes.contains_key("c"));
        assert!(!parsed.is_complete);
    }

    #[test]
    fn output_between_a_name_and_its_result_does_no_harm() {
        let parsed = parse("test a ... from a child\nmore\nok\ntest b ... FAILED\n");
        assert_eq!(parsed.outcomes["a"], Outcome::Passed);
        assert_eq!(parsed.outcomes["b"], Outcome::Failed);
    }

    #[test]
    fn the_list_has_tests_and_no_benchmarks() {
        assert_eq!(
            list("a::b: test\nfast: benchmark\nc: test\n\n2 tests"),
            ["a::b", "c"]
        );
    }
}
