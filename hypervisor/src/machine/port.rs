//! Ports: where an access leads, whichever door it came by.

use hypercall_abi::layout::POWER_PORT;
use hypercall_abi::table::port;
use hypercall_abi::{CallError, GuestMemory, GuestPtr};

use super::Machine;

/// Bytes that one call moves to or from a port at most: a page.
const MOST: usize = 4096;

impl Machine {
    /// Write to a port; false where no device is, or of a width that the device does not take.
    pub fn write_port(&mut self, port: u16, from: &[u8]) -> bool {
        match (port, from) {
            (_, []) => false,
            (POWER_PORT, [status, _, _, _]) => {
                // Already off: the first status stands, and the run ends all the same.
                let _ = self.power.off(*status);
                true
            }
            _ => {
                let is_there = self.legacy.write_port(port, from, &mut self.console);
                if self.legacy.resets() {
                    self.power.reset();
                }
                is_there
            }
        }
    }

    /// Read from a port; false where no device is.
    pub fn read_port(&mut self, port: u16, into: &mut [u8]) -> bool {
        self.legacy.read_port(port, into, &self.console)
    }
}

/// The width of an access, in bytes.
fn width(width: u8) -> Result<usize, CallError> {
    match width {
        1 | 2 | 4 => Ok(width.into()),
        _ => Err(CallError::BadArgument),
    }
}

/// The bytes of a string of accesses.
fn string(each: u8, count: u32) -> Result<usize, CallError> {
    let bytes = usize::try_from(count)
        .ok()
        .and_then(|count| count.checked_mul(width(each).ok()?));
    bytes
        .filter(|bytes| (1..=MOST).contains(bytes))
        .ok_or(CallError::BadArgument)
}

fn there(is_there: bool) -> Result<(), CallError> {
    is_there.then_some(()).ok_or(CallError::BadArgument)
}

impl port::Host for Machine {
    fn port_read(&mut self, _: &dyn GuestMemory, port: u16, each: u8) -> Result<u64, CallError> {
        let mut bytes = [0; 8];
        let into = bytes.get_mut(..width(each)?).unwrap_or_default();
        there(self.read_port(port, into))?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn port_write(
        &mut self,
        _: &dyn GuestMemory,
        port: u16,
        each: u8,
        value: u32,
    ) -> Result<(), CallError> {
        let bytes = value.to_le_bytes();
        let from = bytes.get(..width(each)?).unwrap_or_default();
        there(self.write_port(port, from))
    }

    fn port_read_string(
        &mut self,
        memory: &dyn GuestMemory,
        port: u16,
        each: u8,
        into: GuestPtr<u8>,
        count: u32,
    ) -> Result<(), CallError> {
        let mut bytes = [0; MOST];
        let bytes = bytes.get_mut(..string(each, count)?).unwrap_or_default();
        // The device must not lose what memory cannot take.
        memory.read(into.0, bytes)?;
        there(self.read_port(port, bytes))?;
        memory.write(into.0, bytes)
    }

    fn port_write_string(
        &mut self,
        memory: &dyn GuestMemory,
        port: u16,
        each: u8,
        from: GuestPtr<u8>,
        count: u32,
    ) -> Result<(), CallError> {
        let mut bytes = [0; MOST];
        let bytes = bytes.get_mut(..string(each, count)?).unwrap_or_default();
        memory.read(from.0, bytes)?;
        there(self.write_port(port, bytes))
    }
}
