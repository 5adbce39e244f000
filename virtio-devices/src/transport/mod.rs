//! How a driver reaches a device.

pub mod mmio;
