//! What virtio drivers share: [`Transport`] (registers over MMIO), [`Queue`] (split virtqueues), and
//! the numbers of both ([`wire`]). Drivers of one device each use it; it never knows a device.
//!
//! Written against virtio 1.3, its modern interface alone. The crate `virtio-drivers` was weighed
//! and does not serve (`docs/decisions`, 0015): its queue is `unsafe` to use, loses notifications
//! with EVENT_IDX when several requests are under way, and panics at wrong answers of a device.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "fake"))]
extern crate std;

mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod queue;
mod transport;
pub mod wire;

pub use error::{QueueError, VirtioError};
pub use queue::{MAX_SEGMENTS, Queue, Segment, Used};
pub use transport::Transport;

#[cfg(test)]
mod tests;
