//! Paravane's device models, apart from the transports that carry them, and the memory helpers
//! that they share with the hypervisor's console.
//!
//! [`Device`] is what a transport needs of a device. The devices themselves come with the I/O
//! benchmark; until then a test's device stands in for them.
#![forbid(unsafe_code)]

pub mod device;
pub mod memory;

pub use device::{Device, DeviceError, Queues};
pub use memory::OutOfRange;
