//! Sleeping until something happens.

use super::{SpinLock, hold_interrupts};
use crate::sched::{self, List};

/// Threads that wait for the same thing, first come, first woken.
pub struct WaitQueue {
    waiters: SpinLock<List>,
}

impl WaitQueue {
    /// A queue that nobody waits in.
    pub const fn new() -> Self {
        Self {
            waiters: SpinLock::new(List::new()),
        }
    }

    /// Sleep until the condition yields a value.
    ///
    /// The condition runs with interrupts off, at once and after each wake-up, so what an interrupt
    /// handler brings between the test and the sleep is not missed.
    pub fn wait_until<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        let _held = hold_interrupts();
        loop {
            if let Some(value) = condition() {
                return value;
            }
            sched::wait_in(&self.waiters);
        }
    }

    /// Wake the thread that has waited longest. Interrupt handlers may call this.
    pub fn wake_one(&self) {
        sched::wake_from(&self.waiters, 1);
    }

    /// Wake the thread that has waited longest, and let it run as soon as the interrupt is over:
    /// for the one that works for interrupt handlers.
    pub(crate) fn wake_ahead(&self) {
        sched::wake_ahead(&self.waiters);
    }

    /// Wake every thread that waits. Interrupt handlers may call this.
    pub fn wake_all(&self) {
        sched::wake_from(&self.waiters, usize::MAX);
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

/// A counter of permits: taking one waits until there is one.
pub struct Semaphore {
    permits: SpinLock<usize>,
    queue: WaitQueue,
}

impl Semaphore {
    /// A semaphore that starts with this many permits.
    pub const fn new(permits: usize) -> Self {
        Self {
            permits: SpinLock::new(permits),
            queue: WaitQueue::new(),
        }
    }

    /// Take a permit, or sleep until there is one.
    pub fn acquire(&self) {
        self.queue.wait_until(|| {
            let mut permits = self.permits.lock();
            *permits = permits.checked_sub(1)?;
            Some(())
        });
    }

    /// Add a permit. Interrupt handlers may call this.
    pub fn release(&self) {
        {
            let mut permits = self.permits.lock();
            *permits = permits.saturating_add(1);
        }
        self.queue.wake_one();
    }
}
