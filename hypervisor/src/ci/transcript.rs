//! What the guest has written so far, for whoever waits for it.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::pattern::Search;

/// The guest's console output; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Transcript(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    limit: usize,
    has_overflowed: bool,
    has_ended: bool,
}

/// How waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The match ends at this byte.
    Found(usize),
    /// The guest has ended, and everything it wrote was looked at.
    Ended,
    /// The guest wrote more than it may.
    Overflowed,
    /// The time is up.
    Late,
}

impl Transcript {
    pub(super) fn new(limit: usize) -> Self {
        let transcript = Self::default();
        transcript.lock().limit = limit;
        transcript
    }

    /// Nothing comes any more.
    pub(super) fn end(&self) {
        self.lock().has_ended = true;
        self.0.changed.notify_all();
    }

    /// All that was written, up to the limit.
    pub(super) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().bytes)
    }

    /// Wait until the search finds something.
    pub(super) fn wait_for(&self, search: &mut Search<'_>, deadline: Instant) -> Wait {
        self.wait(deadline, |bytes| search.advance(bytes))
    }

    /// Wait until the guest ends.
    pub(super) fn wait_end(&self, deadline: Instant) -> Wait {
        self.wait(deadline, |_| None)
    }

    /// How things stand now.
    pub(super) fn now(&self) -> Wait {
        self.wait_end(Instant::now())
    }

    fn wait(&self, deadline: Instant, mut find: impl FnMut(&[u8]) -> Option<usize>) -> Wait {
        let mut state = self.lock();
        loop {
            if let Some(end) = find(&state.bytes) {
                return Wait::Found(end);
            }
            if state.has_overflowed {
                return Wait::Overflowed;
            }
            if state.has_ended {
                return Wait::Ended;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Wait::Late;
            }
            state = match self.0.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Transcript {
    /// Takes everything: what is above the limit is dropped, and remembered as an overflow.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        let room = state.limit.saturating_sub(state.bytes.len());
        let kept = bytes.get(..room).unwrap_or(bytes);
        state.has_overflowed |= kept.len() < bytes.len();
        state.bytes.extend_from_slice(kept);
        drop(state);
        self.0.changed.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
