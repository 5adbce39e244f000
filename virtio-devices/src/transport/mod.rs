//! How a driver reaches a device: registers, negotiation, interrupts. Free of KVM and of devices.

pub mod mmio;
mod setup;
pub(crate) mod shared;

pub use mmio::MmioTransport;
pub use shared::Counts;

/// The line from a device to the guest: an irqfd, or whatever a VMM has.
pub trait Interrupt: Send + Sync {
    /// Interrupt the guest. The interrupt status says why, and is set before this is called.
    ///
    /// Called from workers' threads. It must not wait for a vCPU: one that resets the device waits for
    /// the worker.
    fn signal(&self);
}
