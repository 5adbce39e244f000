//! The devices of a PC's board, at ports and pins: what the command line says of them, and their drivers.
//!
//! - `ioapic=<base>`: the I/O APIC, before the devices whose pins it has;
//! - `ata=<command>,<control>,<pin>`: a channel of ATA drives, by its two blocks of ports;
//! - `ne2000=<first>,<pin>`: a network card, by its ports. Its pin is triggered by level: the card holds its
//!   line until it is masked, or its causes are acknowledged.
//!
//! Called by `dev::find`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;

use ::ata::{AtaError, Channel, Identity};
use ::ne2000::{Card, Ne2000Error};
use driver_api::{EnvError, NetDevice, PortEnv};
use ioapic::{IoApicError, Trigger};

use super::place::number;
use super::tree::{self, Bus, Class, Device, DeviceId, State};
use super::{KernelEnv, keep_as, lines};
use crate::{net, println};

/// Where a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The I/O APIC, by the guest-physical address of its registers.
    IoApic(u64),
    /// A channel of ATA drives.
    Ata(Cable),
    /// A network card, by its first port and its pin.
    Ne2000(u16, u8),
}

/// Where a channel of ATA drives is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cable {
    /// The first port of the command block.
    command: u16,
    /// The port of device control.
    control: u16,
    /// The pin of its interrupt.
    pin: u8,
}

/// Read an option; `None` when it is none of this, and `Some(None)` when its value makes no sense.
pub fn parse(key: &str, value: &str) -> Option<Option<Place>> {
    Some(match key {
        "ioapic" => number(value).map(Place::IoApic),
        "ata" => cable(value).map(Place::Ata),
        "ne2000" => card(value),
        _ => return None,
    })
}

fn cable(value: &str) -> Option<Cable> {
    let [command, control, pin] = numbers(value)?;
    Some(Cable {
        command: u16::try_from(command).ok()?,
        control: u16::try_from(control).ok()?,
        pin: u8::try_from(pin).ok()?,
    })
}

fn card(value: &str) -> Option<Place> {
    let [port, pin] = numbers(value)?;
    Some(Place::Ne2000(
        u16::try_from(port).ok()?,
        u8::try_from(pin).ok()?,
    ))
}

/// So many numbers, with commas between.
fn numbers<const COUNT: usize>(value: &str) -> Option<[u64; COUNT]> {
    let mut words = value.split(',');
    let mut found = [0; COUNT];
    for slot in &mut found {
        *slot = number(words.next()?)?;
    }
    words.next().is_none().then_some(found)
}

/// Why a device of the board cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsaError {
    /// The I/O APIC refused.
    IoApic(IoApicError),
    /// There is none, and the device has a pin.
    NoIoApic,
    /// There is no vector for the pin.
    NoVector,
    /// The channel refused.
    Ata(AtaError),
    /// The card refused.
    Ne2000(Ne2000Error),
    /// The environment did.
    Env(EnvError),
}

impl fmt::Display for IsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IoApic(error) => error.fmt(f),
            Self::NoIoApic => f.write_str("it has a pin, and there is no I/O APIC"),
            Self::NoVector => f.write_str("no vector is left for its pin"),
            Self::Ata(error) => error.fmt(f),
            Self::Ne2000(error) => error.fmt(f),
            Self::Env(error) => error.fmt(f),
        }
    }
}

impl From<AtaError> for IsaError {
    fn from(error: AtaError) -> Self {
        Self::Ata(error)
    }
}

impl From<Ne2000Error> for IsaError {
    fn from(error: Ne2000Error) -> Self {
        Self::Ne2000(error)
    }
}

impl From<EnvError> for IsaError {
    fn from(error: EnvError) -> Self {
        Self::Env(error)
    }
}

/// Put a device into the tree, and give it to its driver.
pub fn set_up(place: &Place) {
    let (name, result) = match place {
        Place::IoApic(base) => {
            let name = format!("ioapic@{base:x}");
            let id = add("ioapic", Bus::Platform, &name, Class::Interrupts, None);
            (name, io_apic(*base, id).map_err(|error| (id, error)))
        }
        Place::Ata(cable) => {
            let name = format!("ata@{:x}", cable.command);
            let id = add("ata", Bus::Isa, &name, Class::Bus, Some(bus()));
            (name, ata(*cable, id).map_err(|error| (id, error)))
        }
        Place::Ne2000(port, pin) => {
            let name = format!("ne2000@{port:x}");
            let id = add("ne2000", Bus::Isa, &name, Class::Net, Some(bus()));
            (name, ne2000(*port, *pin, id).map_err(|error| (id, error)))
        }
    };
    if let Err((id, error)) = result {
        println!("kernel: {name}: {error}");
        tree::update(id, |device| device.state = State::Failed(error.to_string()));
    }
}

fn add(
    driver: &'static str,
    bus: Bus,
    name: &str,
    class: Class,
    parent: Option<DeviceId>,
) -> DeviceId {
    tree::add(Device {
        bus,
        driver: Some(driver),
        ..tree::plain(name.into(), class, parent)
    })
}

fn io_apic(base: u64, id: DeviceId) -> Result<(), IsaError> {
    let pins = lines::init(base)?;
    tree::update(id, |device| device.about = format!("{pins} pins"));
    Ok(())
}

/// The bus that all of them are on.
fn bus() -> DeviceId {
    tree::find("isa").unwrap_or_else(|| tree::add(tree::plain("isa".into(), Class::Bus, None)))
}

fn ata(cable: Cable, id: DeviceId) -> Result<(), IsaError> {
    let vector = lines::vector()?;
    let command = KernelEnv.ports(cable.command, ::ata::COMMAND_PORTS)?;
    let control = KernelEnv.ports(cable.control, ::ata::CONTROL_PORTS)?;
    let channel = Channel::new(KernelEnv, command, control, vector.number())?;
    // The line is low until there is a command.
    lines::connect(cable.pin, vector, Trigger::Edge)?;
    tree::update(id, |device| device.vector = Some(vector.number()));
    for (number, drive) in channel.drives() {
        let disk = Arc::new(::ata::Disk::new(channel.clone(), number));
        let about = about(drive);
        let name = keep_as("hd", disk, vector.number());
        let child = add("ata", Bus::Ata, &name, Class::Block, Some(id));
        tree::update(child, |device| device.about = about);
    }
    Ok(())
}

/// A card becomes an interface, and has its name in the tree.
fn ne2000(port: u16, pin: u8, id: DeviceId) -> Result<(), IsaError> {
    let vector = lines::vector()?;
    let ports = KernelEnv.ports(port, ::ne2000::PORTS)?;
    let card = Card::new(KernelEnv, ports, vector.number())?;
    lines::connect(pin, vector, Trigger::Level)?;
    let info = card.info();
    let name = net::attach(card, vector.number());
    tree::update(id, |device| {
        device.name = name;
        device.vector = Some(vector.number());
        device.about = format!("{}, mtu {}", net::Mac(info.mac), info.mtu);
    });
    Ok(())
}

fn about(drive: &Identity) -> String {
    let end = drive.model.iter().position(|byte| *byte == 0);
    let model = drive
        .model
        .get(..end.unwrap_or(drive.model.len()))
        .unwrap_or_default();
    format!("{} KiB, {}", drive.sectors / 2, model.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_two_blocks_of_ports_and_a_pin() {
        let cable = Cable {
            command: 0x1f0,
            control: 0x3f6,
            pin: 14,
        };
        assert_eq!(
            parse("ata", "0x1f0,0x3f6,14"),
            Some(Some(Place::Ata(cable)))
        );
        for value in [
            "",
            "0x1f0",
            "0x1f0,0x3f6",
            "1,2,3,4",
            "65536,1,2",
            "1,2,256",
            "1,,3",
        ] {
            assert_eq!(parse("ata", value), Some(None), "{value}");
        }
        assert_eq!(
            parse("ioapic", "0xfec00000"),
            Some(Some(Place::IoApic(0xfec0_0000)))
        );
        assert_eq!(parse("ioapic", "here"), Some(None));
        assert_eq!(parse("run", "1"), None);
        assert_eq!(
            parse("ne2000", "0x300,10"),
            Some(Some(Place::Ne2000(0x300, 10)))
        );
        for value in ["0x300", "0x300,256", "0x300,10,1"] {
            assert_eq!(parse("ne2000", value), Some(None), "{value}");
        }
    }
}
