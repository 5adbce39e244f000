//! The door of ports: IN and OUT that left the virtual machine. What they do is `machine`'s.

use crate::error::GuestFault;
use crate::machine::Machine;

/// Write to a port.
///
/// # Errors
/// [`GuestFault::Port`] where no device is, or of a width that the device does not take.
pub fn write(machine: &mut Machine, port: u16, data: &[u8]) -> Result<(), GuestFault> {
    match machine.write_port(port, data) {
        true => Ok(()),
        false => Err(absent(port, data.len(), true)),
    }
}

/// Read from a port.
///
/// # Errors
/// [`GuestFault::Port`] where no device is.
pub fn read(machine: &mut Machine, port: u16, data: &mut [u8]) -> Result<(), GuestFault> {
    match machine.read_port(port, data) {
        true => Ok(()),
        false => Err(absent(port, data.len(), false)),
    }
}

fn absent(port: u16, width: usize, write: bool) -> GuestFault {
    GuestFault::Port { port, width, write }
}
