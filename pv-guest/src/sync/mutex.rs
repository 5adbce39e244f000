//! A lock for work that may be long: who finds it taken sleeps. Interrupts stay on.

use core::ops::{Deref, DerefMut};

use spin::mutex::{SpinMutex, SpinMutexGuard};

use super::WaitQueue;

/// Data that one thread uses at a time. The holder may sleep; interrupt handlers must not take it.
pub struct Mutex<T> {
    inner: SpinMutex<T>,
    waiters: WaitQueue,
}

impl<T> Mutex<T> {
    /// A lock around a value.
    pub const fn new(value: T) -> Self {
        Self {
            inner: SpinMutex::new(value),
            waiters: WaitQueue::new(),
        }
    }

    /// Take the lock, sleeping as long as somebody else holds it. The holder itself would sleep for
    /// good.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let inner = self.waiters.wait_until(|| self.inner.try_lock());
        MutexGuard {
            inner: Some(inner),
            waiters: &self.waiters,
        }
    }
}

/// The right to use what a [`Mutex`] guards.
pub struct MutexGuard<'a, T> {
    /// `None` only while this is dropped.
    inner: Option<SpinMutexGuard<'a, T>>,
    waiters: &'a WaitQueue,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match &self.inner {
            Some(inner) => inner,
            None => unreachable!("a lock is used that was given back"),
        }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.inner {
            Some(inner) => inner,
            None => unreachable!("a lock is used that was given back"),
        }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        // Open first: who wakes finds it so.
        self.inner = None;
        self.waiters.wake_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks;

    #[test]
    fn interrupts_stay_on_while_it_is_held_and_it_opens_again() {
        let mutex = Mutex::new(1);
        hooks::irq_enable();
        {
            let mut guard = mutex.lock();
            *guard += 1;
            assert!(hooks::irq_is_enabled());
            assert!(mutex.inner.try_lock().is_none());
        }
        assert_eq!(*mutex.lock(), 2);
    }
}
