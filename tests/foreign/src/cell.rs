//! State of a kernel that runs on one processor.

use core::cell::RefCell;

/// A value that one borrower at a time may change; a second one panics.
pub struct OneCpu<T>(RefCell<T>);

// SAFETY: there is one processor. A handler that interrupts a borrower finds the flag of the
// `RefCell` raised and panics, which ends the machine.
unsafe impl<T> Sync for OneCpu<T> {}

impl<T> OneCpu<T> {
    /// A value.
    pub const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// Use the value.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }
}
