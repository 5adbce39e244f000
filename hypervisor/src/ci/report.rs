//! All cases of a run, for a machine to read.

use serde::Serialize;

use super::case::{Case, Verdict};
use crate::doctor::{self, Platform};

/// The version of [`Report`] as it is serialized, and of the JUnit XML; it rises when a field
/// changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// A run of suites.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Which version of this structure it is: [`SCHEMA`].
    pub schema: u32,
    /// The version of this crate.
    pub version: &'static str,
    /// Which build it was.
    pub build: &'static str,
    /// What drives KVM on this host.
    pub platform: Platform,
    /// How many cases passed.
    pub passed: usize,
    /// How many failed.
    pub failed: usize,
    /// How many could not be run to a verdict.
    pub errors: usize,
    /// How many were left out.
    pub skipped: usize,
    /// The suites.
    pub suites: Vec<Suite>,
}

/// The cases of one scenario file.
#[derive(Debug, Serialize)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// Its cases, in the file's order.
    pub cases: Vec<Case>,
}

impl Suite {
    /// How many cases went like this.
    pub fn count(&self, verdict: Verdict) -> usize {
        let cases = self.cases.iter();
        cases.filter(|case| case.verdict == verdict).count()
    }

    /// How long its guests ran, in nanoseconds.
    pub fn run_ns(&self) -> u64 {
        self.cases
            .iter()
            .fold(0, |sum: u64, case| sum.saturating_add(case.run_ns))
    }
}

impl Report {
    /// A report on these suites.
    pub fn new(suites: Vec<Suite>) -> Self {
        let count = |verdict| suites.iter().map(|suite| suite.count(verdict)).sum();
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
            platform: doctor::platform(),
            passed: count(Verdict::Passed),
            failed: count(Verdict::Failed),
            errors: count(Verdict::Error),
            skipped: count(Verdict::Skipped),
            suites,
        }
    }

    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.failed == 0 && self.errors == 0
    }

    /// The closing line: `N passed, N failed`, in which errors count as failed.
    pub fn summary(&self) -> String {
        let skipped = match self.skipped {
            0 => String::new(),
            count => format!(", {count} skipped"),
        };
        format!(
            "{} passed, {} failed{skipped}",
            self.passed,
            self.failed + self.errors
        )
    }

    /// The report as JUnit XML.
    pub fn junit(&self) -> String {
        super::junit::write(self)
    }
}
