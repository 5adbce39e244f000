//! What happened: a case for each scenario, with its verdict and the evidence.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::text;
use crate::error::GuestFault;
use crate::stats::Stats;

/// Lines of the console that go with a failure.
pub(super) const TAIL_LINES: usize = 20;

/// One scenario, as it went.
#[derive(Debug, Serialize)]
pub struct Case {
    /// The scenario's name.
    pub name: String,
    /// The image's name.
    pub image: String,
    /// The mode's name.
    pub mode: &'static str,
    /// Passed, failed, error or skipped.
    #[serde(rename = "result")]
    pub verdict: Verdict,
    /// Why it did not pass.
    pub failure: Option<Failed>,
    /// The status with which the guest powered off, where it did.
    pub status: Option<u8>,
    /// How many steps the scenario has.
    pub steps: usize,
    /// How long the guest ran, in nanoseconds.
    pub run_ns: u64,
    /// How much the guest wrote, in bytes.
    pub console_bytes: u64,
    /// The last lines that the guest wrote, control characters escaped.
    #[serde(rename = "console_tail", serialize_with = "tail")]
    pub console: Vec<u8>,
    /// Registers, instruction and backtrace, where the guest did not end by itself.
    pub report: Option<String>,
    /// Exits and calls, by name.
    pub stats: Stats,
    /// Where the guest's log was written, for whoever writes it.
    pub log: Option<String>,
}

/// How a case went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All that was asked for happened.
    Passed,
    /// The guest did something else.
    Failed,
    /// The host could not run it: it says nothing of the guest.
    Error,
    /// It was not run.
    Skipped,
}

/// A failure, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The step, counted from 1; none before the first and after the last.
    pub step: Option<usize>,
    /// Why.
    pub why: Failure,
}

/// Why a case did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The guest did not write what it should.
    #[error("`{pattern}` did not come within {} s", limit.as_secs_f64())]
    Pattern {
        /// What it should have written.
        pattern: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The guest did not read what was typed.
    #[error("the guest's console had no room for {left} bytes within {} s", limit.as_secs_f64())]
    Send {
        /// How many bytes were left.
        left: usize,
        /// How long was waited.
        limit: Duration,
    },
    /// The guest powered off before the last step.
    #[error("the guest ended early{}", status.map_or(String::new(), |status| format!(", with status {status}")))]
    Ended {
        /// Its status.
        status: Option<u8>,
    },
    /// The guest powered off with another status.
    #[error("the guest ended with status {got}, not {wanted}")]
    Status {
        /// What was asked for.
        wanted: u8,
        /// What came.
        got: u8,
    },
    /// The guest could not go on.
    #[error("the guest cannot go on: {0}")]
    Fault(GuestFault),
    /// The scenario's whole time is over.
    #[error("the guest did not end within {} s", limit.as_secs_f64())]
    Timeout {
        /// The time.
        limit: Duration,
    },
    /// The guest wrote too much.
    #[error("the guest wrote more than {limit} bytes")]
    Output {
        /// How much it may write, in bytes.
        limit: usize,
    },
    /// The host could not run it.
    #[error("{0}")]
    Host(String),
    /// A signal ended the run.
    #[error("ended by signal {0}")]
    Signal(i32),
    /// It was not run, and why.
    #[error("{0}")]
    Skipped(String),
}

impl Failure {
    /// Its name for machines.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Pattern { .. } => "pattern",
            Self::Send { .. } => "send",
            Self::Ended { .. } => "ended_early",
            Self::Status { .. } => "status",
            Self::Fault(_) => "fault",
            Self::Timeout { .. } => "timeout",
            Self::Output { .. } => "output",
            Self::Host(_) => "host",
            Self::Signal(_) => "signal",
            Self::Skipped(_) => "skipped",
        }
    }

    const fn verdict(&self) -> Verdict {
        match self {
            Self::Host(_) | Self::Signal(_) => Verdict::Error,
            Self::Skipped(_) => Verdict::Skipped,
            _ => Verdict::Failed,
        }
    }
}

impl Failed {
    /// The failure as a sentence, with its step and without a full stop.
    pub fn sentence(&self) -> String {
        match self.step {
            Some(step) => format!("step {step}: {}", self.why),
            None => self.why.to_string(),
        }
    }
}

impl Serialize for Failed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shape {
            kind: &'static str,
            step: Option<usize>,
            message: String,
        }
        Shape {
            kind: self.why.kind(),
            step: self.step,
            message: self.sentence(),
        }
        .serialize(serializer)
    }
}

impl Case {
    /// A case of which nothing is known yet.
    pub(super) fn begun(scenario: &super::Scenario) -> Self {
        Self {
            name: scenario.name.clone(),
            image: scenario.config.image_name.clone(),
            mode: scenario.config.mode.name(),
            verdict: Verdict::Passed,
            failure: None,
            status: None,
            steps: scenario.steps.len(),
            run_ns: 0,
            console_bytes: 0,
            console: Vec::new(),
            report: None,
            stats: Stats::default(),
            log: None,
        }
    }

    /// The case of a scenario that is not run.
    pub fn skipped(scenario: &super::Scenario, why: impl Into<String>) -> Self {
        let mut case = Self::begun(scenario);
        case.fail(Failed {
            step: None,
            why: Failure::Skipped(why.into()),
        });
        case
    }

    pub(super) fn fail(&mut self, failed: Failed) {
        self.verdict = failed.why.verdict();
        self.failure = Some(failed);
    }

    /// The signal that ended it, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self.failure.as_ref()?.why {
            Failure::Signal(signal) => Some(signal),
            _ => None,
        }
    }

    /// What is known of a failure: the sentence, the guest's report, and the console's last lines.
    /// Every control character but the line feed is escaped. Empty when the case passed.
    pub fn evidence(&self) -> String {
        let Some(failed) = &self.failure else {
            return String::new();
        };
        let mut out = text::visible(failed.sentence().as_bytes()) + "\n";
        if self.verdict == Verdict::Skipped {
            return out;
        }
        if let Some(report) = &self.report {
            out += &text::visible(report.trim_end().as_bytes());
            out.push('\n');
        }
        let tail = text::tail(&self.console, TAIL_LINES);
        if tail.is_empty() {
            out += "the console is empty\n";
        } else {
            out += "the console's last lines:\n";
            for line in tail.lines() {
                out += &format!("  | {line}\n");
            }
        }
        out
    }
}

fn tail<S: Serializer>(console: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text::tail(console, TAIL_LINES))
}
