//! Paravane's virtio devices (virtio 1.2), their transport, and the memory helpers that they share
//! with the hypervisor. Free of KVM: who maps the registers and injects the interrupts calls
//! [`transport::mmio::MmioTransport`].
//!
//! In walking order: [`transport`] (registers, negotiation), [`worker`] (the thread on the data path),
//! [`device`] (what both need of a device), [`queue`] and [`chain`] (the driver's requests, checked),
//! then the devices, a folder each.
#![deny(unsafe_code)]

pub mod balloon;
pub mod blk;
pub mod chain;
pub mod console;
pub mod device;
pub mod memory;
pub mod net;
pub mod queue;
pub mod rate;
#[allow(unsafe_code)]
pub mod raw_io;
pub mod rng;
pub mod transport;
pub mod vhost_user;
pub mod vsock;
pub mod worker;

#[cfg(test)]
mod driver;
#[cfg(test)]
mod echo;

pub use device::{Activation, DataPath, Device, DeviceError, Served};
pub use memory::OutOfRange;
pub use queue::VirtQueue;
pub use transport::{Interrupt, MmioTransport};
