//! Where ports lead, and the model-specific registers that are not the processor's own.

use crate::doors::port;
use crate::error::GuestFault;
use crate::machine::Machine;
use crate::trace::Trace;

/// What IN, OUT, RDMSR and WRMSR reach outside of the processor.
pub trait PortBus {
    /// Read `width` bytes, 1, 2 or 4, from a port; the upper bytes of the answer are 0.
    ///
    /// # Errors
    /// A fault that ends the guest: nothing answers there.
    fn read(&mut self, port: u16, width: u8) -> Result<u32, GuestFault>;

    /// Write the low `width` bytes, 1, 2 or 4, of `value` to a port.
    ///
    /// # Errors
    /// A fault that ends the guest: nothing answers there.
    fn write(&mut self, port: u16, width: u8, value: u32) -> Result<(), GuestFault>;

    /// Read a model-specific register of the clock, the local APIC and the like; `None` if there is
    /// none of this number.
    fn read_msr(&mut self, number: u32) -> Option<u64> {
        let _ = number;
        None
    }

    /// Write a model-specific register; false if there is none of this number, or not this value.
    fn write_msr(&mut self, number: u32, value: u64) -> bool {
        let _ = (number, value);
        false
    }
}

/// The trapped devices of a machine.
#[derive(Debug)]
pub struct Devices<'a> {
    /// Whose they are.
    pub machine: &'a mut Machine,
    /// Gets a line of each access.
    pub trace: Option<&'a mut Trace>,
}

impl PortBus for Devices<'_> {
    fn read(&mut self, at: u16, width: u8) -> Result<u32, GuestFault> {
        let mut bytes = [0; 4];
        let into = bytes.get_mut(..usize::from(width)).unwrap_or_default();
        let answer = port::read(self.machine, at, into);
        if let Some(trace) = &mut self.trace {
            trace.event(format_args!("in {at:#x} {into:x?}"));
        }
        answer?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn write(&mut self, at: u16, width: u8, value: u32) -> Result<(), GuestFault> {
        let bytes = value.to_le_bytes();
        let from = bytes.get(..usize::from(width)).unwrap_or_default();
        if let Some(trace) = &mut self.trace {
            trace.event(format_args!("out {at:#x} {from:x?}"));
        }
        port::write(self.machine, at, from)
    }
}
