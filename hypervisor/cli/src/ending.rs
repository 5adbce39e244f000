//! Ends a command before its time: a signal, Ctrl-C, the time limit. A run is asked to end, so that
//! it can still report; if it cannot (its output is blocked), the process ends without it.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hypervisor::{Stop, StopReason};

use crate::status::{self, Failure};
use crate::{output, terminal};

/// How long a run has to end and to report. On a busy host, or an emulated one, a second is not enough.
const GRACE: Duration = Duration::from_secs(3);

/// The way to end the command; clones end the same one.
#[derive(Clone, Debug, Default)]
pub struct Ending(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The run there is to end.
    run: Option<Stop>,
    /// Why everything ends, once it does.
    reason: Option<StopReason>,
}

impl Ending {
    /// From now on there is this run to end; at once, if the end was asked for during another.
    pub fn of_run(&self, stop: Stop) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.run = Some(stop.clone());
        let reason = state.reason;
        drop(state);
        if let Some(reason) = reason {
            stop.stop(reason);
        }
    }

    /// End on a signal.
    pub fn on_signal(&self, signal: i32) {
        self.end(StopReason::Signal(signal));
    }

    /// End for this reason.
    pub fn end(&self, reason: StopReason) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.reason.get_or_insert(reason);
        let run = state.run.clone();
        drop(state);
        let Some(stop) = run else {
            leave(reason, "");
        };
        let last_resort = thread::Builder::new()
            .name("last resort".into())
            .spawn(move || {
                thread::sleep(GRACE);
                leave(reason, " before it could report: is its output blocked?");
            });
        if last_resort.is_err() {
            leave(reason, "");
        }
        stop.stop(reason);
    }
}

/// End the process now.
fn leave(reason: StopReason, how: &str) -> ! {
    terminal::restore_now();
    output::say(&format!("{}{how}", status::stop_sentence(reason)));
    std::process::exit(i32::from(status::stopped(reason)));
}

/// Ends a run after a time, unless it is dropped before.
#[must_use = "dropping it ends the watch"]
pub struct TimeLimit {
    ended: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TimeLimit {
    /// End `ending` in `limit` from now; never without one.
    pub fn start(limit: Option<Duration>, ending: &Ending) -> Result<Self, Failure> {
        let Some(limit) = limit else {
            return Ok(Self {
                ended: None,
                thread: None,
            });
        };
        let (ended, wait) = mpsc::channel();
        let ending = ending.clone();
        let watch = move || {
            if wait.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                ending.end(StopReason::Timeout);
            }
        };
        let thread = thread::Builder::new()
            .name("time limit".into())
            .spawn(watch);
        let thread =
            thread.map_err(|error| Failure::host(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            ended: Some(ended),
            thread: Some(thread),
        })
    }
}

impl Drop for TimeLimit {
    fn drop(&mut self) {
        self.ended = None;
        if let Some(thread) = self.thread.take() {
            // It ends by itself; a panic in it ended the process already.
            let _ = thread.join();
        }
    }
}
