//! Paravane's virtio devices (virtio 1.2), apart from KVM and from where they are in guest memory.
//!
//! In walking order: `transport` is how a driver reaches a device; `device` is what a transport needs of one;
//! `worker` is the thread that looks at queues; `lines` are interrupts; `queue` and `chain` are requests;
//! `blk` and `rng` are the devices; `memory` copies guest memory, for the hypervisor's console too.
#![forbid(unsafe_code)]

pub mod blk;
pub mod chain;
pub mod device;
#[cfg(test)]
mod driver;
mod lines;
pub mod memory;
pub mod queue;
pub mod rng;
pub mod transport;
mod worker;

pub use device::{Device, DeviceError, Queues};
pub use memory::OutOfRange;

/// VIRTIO_F_INDIRECT_DESC (6): a descriptor may lead to a table of others.
pub const INDIRECT_DESC: u64 = 1 << 28;
/// VIRTIO_F_EVENT_IDX (6): each side says after which entry it wants to hear of more.
pub const EVENT_IDX: u64 = 1 << 29;
