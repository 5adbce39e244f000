//! The trapped devices: those of a PC, an exit for each register access.
//!
//! Every native guest has the UART. With [`IoKind::Trapped`](crate::IoKind) a machine has an I/O APIC, its
//! disks are ATA drives, and its networks have NE2000 cards; in mode `pv` the kernel reaches their ports by
//! calls (`machine/port.rs`). Called
//! by the verbs of ports, and by vcpu for registers in memory. What a device does with an access is in its
//! own file; which port and which pin it has is here.
//!
//! ```text
//! port or memory access -> `Legacy` -> the device's model
//!                                   -> its line -> `lines` -> `ioapic` -> a message to a local APIC
//! ```
//!
//! The guest's command line names them: `ioapic=0xfec00000`, `ata=0x1f0,0x3f6,14` with the two blocks of ports
//! and the pin of a channel, `ne2000=0x300,10` with the first port and the pin of a card. There is no 8259 PIC
//! (decision 0016).

mod ata;
mod ioapic;
mod lines;
mod ne2000;
mod thread;
mod uart;

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use hypercall_abi::layout::UART_PORT;
use kvm_ioctls::VmFd;

pub use ata::{Channel, SECTOR, Sectors};
pub use ioapic::{IoApic, Message};
pub use ne2000::{Ne2000, Sent};
pub use uart::Uart;

use crate::config::IoKind;
use crate::error::HostError;
use crate::io::{DEFAULT_MTU, Device, Disk, Net, Route};
use crate::machine::Console;
use ata::FileSectors;
use lines::Lines;
use ne2000::Card;

/// Where the channels of ATA drives are, as in every PC since the AT: command block, control block, pin.
const CHANNELS: [(u16, u16, usize); 2] = [(0x1f0, 0x3f6, 14), (0x170, 0x376, 15)];
/// Drives of a channel.
const DRIVES: usize = 2;
/// Where network cards are, by the first port and the pin: jumpers of the time.
const CARDS: [(u16, usize); 2] = [(0x300, 10), (0x320, 11)];

/// The trapped devices of a machine.
#[derive(Debug, Default)]
pub struct Legacy {
    uart: Uart,
    board: Option<Board>,
}

/// What a machine with trapped I/O has.
#[derive(Debug)]
struct Board {
    lines: Lines,
    channels: Vec<Cable>,
    cards: Vec<(u16, Card)>,
}

/// A channel in its place.
#[derive(Debug)]
struct Cable {
    command: u16,
    control: u16,
    pin: usize,
    channel: Channel,
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
        let lines = Lines::new(Arc::clone(fd), others.to_vec());
        let disks = devices.iter().filter_map(|device| match device {
            Device::Disk(disk) => Some(disk),
            _ => None,
        });
        let nets = devices.iter().filter_map(|device| match device {
            Device::Net(net) => Some(net),
            _ => None,
        });
        let board = Board {
            channels: channels(&disks.collect::<Vec<_>>())?,
            cards: cards(&nets.collect::<Vec<_>>(), &lines)?,
            lines,
        };
        Ok(Self {
            uart: Uart::default(),
            board: Some(board),
        })
    }

    /// What the guest's command line says of them; empty without a board.
    pub fn command_line(&self) -> String {
        let Some(board) = &self.board else {
            return String::new();
        };
        let mut words = format!(" ioapic={:#x}", ioapic::REGISTERS.start);
        for cable in &board.channels {
            let (command, control, pin) = (cable.command, cable.control, cable.pin);
            // Writing to a string cannot fail.
            let _ = write!(words, " ata={command:#x},{control:#x},{pin}");
        }
        for ((port, _), (_, pin)) in board.cards.iter().zip(CARDS) {
            let _ = write!(words, " ne2000={port:#x},{pin}");
        }
        words
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
            board.lines.end(vector);
        }
    }

    fn at(&self, at: u64) -> Option<(&Lines, u64)> {
        let board = self
            .board
            .as_ref()
            .filter(|_| ioapic::REGISTERS.contains(&at))?;
        Some((&board.lines, at - ioapic::REGISTERS.start))
    }
}

impl Board {
    fn write_port(&mut self, port: u16, from: &[u8]) -> bool {
        if let Some((card, offset)) = self.card(port) {
            card.write(offset, from);
            return true;
        }
        self.access(port, |channel, register| match register {
            Register::Command(offset) => channel.write(offset, from),
            Register::Control => channel.write_control(from),
        })
    }

    fn read_port(&mut self, port: u16, into: &mut [u8]) -> bool {
        if let Some((card, offset)) = self.card(port) {
            card.read(offset, into);
            return true;
        }
        self.access(port, |channel, register| match register {
            Register::Command(offset) => channel.read(offset, into),
            Register::Control => channel.read_control(into),
        })
    }

    /// The card behind a port, and the port's offset.
    fn card(&self, port: u16) -> Option<(&Card, u16)> {
        self.cards.iter().find_map(|(first, card)| {
            let offset = port.checked_sub(*first)?;
            (offset < ne2000::PORTS).then_some((card, offset))
        })
    }

    /// Have a port's channel do something, and its line follow; false where none is.
    fn access(&mut self, port: u16, work: impl FnOnce(&mut Channel, Register)) -> bool {
        let mut cables = self.channels.iter_mut();
        let found = cables.find_map(|cable| {
            let register = match port.checked_sub(cable.command) {
                Some(offset @ 0..8) => Register::Command(offset),
                _ if port == cable.control => Register::Control,
                _ => return None,
            };
            Some((cable, register))
        });
        let Some((cable, register)) = found else {
            return false;
        };
        work(&mut cable.channel, register);
        self.lines.set(cable.pin, cable.channel.interrupt());
        true
    }
}

/// A register of a channel.
enum Register {
    /// Of the command block.
    Command(u16),
    /// Device control and alternate status.
    Control,
}

/// No more devices than there are places.
fn check(count: usize, limit: usize) -> Result<(), HostError> {
    match count > limit {
        true => Err(HostError::Devices { count, limit }),
        false => Ok(()),
    }
}

/// The channels of these disks.
fn channels(disks: &[&Disk]) -> Result<Vec<Cable>, HostError> {
    check(disks.len(), CHANNELS.len() * DRIVES)?;
    let mut channels = Vec::new();
    for (place, pair) in CHANNELS.into_iter().zip(disks.chunks(DRIVES)) {
        let (command, control, pin) = place;
        let [first, second] = [0, 1].map(|at| pair.get(at).map(|disk| open(disk)));
        let Some(first) = first else { break };
        channels.push(Cable {
            command,
            control,
            pin,
            channel: Channel::new(first?, second.transpose()?),
        });
    }
    Ok(channels)
}

fn open(disk: &Disk) -> Result<Box<dyn Sectors>, HostError> {
    match FileSectors::open(disk) {
        Ok(sectors) => Ok(Box::new(sectors)),
        Err(error) => Err(failed(Device::Disk(disk.clone()), error.into())),
    }
}

/// The cards of these networks, each with the first of its ports.
fn cards(nets: &[&Net], lines: &Lines) -> Result<Vec<(u16, Card)>, HostError> {
    check(nets.len(), CARDS.len())?;
    let cards = nets.iter().zip(CARDS).enumerate();
    let cards = cards.map(|(number, (net, (port, pin)))| {
        let fail = |error| failed(Device::Net((*net).clone()), error);
        if net.mtu > DEFAULT_MTU {
            return Err(fail(LONG.into()));
        }
        if net.limits.is_some() {
            return Err(fail(
                "an NE2000 keeps to no limits; leave them out, or use virtio (--io pv)".into(),
            ));
        }
        let mac = net.mac(number as u8);
        let carrier = net.carrier(mac).map_err(fail)?;
        let card = Card::new(mac, carrier, lines.clone(), pin);
        card.map(|card| (port, card))
            .map_err(|error| fail(error.into()))
    });
    cards.collect()
}

/// Why a network's frames are too long.
const LONG: &str = "a packet in a frame of an NE2000 has 1500 bytes at most; use a smaller mtu, or virtio (--io pv)";

fn failed(device: Device, source: Box<dyn std::error::Error + Send + Sync>) -> HostError {
    let device = device.to_string();
    HostError::Device { device, source }
}

/// The UART's register behind a port.
fn uart_register(port: u16) -> Option<u8> {
    let offset = port.checked_sub(UART_PORT)?;
    u8::try_from(offset).ok().filter(|register| *register < 8)
}
