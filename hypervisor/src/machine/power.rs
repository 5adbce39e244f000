//! The power switch.

use hypercall_abi::table::power;
use hypercall_abi::{CallError, GuestMemory};

use super::Machine;

/// Whether the machine is on, and the status it went off with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Power {
    off: Option<u8>,
    is_reset: bool,
}

impl Power {
    /// Switch off with an exit status.
    ///
    /// # Errors
    /// [`CallError::NotNow`] when it is off already: the first status stands.
    pub fn off(&mut self, status: u8) -> Result<(), CallError> {
        match self.off {
            None => {
                self.off = Some(status);
                Ok(())
            }
            Some(_) => Err(CallError::NotNow),
        }
    }

    /// Reset the machine. There is no firmware to begin again with, so it goes off, with status 0; whoever
    /// runs it may build another. Once it is off, nothing happens.
    pub fn reset(&mut self) {
        if self.off.is_none() {
            (self.off, self.is_reset) = (Some(0), true);
        }
    }

    /// Whether it went off because it was reset.
    pub fn is_reset(&self) -> bool {
        self.is_reset
    }

    /// The exit status, once the machine is off.
    pub fn status(&self) -> Option<u8> {
        self.off
    }
}

impl power::Host for Machine {
    fn power_off(&mut self, _: &dyn GuestMemory, status: u8) -> Result<(), CallError> {
        self.power.off(status)
    }
}
