//! Sleeping until something happens, or a moment comes.

use alloc::vec::Vec;

use super::{SpinLock, hold_interrupts};
use crate::sched::{self, ThreadId};
use crate::time;

/// Threads that wait for the same thing, none longer than it wants to.
pub struct TimedQueue {
    waiters: SpinLock<Vec<ThreadId>>,
}

impl TimedQueue {
    /// A queue that nobody waits in.
    pub const fn new() -> Self {
        Self {
            waiters: SpinLock::new(Vec::new()),
        }
    }

    /// Sleep until the condition yields a value, or until a moment by [`time::now_ns`]
    /// ([`sched::NEVER`]: however long it takes); `None` when that has come, and there is no value.
    ///
    /// The condition runs with interrupts off, at once and after each wake-up, so what an interrupt
    /// handler brings between the test and the sleep is not missed.
    pub fn wait_until<T>(
        &self,
        deadline_ns: u64,
        mut condition: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let _held = hold_interrupts();
        loop {
            if let Some(value) = condition() {
                return Some(value);
            }
            if deadline_ns != sched::NEVER && time::now_ns() >= deadline_ns {
                return None;
            }
            let me = sched::current();
            self.waiters.lock().push(me);
            sched::sleep_until(deadline_ns);
            // Who was woken by the clock is still there.
            self.waiters.lock().retain(|id| *id != me);
        }
    }

    /// Wake every thread that waits. Interrupt handlers may call this.
    pub fn wake_all(&self) {
        // The list keeps its memory, so that nothing is freed in an interrupt.
        self.waiters.lock().drain(..).for_each(|id| {
            sched::rouse(id);
        });
    }
}

impl Default for TimedQueue {
    fn default() -> Self {
        Self::new()
    }
}
