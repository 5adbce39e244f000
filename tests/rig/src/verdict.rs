//! Judges the run of a test binary: by its list of tests, what it wrote, and how it ended. A test
//! without a result has failed; so has a binary that ran nothing or left out what needs KVM. Called
//! by `suite`.

use serde::Serialize;

use crate::libtest::{self, Outcome};
use crate::plan::End;

/// What a test says that was left out for want of KVM: never right in the rig.
const LEFT_OUT: &str = "PARAVANE_NO_KVM=1:";
/// How many lines of a binary's own output are shown when no test tells why it failed.
const SHOWN: usize = 30;

/// A test binary that has run, or should have.
#[derive(Debug, Serialize)]
pub struct BinaryRun {
    /// Package and target.
    pub name: String,
    /// Its tests, in the order of its list.
    pub cases: Vec<Case>,
    /// What is wrong with the binary as a whole.
    pub why: Option<String>,
    /// How long it ran, in milliseconds of the rig's clock.
    pub ms: u64,
}

/// A test.
#[derive(Debug, Serialize)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Its result: `passed`, `failed`, `ignored`, `not_run`.
    pub result: Result,
    /// Why it failed, in a line.
    pub why: Option<String>,
    /// What it wrote.
    pub output: String,
}

/// A test's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Result {
    /// It passed.
    Passed,
    /// It failed, or the binary ended in it.
    Failed,
    /// It is marked so that it is not run.
    Ignored,
    /// The binary ended before it.
    NotRun,
}

/// How a binary ran.
#[derive(Debug, Default)]
pub struct Evidence {
    /// How it ended; `None` while it has not, for all that is known.
    pub end: Option<End>,
    /// What it wrote to stdout.
    pub out: Vec<u8>,
    /// What it wrote to stderr.
    pub err: Vec<u8>,
    /// How long it ran, in milliseconds.
    pub ms: u64,
}

impl BinaryRun {
    /// Judge a run. `expected` are the tests that it should have run.
    pub fn judge(name: String, expected: &[String], evidence: &Evidence, timeout_s: u64) -> Self {
        let out = String::from_utf8_lossy(&evidence.out);
        let mut parsed = libtest::parse(&out);
        let cases: Vec<Case> = expected
            .iter()
            .map(|name| {
                let output = parsed.outputs.remove(name).unwrap_or_default();
                let outcome = parsed.outcomes.get(name).copied();
                case(name, outcome.unwrap_or(Outcome::NotRun), output)
            })
            .collect();
        let mut run = Self {
            name,
            cases,
            why: None,
            ms: evidence.ms,
        };
        run.why = run.fault(&out, parsed.is_complete, evidence, timeout_s);
        run
    }

    /// What is wrong with the binary as a whole.
    fn fault(
        &self,
        out: &str,
        is_complete: bool,
        evidence: &Evidence,
        timeout_s: u64,
    ) -> Option<String> {
        let has_failed = self.count(Result::Failed) > 0;
        let ran = self.count(Result::Passed) + self.count(Result::Failed);
        let how = match &evidence.end {
            None => "the rig ended before it did".to_owned(),
            Some(End::OutOfTime) => format!("it did not end in {timeout_s} s (--timeout)"),
            Some(End::Signal(signal)) => format!("it was ended by signal {signal}"),
            Some(End::NotStarted(why)) => format!("it did not start: {why}"),
            Some(End::Status(0)) if has_failed => {
                "it ended with status 0 though a test failed".to_owned()
            }
            Some(End::Status(status)) if *status != 0 && !has_failed => {
                format!("it ended with status {status}")
            }
            Some(End::Status(_)) if !is_complete => "it ended without a result".to_owned(),
            Some(End::Status(_)) if self.count(Result::NotRun) > 0 => {
                "it left tests out that it has listed".to_owned()
            }
            Some(End::Status(_)) if out.lines().any(|line| line.starts_with(LEFT_OUT)) => {
                format!("a test was left out ({LEFT_OUT} ...), though the rig has KVM")
            }
            Some(End::Status(_)) if ran == 0 => "it ran no test".to_owned(),
            Some(End::Status(_)) => return None,
        };
        let err = String::from_utf8_lossy(&evidence.err);
        let shown = if has_failed && is_complete { 0 } else { SHOWN };
        Some(how + &crate::error::tail(&err, shown))
    }

    /// How many tests had this result.
    pub fn count(&self, result: Result) -> usize {
        self.cases
            .iter()
            .filter(|case| case.result == result)
            .count()
    }

    /// How many failures it stands for: its failed tests, or 1 if it failed as a whole without any.
    pub fn failures(&self) -> usize {
        let failed = self.count(Result::Failed);
        failed.max(usize::from(self.why.is_some()))
    }

    /// Each failure: what failed, and why in a line.
    pub fn reasons(&self) -> Vec<(String, String)> {
        let failed = self
            .cases
            .iter()
            .filter(|case| case.result == Result::Failed);
        let mut reasons: Vec<_> = failed
            .map(|case| {
                let why = case.why.clone().unwrap_or_default();
                (format!("{}::{}", self.name, case.name), why)
            })
            .collect();
        if let Some(why) = &self.why {
            let line = why.lines().next().unwrap_or_default();
            reasons.push((self.name.clone(), line.to_owned()));
        }
        reasons
    }
}

fn case(name: &str, outcome: Outcome, output: String) -> Case {
    let (result, why) = match outcome {
        Outcome::Passed => (Result::Passed, None),
        Outcome::Ignored => (Result::Ignored, None),
        Outcome::NotRun => (Result::NotRun, None),
        Outcome::Failed => (Result::Failed, Some(reason(&output))),
        Outcome::Running => (
            Result::Failed,
            Some("the binary ended in this test".to_owned()),
        ),
    };
    Case {
        name: name.to_owned(),
        result,
        why,
        output,
    }
}

/// A panic's message in a line.
fn reason(output: &str) -> String {
    let mut lines = output.lines();
    let is_panic = |line: &str| line.starts_with("thread '") && line.contains("panicked at");
    let found = lines.find(|line| is_panic(line)).and_then(|_| lines.next());
    found
        .unwrap_or("it failed and did not say why")
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests;
