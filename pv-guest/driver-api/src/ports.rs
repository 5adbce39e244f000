//! Registers behind I/O ports, for drivers of the devices that a PC has.

use crate::{Env, EnvError};

/// An environment that has ports.
pub trait PortEnv: Env {
    /// A device's ports.
    type Ports: Ports;

    /// Reach `count` ports from one on.
    ///
    /// # Errors
    /// [`EnvError::NoRoom`] where these ports are not a driver's to use.
    fn ports(&self, first: u16, count: u16) -> Result<Self::Ports, EnvError>;
}

/// Ports of a device, by their offset from the first. Each access may cost an exit.
///
/// # Panics
/// Each access panics outside of the ports: offsets are the driver's own, never a device's word.
pub trait Ports: Send + Sync + 'static {
    /// Read a byte.
    fn read(&self, at: u16) -> u8;
    /// Write a byte.
    fn write(&self, at: u16, value: u8);
    /// Read words from one port, one after the other.
    fn read_words(&self, at: u16, into: &mut [u16]);
    /// Write words to one port, one after the other.
    fn write_words(&self, at: u16, from: &[u16]);
}
