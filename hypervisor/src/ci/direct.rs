//! Leads a running guest through the steps of its scenario, and then ends it.

use std::thread;
use std::time::{Duration, Instant};

use super::case::{Failed, Failure};
use super::scenario::{Action, Scenario};
use super::transcript::{Transcript, Wait};
use crate::stop::{Stop, StopReason};
use crate::vm::Keyboard;

/// How long to wait while the guest's console has no room.
const FULL_WAIT: Duration = Duration::from_millis(5);

/// What it takes to lead a guest.
pub(super) struct Director<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) transcript: &'a Transcript,
    pub(super) keyboard: Keyboard,
    pub(super) stop: Stop,
}

/// A moment to be done by, and whose it is.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    limit: Duration,
    is_whole: bool,
}

impl Director<'_> {
    /// Do the steps. The guest has ended, or is told to, when this returns.
    pub(super) fn direct(self) -> Result<(), Failed> {
        // Whatever happens here, the guest's thread must not wait for ever.
        let _ended = StopOnDrop(&self.stop);
        let whole = Deadline {
            at: after(Instant::now(), self.scenario.timeout),
            limit: self.scenario.timeout,
            is_whole: true,
        };
        let mut from = 0;
        for (index, step) in self.scenario.steps.iter().enumerate() {
            let limit = step.timeout.unwrap_or(self.scenario.step_timeout);
            let own = Deadline {
                at: after(Instant::now(), limit),
                limit,
                is_whole: false,
            };
            let deadline = if own.at < whole.at { own } else { whole };
            let done = match &step.action {
                Action::Expect(pattern) => {
                    match self
                        .transcript
                        .wait_for(&mut pattern.search(from), deadline.at)
                    {
                        Wait::Found(end) => {
                            from = end;
                            Ok(())
                        }
                        other => Err(self.failure(other, deadline, || Failure::Pattern {
                            pattern: pattern.to_string(),
                            limit: deadline.limit,
                        })),
                    }
                }
                Action::Send(text) => self.send(text, deadline),
            };
            done.map_err(|why| Failed {
                step: Some(index + 1),
                why,
            })?;
        }
        if self.scenario.status.is_some() {
            match self.transcript.wait_end(whole.at) {
                Wait::Ended | Wait::Found(_) => {}
                other => {
                    let why =
                        self.failure(other, whole, || Failure::Timeout { limit: whole.limit });
                    return Err(Failed { step: None, why });
                }
            }
        }
        Ok(())
    }

    fn send(&self, text: &[u8], deadline: Deadline) -> Result<(), Failure> {
        let mut rest = text;
        loop {
            match self.transcript.now() {
                Wait::Late => {}
                other => {
                    return Err(self.failure(other, deadline, || Failure::Ended { status: None }));
                }
            }
            let taken = self.keyboard.type_bytes(rest);
            rest = rest.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline.at {
                let left = rest.len();
                return Err(self.failure(Wait::Late, deadline, || Failure::Send {
                    left,
                    limit: deadline.limit,
                }));
            }
            thread::sleep(FULL_WAIT);
        }
    }

    /// Why waiting failed; `late` says what a step's own time was for.
    fn failure(&self, wait: Wait, deadline: Deadline, late: impl FnOnce() -> Failure) -> Failure {
        match wait {
            Wait::Overflowed => Failure::Output {
                limit: self.scenario.output_limit,
            },
            Wait::Ended | Wait::Found(_) => Failure::Ended { status: None },
            Wait::Late if deadline.is_whole => Failure::Timeout {
                limit: deadline.limit,
            },
            Wait::Late => late(),
        }
    }
}

/// A moment that much later; in thirty years where the clock cannot count so far.
fn after(start: Instant, limit: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(1_000_000_000);
    start.checked_add(limit.min(FAR)).unwrap_or(start)
}

/// Ends the guest. The reason is told to nobody: the case has its own.
struct StopOnDrop<'a>(&'a Stop);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop(StopReason::Timeout);
    }
}
