//! Drivers of what every PC's board has, on any [`driver_api::PortEnv`]: the interval timer (`timer.rs`), the
//! clock (`clock.rs`), and the line that resets the processor (`reset.rs`).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod clock;
mod reset;
mod timer;

pub use clock::{Clock, Date};
pub use reset::Controller;
pub use timer::Timer;

use core::fmt;

use driver_api::EnvError;

/// Why a device of the board cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoardError {
    /// What is at these ports is not the device.
    NoDevice,
    /// The device cannot be asked for that.
    OutOfRange,
    /// The device does not become ready.
    Busy,
    /// The environment refused something.
    Env(EnvError),
}

impl fmt::Display for BoardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str("the device is not there"),
            Self::OutOfRange => f.write_str("the device cannot do that"),
            Self::Busy => f.write_str("the device does not become ready"),
            Self::Env(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for BoardError {}

impl From<EnvError> for BoardError {
    fn from(error: EnvError) -> Self {
        Self::Env(error)
    }
}
