//! The trapped devices: an exit for each register access.

mod uart;

pub use uart::Uart;
