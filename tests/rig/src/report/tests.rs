//! What reports say of a run with each kind of result.

use super::*;

fn case(name: &str, result: Result) -> Case {
    Case {
        name: name.to_owned(),
        result,
        why: (result == Result::Failed).then(|| "a < b \u{1b}[0m".to_owned()),
        output: "text & more".to_owned(),
    }
}

fn report() -> Report {
    let good = BinaryRun {
        name: "tests::good".to_owned(),
        cases: vec![case("one", Result::Passed), case("two", Result::Ignored)],
        why: None,
        ms: 1500,
    };
    let bad = BinaryRun {
        name: "tests::bad".to_owned(),
        cases: vec![case("three", Result::Failed), case("four", Result::NotRun)],
        why: Some("it did not end in 7 s\n  | last words".to_owned()),
        ms: 7000,
    };
    Report::new("6.1".to_owned(), vec![good, bad], 0, None)
}

#[test]
fn the_summary_names_each_failure_and_counts() {
    let summary = report().summary();
    let lines: Vec<_> = summary.lines().collect();
    assert_eq!(
        lines,
        [
            "FAILED tests::bad::three: a < b \u{1b}[0m",
            "FAILED tests::bad: it did not end in 7 s",
            "1 passed, 1 failed, 1 ignored, 1 not run",
        ]
    );
}

#[test]
fn the_summary_says_that_the_rig_was_lost() {
    let report = Report::new(String::new(), Vec::new(), 2, None);
    assert_eq!(
        report.summary(),
        "0 passed, 0 failed; the rig was lost and booted again: 2 times"
    );
}

#[test]
fn a_binary_that_fails_without_a_failed_test_is_a_failure() {
    let mut report = report();
    for run in &mut report.binaries {
        run.cases.retain(|case| case.result == Result::Passed);
    }
    let report = Report::new(String::new(), report.binaries, 0, None);
    assert_eq!((report.passed, report.failed), (1, 1));
}

#[test]
fn junit_has_a_case_for_each_test_and_for_a_binary_that_failed() {
    let xml = report().junit().unwrap();
    let read = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    assert_eq!(read.test_suites.len(), 2);
    assert_eq!((read.tests, read.failures, read.errors), (5, 1, 2), "{xml}");
    assert!(xml.contains("a &lt; b") && !xml.contains('\u{1b}'), "{xml}");
}

#[test]
fn json_has_the_results_by_name() {
    let json = serde_json::to_value(report()).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["binaries"][1]["cases"][0]["result"], "failed");
    assert_eq!(json["binaries"][1]["cases"][1]["result"], "not_run");
    assert_eq!(json["failed"], 1);
}
