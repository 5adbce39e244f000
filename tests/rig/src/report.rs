//! What a run of the suite comes to: the closing lines, JUnit XML and JSON. Called by `suite`.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use crate::verdict::{BinaryRun, Case, Result};

/// The version of the JSON structure; it rises when a field goes or changes its meaning.
const SCHEMA: u32 = 1;

/// A run of the suite.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The version of this structure.
    pub schema: u32,
    /// The rig's kernel; empty when it did not boot.
    pub kernel: String,
    /// How many tests passed.
    pub passed: usize,
    /// How many failed, and how many binaries failed without a test that did.
    pub failed: usize,
    /// How many are marked so that they are not run.
    pub ignored: usize,
    /// How many were not reached.
    pub not_run: usize,
    /// How often the rig was lost at work, and booted again for what had not ended.
    pub lost: usize,
    /// Why the rig itself failed.
    pub error: Option<String>,
    /// The test binaries.
    pub binaries: Vec<BinaryRun>,
}

impl Report {
    /// Sum up.
    pub fn new(
        kernel: String,
        binaries: Vec<BinaryRun>,
        lost: usize,
        error: Option<String>,
    ) -> Self {
        let count = |result| binaries.iter().map(|run| run.count(result)).sum();
        Self {
            schema: SCHEMA,
            kernel,
            passed: count(Result::Passed),
            failed: binaries.iter().map(BinaryRun::failures).sum(),
            ignored: count(Result::Ignored),
            not_run: count(Result::NotRun),
            lost,
            error,
            binaries,
        }
    }

    /// The failures, a line each, and the counts.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (what, why) in self.binaries.iter().flat_map(BinaryRun::reasons) {
            text += &format!("FAILED {what}: {why}\n");
        }
        text += &format!("{} passed, {} failed", self.passed, self.failed);
        for (count, what) in [(self.ignored, "ignored"), (self.not_run, "not run")] {
            if count > 0 {
                text += &format!(", {count} {what}");
            }
        }
        if self.lost > 0 {
            text += &format!("; the rig was lost and booted again: {} times", self.lost);
        }
        text
    }

    /// As JUnit XML.
    ///
    /// # Errors
    /// What the writer of XML says.
    pub fn junit(&self) -> std::result::Result<String, String> {
        let mut report = quick_junit::Report::new("paravane rig");
        report.add_test_suites(self.binaries.iter().map(|run| self.suite(run)));
        report.to_string().map_err(|error| error.to_string())
    }

    fn suite(&self, run: &BinaryRun) -> TestSuite {
        let mut suite = TestSuite::new(run.name.as_str());
        suite.set_time(Duration::from_millis(run.ms));
        suite.add_property(Property::new("rig.kernel", self.kernel.as_str()));
        suite.add_test_cases(run.cases.iter().map(|case| junit_case(run, case)));
        if let Some(why) = &run.why {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_message(why.lines().next().unwrap_or_default());
            status.set_description(why.as_str());
            let mut case = TestCase::new("(the binary)", status);
            case.set_classname(run.name.as_str());
            suite.add_test_case(case);
        }
        suite
    }
}

fn junit_case(run: &BinaryRun, case: &Case) -> TestCase {
    let status = match case.result {
        Result::Passed => TestCaseStatus::success(),
        Result::Ignored => TestCaseStatus::skipped(),
        Result::Failed => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(case.why.as_deref().unwrap_or_default());
            status.set_description(case.output.as_str());
            status
        }
        Result::NotRun => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_message("the binary ended before this test");
            status
        }
    };
    let mut junit = TestCase::new(case.name.as_str(), status);
    junit.set_classname(run.name.as_str());
    if case.result == Result::Passed && !case.output.is_empty() {
        junit.set_system_out(case.output.as_str());
    }
    junit
}

#[cfg(test)]
mod tests;
