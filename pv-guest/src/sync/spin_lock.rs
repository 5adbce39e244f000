//! A spin lock that also keeps interrupt handlers out.

use core::ops::{Deref, DerefMut};

use spin::mutex::{SpinMutex, SpinMutexGuard};

use super::irq::{Held, hold_interrupts};

/// How often to try. Interrupts are off while one waits, so on one processor a lock that is taken
/// stays taken: better a report than a hang.
const SPIN_LIMIT: u32 = 1 << 24;

/// Data that one context uses at a time, with interrupts off meanwhile.
///
/// The holder must not sleep, yield or wait.
#[derive(Debug)]
pub struct SpinLock<T: ?Sized> {
    inner: SpinMutex<T>,
}

impl<T> SpinLock<T> {
    /// A lock around a value.
    pub const fn new(value: T) -> Self {
        Self {
            inner: SpinMutex::new(value),
        }
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Turn interrupts off and take the lock.
    ///
    /// # Panics
    /// When this very context holds the lock already.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        let _held = hold_interrupts();
        let inner = match self.inner.try_lock() {
            Some(inner) => inner,
            None => self.wait(),
        };
        Guard { inner, _held }
    }

    #[cold]
    #[inline(never)]
    fn wait(&self) -> SpinMutexGuard<'_, T> {
        for _ in 0..SPIN_LIMIT {
            if let Some(inner) = self.inner.try_lock() {
                return inner;
            }
            core::hint::spin_loop();
        }
        panic!("a spin lock waits for its own holder");
    }

    /// Turn interrupts off and take the lock, unless somebody holds it: for reports.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let _held = hold_interrupts();
        let inner = self.inner.try_lock()?;
        Some(Guard { inner, _held })
    }
}

/// The right to use what a [`SpinLock`] guards.
pub struct Guard<'a, T: ?Sized> {
    // Fields drop in this order: first the lock opens, then interrupts come in.
    inner: SpinMutexGuard<'a, T>,
    _held: Held,
}

impl<T: ?Sized> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks;

    #[test]
    fn interrupts_are_off_while_a_lock_is_held() {
        let lock = SpinLock::new(1);
        hooks::irq_enable();
        {
            let mut guard = lock.lock();
            *guard += 1;
            assert!(!hooks::irq_is_enabled());
        }
        assert!(hooks::irq_is_enabled());
        assert_eq!(*lock.lock(), 2);
    }
}
