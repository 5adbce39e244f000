//! The door of ports: which device answers, in the modes that have trapped devices.

use hypercall_abi::layout::{POWER_PORT, UART_PORT};

use crate::error::GuestFault;
use crate::legacy::Uart;
use crate::machine::Machine;

/// The devices behind ports.
#[derive(Debug, Default)]
pub struct Ports {
    uart: Uart,
}

impl Ports {
    /// Write to a port.
    ///
    /// # Errors
    /// [`GuestFault::Port`] where no device is, or of a width that the device does not take.
    pub fn write(
        &mut self,
        machine: &mut Machine,
        port: u16,
        data: &[u8],
    ) -> Result<(), GuestFault> {
        let absent = GuestFault::Port {
            port,
            width: data.len(),
            write: true,
        };
        match (port, data) {
            (UART_PORT..=0x3ff, bytes) if !bytes.is_empty() => {
                // `rep outsb` arrives as many bytes for one port.
                for byte in bytes {
                    self.uart
                        .write((port - UART_PORT) as u8, *byte, &mut machine.console);
                }
                Ok(())
            }
            (POWER_PORT, [status, _, _, _]) => {
                // Already off: the first status stands, and the run ends all the same.
                let _ = machine.power.off(*status);
                Ok(())
            }
            _ => Err(absent),
        }
    }

    /// Read from a port.
    ///
    /// # Errors
    /// [`GuestFault::Port`] where no device is.
    pub fn read(
        &mut self,
        machine: &mut Machine,
        port: u16,
        data: &mut [u8],
    ) -> Result<(), GuestFault> {
        match port {
            UART_PORT..=0x3ff => {
                for byte in data {
                    *byte = self.uart.read((port - UART_PORT) as u8, &machine.console);
                }
                Ok(())
            }
            _ => Err(GuestFault::Port {
                port,
                width: data.len(),
                write: false,
            }),
        }
    }
}
