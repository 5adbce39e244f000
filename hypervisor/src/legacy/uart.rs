//! The 16550 UART, by `vm-superio`, in front of the console.

use vm_superio::{Serial, Trigger};

use crate::machine::Console;

/// The console's interrupt is raised by whoever adds input, so the UART itself raises none.
#[derive(Clone, Copy, Debug)]
pub struct NoTrigger;

impl Trigger for NoTrigger {
    type E = std::convert::Infallible;

    fn trigger(&self) -> Result<(), Self::E> {
        Ok(())
    }
}

/// A 16550 UART.
#[derive(Debug)]
pub struct Uart(Serial<NoTrigger, vm_superio::serial::NoEvents, Vec<u8>>);

impl Uart {
    /// A UART after reset.
    pub fn new() -> Self {
        Self(Serial::new(NoTrigger, Vec::new()))
    }

    /// Write a register; what is transmitted goes to the console.
    pub fn write(&mut self, register: u8, value: u8, console: &mut Console) {
        // The only errors are the trigger's, which has none, and a full loopback FIFO, whose byte
        // the device drops as hardware does.
        let _ = self.0.write(register, value);
        let sent = std::mem::take(self.0.writer_mut());
        if !sent.is_empty() {
            console.put(&sent);
        }
    }

    /// Read a register; typed input moves into the receive FIFO first.
    pub fn read(&mut self, register: u8, console: &Console) -> u8 {
        let room = self.0.fifo_capacity();
        if room > 0 && !console.input().is_empty() {
            let bytes = console.input().take(room);
            let _ = self.0.enqueue_raw_bytes(&bytes);
        }
        self.0.read(register)
    }
}

impl Default for Uart {
    fn default() -> Self {
        Self::new()
    }
}
