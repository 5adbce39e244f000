//! Keeps interrupts off for a while, and puts the flag back.

use core::marker::PhantomData;

use crate::hooks;

/// Interrupts are off until this is dropped; then they are as they were.
///
/// Drop it after whatever was taken later, as scopes do by themselves.
#[derive(Debug)]
pub struct Held {
    was_enabled: bool,
    /// The flag belongs to the thread that saved it.
    _not_send: PhantomData<*mut ()>,
}

/// Turn interrupts off for as long as the result lives.
#[must_use = "interrupts come back when this is dropped"]
pub fn hold_interrupts() -> Held {
    let was_enabled = hooks::irq_is_enabled();
    if was_enabled {
        hooks::irq_disable();
    }
    Held {
        was_enabled,
        _not_send: PhantomData,
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.was_enabled {
            hooks::irq_enable();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_holder_lets_interrupts_in() {
        hooks::irq_enable();
        let outer = hold_interrupts();
        assert!(!hooks::irq_is_enabled());
        drop(hold_interrupts());
        assert!(!hooks::irq_is_enabled());
        drop(outer);
        assert!(hooks::irq_is_enabled());
    }
}
