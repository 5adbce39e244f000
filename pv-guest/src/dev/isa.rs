//! The devices of a PC's board, at ports and pins: what the command line says of them, and their drivers.
//!
//! - `ioapic=<base>`: the I/O APIC, before the devices whose pins it has;
//! - `pit=<first>,<pin>`, `rtc=<first>,<pin>`, `i8042=<command>`: the timer, the clock, and the controller that
//!   resets the processor, by their ports;
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
use pc::{BoardError, Clock, Controller, Timer};

use super::place::number;
use super::tree::{self, Bus, Class, Device, DeviceId, State};
use super::{KernelEnv, keep_as, lines};
use crate::sync::SpinLock;
use crate::{net, println};

/// Where a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The I/O APIC, by the guest-physical address of its registers.
    IoApic(u64),
    /// The interval timer, by its first port and its pin.
    Pit(u16, u8),
    /// The clock, likewise.
    Rtc(u16, u8),
    /// The keyboard controller, by its port of commands.
    Controller(u16),
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
        "pit" => port_and_pin(value).map(|(port, pin)| Place::Pit(port, pin)),
        "rtc" => port_and_pin(value).map(|(port, pin)| Place::Rtc(port, pin)),
        "i8042" => {
            let port = number(value).and_then(|port| u16::try_from(port).ok());
            port.map(Place::Controller)
        }
        "ata" => cable(value).map(Place::Ata),
        "ne2000" => port_and_pin(value).map(|(port, pin)| Place::Ne2000(port, pin)),
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

fn port_and_pin(value: &str) -> Option<(u16, u8)> {
    let [port, pin] = numbers(value)?;
    Some((u16::try_from(port).ok()?, u8::try_from(pin).ok()?))
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
    /// A device of the board's own did.
    Board(BoardError),
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
            Self::Board(error) => error.fmt(f),
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

impl From<BoardError> for IsaError {
    fn from(error: BoardError) -> Self {
        Self::Board(error)
    }
}

impl From<EnvError> for IsaError {
    fn from(error: EnvError) -> Self {
        Self::Env(error)
    }
}

/// What a machine has of a board.
struct Board {
    timer: Option<Arc<Timer<KernelEnv>>>,
    clock: Option<Arc<Clock<KernelEnv>>>,
    controller: Option<Arc<Controller<KernelEnv>>>,
}

static BOARD: SpinLock<Board> = SpinLock::new(Board {
    timer: None,
    clock: None,
    controller: None,
});

/// The interval timer.
pub fn timer() -> Option<Arc<Timer<KernelEnv>>> {
    BOARD.lock().timer.clone()
}

/// The clock.
pub fn clock() -> Option<Arc<Clock<KernelEnv>>> {
    BOARD.lock().clock.clone()
}

/// The controller that resets the processor.
pub fn controller() -> Option<Arc<Controller<KernelEnv>>> {
    BOARD.lock().controller.clone()
}

/// Put a device into the tree, and give it to its driver.
pub fn set_up(place: &Place) {
    let (driver, at, class) = match place {
        Place::IoApic(base) => ("ioapic", *base, Class::Interrupts),
        Place::Pit(port, _) => ("pit", (*port).into(), Class::Timer),
        Place::Rtc(port, _) => ("rtc", (*port).into(), Class::Timer),
        Place::Controller(port) => ("i8042", (*port).into(), Class::Power),
        Place::Ata(cable) => ("ata", cable.command.into(), Class::Bus),
        Place::Ne2000(port, _) => ("ne2000", (*port).into(), Class::Net),
    };
    let (bus, parent) = match class {
        Class::Interrupts => (Bus::Platform, None),
        _ => (Bus::Isa, Some(isa_bus())),
    };
    let name = format!("{driver}@{at:x}");
    let id = add(driver, bus, &name, class, parent);
    let result = match *place {
        Place::IoApic(base) => io_apic(base, id),
        Place::Pit(port, pin) => pit(port, pin, id),
        Place::Rtc(port, pin) => rtc(port, pin, id),
        Place::Controller(port) => keyboard(port),
        Place::Ata(cable) => ata(cable, id),
        Place::Ne2000(port, pin) => ne2000(port, pin, id),
    };
    if let Err(error) = result {
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

fn pit(port: u16, pin: u8, id: DeviceId) -> Result<(), IsaError> {
    let vector = lines::vector()?;
    let timer = Timer::new(&KernelEnv, port, vector.number())?;
    lines::connect(pin, vector, Trigger::Edge)?;
    tree::update(id, |device| device.vector = Some(vector.number()));
    BOARD.lock().timer.get_or_insert(timer);
    Ok(())
}

fn rtc(port: u16, pin: u8, id: DeviceId) -> Result<(), IsaError> {
    let vector = lines::vector()?;
    let clock = Clock::new(&KernelEnv, port, vector.number())?;
    lines::connect(pin, vector, Trigger::Edge)?;
    tree::update(id, |device| device.vector = Some(vector.number()));
    BOARD.lock().clock.get_or_insert(clock);
    Ok(())
}

fn keyboard(port: u16) -> Result<(), IsaError> {
    let controller = Arc::new(Controller::new(&KernelEnv, port)?);
    BOARD.lock().controller.get_or_insert(controller);
    Ok(())
}

/// The bus that all of them are on, but for the I/O APIC.
fn isa_bus() -> DeviceId {
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
