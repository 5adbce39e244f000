//! The driver of virtio disks (virtio 1.3, 5.2): a [`BlockDevice`] on any [`driver_api::Env`].
//!
//! `disk.rs` is the device's life and its interrupt, `lane.rs` one queue with its requests,
//! `request.rs` what a request looks like to the device, `wire.rs` the numbers.
//!
//! No exit on the data path: an interrupt is handled by looking at the used rings alone.
//! InterruptStatus is read, and acknowledged, only when no queue has anything new (`disk.rs`).
//!
//! [`BlockDevice`]: driver_api::BlockDevice
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod disk;
mod lane;
mod request;
mod wire;

pub use disk::Disk;
pub use wire::FEATURES;

#[cfg(test)]
mod tests;
