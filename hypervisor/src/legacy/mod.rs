//! The trapped devices: those of a PC, an exit for each register access.
//!
//! Every native guest has the UART. With [`IoKind::Trapped`](crate::IoKind) a machine has a board (`board`):
//! an I/O APIC, a timer, a clock and the line that resets it; its disks are ATA drives, and its networks have
//! NE2000 cards. In mode `pv` the kernel reaches their ports by calls (`machine/port.rs`). Called by the verbs
//! of ports, and by vcpu for registers in memory.
//!
//! ```text
//! port or memory access -> `Legacy` -> `Board` -> the device's model
//!                                              -> its line -> `lines` -> `ioapic` -> a message to a local APIC
//! ```
//!
//! The guest's command line names them: `ioapic=0xfec00000`, `pit=0x40,0`, `rtc=0x70,8`, `i8042=0x64`,
//! `ata=0x1f0,0x3f6,14` with the two blocks of ports and the pin of a channel, `ne2000=0x300,10` with the first
//! port and the pin of a card. There is no 8259 PIC (decision 0016).

mod ata;
mod board;
mod clocks;
mod i8042;
mod ioapic;
mod lines;
mod ne2000;
mod thread;
mod uart;

use std::ops::Range;
use std::sync::Arc;

use hypercall_abi::layout::UART_PORT;
use kvm_ioctls::VmFd;

pub use ata::{Channel, SECTOR, Sectors};
pub use clocks::{Pit, Rtc};
pub use i8042::I8042;
pub use ioapic::{IoApic, Message};
pub use ne2000::{Ne2000, Sent};
pub use uart::Uart;

use crate::config::IoKind;
use crate::error::HostError;
use crate::io::{Device, Route};
use crate::machine::Console;
use board::Board;
use lines::Lines;

/// The trapped devices of a machine.
#[derive(Debug, Default)]
pub struct Legacy {
    uart: Uart,
    board: Option<Board>,
}

/// Whether a device has a trapped counterpart.
pub fn is_trapped(io: IoKind, device: &Device) -> bool {
    io == IoKind::Trapped && matches!(device, Device::Disk(_) | Device::Net(_))
}

impl Legacy {
    /// The devices of a machine with trapped I/O. `others` are the routes of its other devices.
    ///
    /// # Errors
    /// [`HostError::Device`], with the device's name and the mend; [`HostError::Devices`] for too many.
    pub fn attach(fd: &Arc<VmFd>, devices: &[Device], others: &[Route]) -> Result<Self, HostError> {
        Ok(Self {
            uart: Uart::default(),
            board: Some(Board::new(fd, devices, others)?),
        })
    }

    /// What the guest's command line says of them; empty without a board.
    pub fn command_line(&self) -> String {
        self.board
            .as_ref()
            .map(Board::command_line)
            .unwrap_or_default()
    }

    /// Guest-physical: the registers that are in memory.
    pub fn memory(&self) -> Range<u64> {
        match self.board {
            Some(_) => ioapic::REGISTERS,
            None => 0..0,
        }
    }

    /// Write to a port; false where no device is. `rep outsb` and its like arrive as many bytes for one port.
    pub fn write_port(&mut self, port: u16, from: &[u8], console: &mut Console) -> bool {
        if let Some(register) = uart_register(port) {
            for byte in from {
                self.uart.write(register, *byte, console);
            }
            return true;
        }
        self.board
            .as_mut()
            .is_some_and(|board| board.write_port(port, from))
    }

    /// Read from a port likewise.
    pub fn read_port(&mut self, port: u16, into: &mut [u8], console: &Console) -> bool {
        if let Some(register) = uart_register(port) {
            for byte in into {
                *byte = self.uart.read(register, console);
            }
            return true;
        }
        self.board
            .as_mut()
            .is_some_and(|board| board.read_port(port, into))
    }

    /// Read registers in memory; false where none are.
    pub fn read(&self, at: u64, into: &mut [u8]) -> bool {
        let Some((lines, offset)) = self.at(at) else {
            return false;
        };
        lines.read(offset, into);
        true
    }

    /// Write registers in memory likewise.
    ///
    /// # Errors
    /// [`HostError::Kvm`].
    pub fn write(&self, at: u64, from: &[u8]) -> Result<bool, HostError> {
        let Some((lines, offset)) = self.at(at) else {
            return Ok(false);
        };
        lines.write(offset, from).map(|()| true)
    }

    /// A local APIC has ended a level-triggered interrupt.
    pub fn end_of_interrupt(&self, vector: u8) {
        if let Some(board) = &self.board {
            board.lines().end(vector);
        }
    }

    /// Whether the guest wants the processor reset.
    pub fn resets(&self) -> bool {
        self.board.as_ref().is_some_and(Board::resets)
    }

    fn at(&self, at: u64) -> Option<(&Lines, u64)> {
        let board = self
            .board
            .as_ref()
            .filter(|_| ioapic::REGISTERS.contains(&at))?;
        Some((board.lines(), at - ioapic::REGISTERS.start))
    }
}

/// The UART's register behind a port.
fn uart_register(port: u16) -> Option<u8> {
    let offset = port.checked_sub(UART_PORT)?;
    u8::try_from(offset).ok().filter(|register| *register < 8)
}
