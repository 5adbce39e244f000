//! The driver of ATA disks in PIO mode (ATA/ATAPI-6, T13 1410D): a [`BlockDevice`] a drive, on any
//! [`driver_api::PortEnv`].
//!
//! `channel.rs` is the channel's life and its interrupt: one command at a time, whichever drive it is for.
//! `registers.rs` are the ports, `task.rs` a request on its way, `identify.rs` what a drive says of itself,
//! `disk.rs` a drive as its clients see it, `wire.rs` the numbers.
//!
//! The top half reads the status, which acknowledges the interrupt; the bottom half moves the data. Polled is
//! what has no interrupt: the setup, and the first block of a write.
//!
//! [`BlockDevice`]: driver_api::BlockDevice
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod channel;
mod disk;
mod error;
mod identify;
mod registers;
mod task;
mod wire;

pub use channel::Channel;
pub use disk::Disk;
pub use error::AtaError;
pub use identify::Identity;
pub use wire::{COMMAND_PORTS, CONTROL_PORTS};
