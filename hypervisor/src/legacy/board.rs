//! The devices that a machine with trapped I/O has, each at its ports and its pin.
//!
//! What a device does with an access is in its own file; which port and which pin it has is here.

use std::fmt::Write as _;
use std::sync::Arc;

use kvm_ioctls::VmFd;

use super::ata::{Channel, FileSectors, Sectors};
use super::clocks::{Clock, Clocks, PIT_PIN, RTC_PIN};
use super::i8042::{self, I8042};
use super::ioapic;
use super::lines::Lines;
use super::ne2000::{self, Card};
use crate::error::HostError;
use crate::io::{DEFAULT_MTU, Device, Disk, Net, Route};

/// Where the channels of ATA drives are, as in every PC since the AT: command block, control block, pin.
const CHANNELS: [(u16, u16, usize); 2] = [(0x1f0, 0x3f6, 14), (0x170, 0x376, 15)];
/// Drives of a channel.
const DRIVES: usize = 2;
/// Where network cards are, by the first port and the pin: jumpers of the time.
const CARDS: [(u16, usize); 2] = [(0x300, 10), (0x320, 11)];
/// The first ports of the interval timer, which has four, and of the clock, which has two.
const PIT: u16 = 0x40;
const RTC: u16 = 0x70;

/// The board.
#[derive(Debug)]
pub struct Board {
    lines: Lines,
    channels: Vec<Cable>,
    cards: Vec<(u16, Card)>,
    clocks: Clocks,
    keyboard: I8042,
}

/// A channel in its place.
#[derive(Debug)]
struct Cable {
    command: u16,
    control: u16,
    pin: usize,
    channel: Channel,
}

/// What a port is.
enum Place<'a> {
    /// A register of a channel's command block.
    Command(&'a mut Cable, u16),
    /// A channel's device control and alternate status.
    Control(&'a mut Cable),
    Card(&'a Card, u16),
    Clock(&'a mut Clocks, Clock, u16),
    Keyboard(&'a mut I8042),
}

impl Board {
    /// A board with these devices. `others` are the routes of the machine's other devices.
    ///
    /// # Errors
    /// [`HostError::Device`], with the device's name and the mend; [`HostError::Devices`] for too many.
    pub fn new(fd: &Arc<VmFd>, devices: &[Device], others: &[Route]) -> Result<Self, HostError> {
        let lines = Lines::new(Arc::clone(fd), others.to_vec());
        let disks = devices.iter().filter_map(|device| match device {
            Device::Disk(disk) => Some(disk),
            _ => None,
        });
        let nets = devices.iter().filter_map(|device| match device {
            Device::Net(net) => Some(net),
            _ => None,
        });
        Ok(Self {
            channels: channels(&disks.collect::<Vec<_>>())?,
            cards: cards(&nets.collect::<Vec<_>>(), &lines)?,
            clocks: Clocks::new(lines.clone()),
            keyboard: I8042::default(),
            lines,
        })
    }

    /// The pins, and the I/O APIC behind them.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Whether the guest wants the processor reset.
    pub fn resets(&self) -> bool {
        self.keyboard.resets()
    }

    /// What the guest's command line says of the devices.
    pub fn command_line(&self) -> String {
        let mut words = format!(
            " ioapic={:#x} pit={PIT:#x},{PIT_PIN} rtc={RTC:#x},{RTC_PIN} i8042={:#x}",
            ioapic::REGISTERS.start,
            i8042::COMMAND_PORT,
        );
        for cable in &self.channels {
            let (command, control, pin) = (cable.command, cable.control, cable.pin);
            // Writing to a string cannot fail.
            let _ = write!(words, " ata={command:#x},{control:#x},{pin}");
        }
        for ((port, _), (_, pin)) in self.cards.iter().zip(CARDS) {
            let _ = write!(words, " ne2000={port:#x},{pin}");
        }
        words
    }

    /// Write to a port; false where no device is.
    pub fn write_port(&mut self, port: u16, from: &[u8]) -> bool {
        let Some(place) = self.place(port) else {
            return false;
        };
        match place {
            Place::Command(cable, offset) => cable.channel.write(offset, from),
            Place::Control(cable) => cable.channel.write_control(from),
            Place::Card(card, offset) => card.write(offset, from),
            // These take bytes: many are accesses of their own.
            Place::Clock(clocks, clock, offset) => {
                from.iter()
                    .for_each(|byte| clocks.write(clock, offset, *byte));
            }
            Place::Keyboard(keyboard) => from.iter().for_each(|byte| keyboard.write(port, *byte)),
        }
        self.follow(port);
        true
    }

    /// Read from a port likewise.
    pub fn read_port(&mut self, port: u16, into: &mut [u8]) -> bool {
        let Some(place) = self.place(port) else {
            return false;
        };
        match place {
            Place::Command(cable, offset) => cable.channel.read(offset, into),
            Place::Control(cable) => cable.channel.read_control(into),
            Place::Card(card, offset) => card.read(offset, into),
            Place::Clock(clocks, clock, offset) => into.fill_with(|| clocks.read(clock, offset)),
            Place::Keyboard(keyboard) => into.fill_with(|| keyboard.read(port)),
        }
        self.follow(port);
        true
    }

    fn place(&mut self, port: u16) -> Option<Place<'_>> {
        match port {
            0x40..=0x43 => return Some(Place::Clock(&mut self.clocks, Clock::Pit, port - PIT)),
            0x70..=0x71 => return Some(Place::Clock(&mut self.clocks, Clock::Rtc, port - RTC)),
            i8042::DATA_PORT | i8042::COMMAND_PORT => {
                return Some(Place::Keyboard(&mut self.keyboard));
            }
            _ => {}
        }
        let card = self.cards.iter().find_map(|(first, card)| {
            let offset = port
                .checked_sub(*first)
                .filter(|offset| *offset < ne2000::PORTS)?;
            Some(Place::Card(card, offset))
        });
        let cables = self.channels.iter_mut();
        card.or_else(|| {
            cables
                .into_iter()
                .find_map(|cable| match port.checked_sub(cable.command) {
                    Some(offset @ 0..8) => Some(Place::Command(cable, offset)),
                    _ if port == cable.control => Some(Place::Control(cable)),
                    _ => None,
                })
        })
    }

    /// Have the line of a port's channel follow. Cards and clocks see to theirs.
    fn follow(&mut self, port: u16) {
        if let Some(Place::Command(cable, _) | Place::Control(cable)) = self.place(port) {
            let (pin, is_raised) = (cable.pin, cable.channel.interrupt());
            self.lines.set(pin, is_raised);
        }
    }
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
