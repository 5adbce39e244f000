//! Devices: found on the command line, given to their drivers, kept in a tree and by class.
//!
//! - `place`: what the command line says of a device;
//! - `isa`: the devices that a PC has, and `lines`, their pins;
//! - `raw`: memory and registers for drivers, the one unsafe room of it;
//! - `env`: the kernel as a driver's environment, for drivers that are built in;
//! - `tree`: every device with its bus, class and parent;
//! - `block`: requests to a disk, for callers that sleep until they are complete;
//! - `balloon`: which memory the host gets, and when it comes back.
//!
//! Called by `boot`, which names the command line, and by the shell. A kernel without a device on
//! its command line does nothing here.

pub mod balloon;
pub mod block;
mod env;
mod isa;
mod lines;
mod place;
#[allow(unsafe_code)]
mod raw;
mod tree;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use driver_api::{BlockDevice, ConsoleDevice, Env, NetDevice, RandomSource, SocketDevice};
use virtio::{Transport, VirtioError, wire};

pub use env::{KernelEnv, KernelLock, KernelWaiters};
pub use isa::{clock, controller, timer};
pub use place::{Named, Place};
pub use raw::{DmaMemory, Registers};
pub use tree::{Bus, Class, Device, DeviceId, State, for_each_device};

use crate::sync::SpinLock;
use crate::{net, println};

/// The most devices that are looked at: more than there are vectors.
const DEVICES_MOST: usize = 32;

/// A disk of the kernel's.
pub type Disk = Arc<dyn BlockDevice<DmaMemory>>;

/// A console of the kernel's, beside the hooks' own.
pub type Console = Arc<dyn ConsoleDevice>;

/// A disk by its name.
#[derive(Clone)]
pub struct NamedDisk {
    /// `vda`, `vdb`, `hda` and so on, in the order of the command line.
    pub name: String,
    /// The vector of its interrupts.
    pub vector: u8,
    /// The disk.
    pub disk: Disk,
}

static DISKS: SpinLock<Vec<NamedDisk>> = SpinLock::new(Vec::new());
static CONSOLES: SpinLock<Vec<Console>> = SpinLock::new(Vec::new());
static RANDOM: SpinLock<Option<Arc<dyn RandomSource>>> = SpinLock::new(None);

/// All disks.
pub fn disks() -> Vec<NamedDisk> {
    DISKS.lock().clone()
}

/// The consoles `hvc0`, `hvc1` and so on.
pub fn consoles() -> Vec<Console> {
    CONSOLES.lock().clone()
}

/// The first source of randomness.
pub fn random() -> Option<Arc<dyn RandomSource>> {
    RANDOM.lock().clone()
}

/// Set up the devices that the command line names.
pub fn find(command_line: &str) {
    for place in place::places(command_line).take(DEVICES_MOST) {
        match place {
            Ok(Named::Virtio(place)) => set_up(&place),
            Ok(Named::Isa(place)) => isa::set_up(&place),
            Err(word) => println!("kernel: {word} names no device"),
        }
    }
}

/// Put a device and what is behind it into the tree, and give it to its driver.
fn set_up(place: &Place) {
    let name = format!("virtio-mmio@{:x}", place.base);
    let bus = tree::add(Device {
        driver: Some("virtio-mmio"),
        vector: Some(place.vector),
        ..tree::plain(name, Class::Bus, None)
    });
    match bind(place, bus) {
        // DeviceID 0 says that nothing is there (virtio 1.3, 4.2.3.1.1).
        Ok(()) | Err(VirtioError::OtherDevice(0)) => {}
        Err(error) => {
            println!("kernel: the device at {:#x}: {error}", place.base);
            tree::update(bus, |device| {
                device.state = State::Failed(error.to_string())
            });
        }
    }
}

fn bind(place: &Place, bus: DeviceId) -> Result<(), VirtioError> {
    let registers = KernelEnv.mmio(place.base, place.size)?;
    let transport = Transport::new(registers)?;
    match transport.device_id() {
        wire::ID_BLOCK => {
            let disk = virtio_blk::Disk::new(KernelEnv, transport, place.vector)?;
            let features = names(disk.features(), virtio_blk::FEATURES);
            let info = disk.info();
            let rights = ["read-write", "read-only"][usize::from(info.is_read_only)];
            let about = format!("{} KiB, {rights}", info.sectors / 2);
            let name = keep_as("vd", disk, place.vector);
            add_child(bus, name, Class::Block, "virtio-blk", about, features);
        }
        wire::ID_BALLOON => {
            let device = virtio_balloon::Balloon::new(KernelEnv, transport, place.vector)?;
            let features = names(device.features(), virtio_balloon::FEATURES);
            balloon::start(device)?;
            let (name, about) = ("balloon".into(), String::new());
            add_child(bus, name, Class::Memory, "virtio-balloon", about, features);
        }
        wire::ID_CONSOLE => {
            let console = virtio_console::Console::new(KernelEnv, transport, place.vector)?;
            let features = names(console.features(), virtio_console::FEATURES);
            let mut consoles = CONSOLES.lock();
            let (name, about) = (format!("hvc{}", consoles.len()), String::new());
            consoles.push(console);
            drop(consoles);
            add_child(bus, name, Class::Console, "virtio-console", about, features);
        }
        wire::ID_NET => {
            let card = virtio_net::Net::new(KernelEnv, transport, place.vector)?;
            let features = names(card.features(), virtio_net::FEATURES);
            let info = card.info();
            let about = format!("{}, mtu {}", net::Mac(info.mac), info.mtu);
            let name = net::attach(card, place.vector);
            add_child(bus, name, Class::Net, "virtio-net", about, features);
        }
        wire::ID_VSOCK => {
            let device = virtio_vsock::Vsock::new(KernelEnv, transport, place.vector)?;
            let features = names(device.features(), virtio_vsock::FEATURES);
            let about = format!("cid {}", device.cid());
            net::vsock::attach(device);
            add_child(
                bus,
                "vsock".into(),
                Class::Net,
                "virtio-vsock",
                about,
                features,
            );
        }
        wire::ID_RNG => {
            let rng = virtio_rng::Rng::new(KernelEnv, transport, place.vector)?;
            let features = names(rng.features(), &[]);
            RANDOM.lock().get_or_insert(rng);
            let (name, about) = ("hwrng".into(), String::new());
            add_child(bus, name, Class::Random, "virtio-rng", about, features);
        }
        other => return Err(VirtioError::OtherDevice(other)),
    }
    Ok(())
}

/// Let everybody use a disk, and return its name: the kind, and a letter of those of its kind.
fn keep_as(kind: &str, disk: Disk, vector: u8) -> String {
    let mut disks = DISKS.lock();
    let same = disks.iter().filter(|disk| disk.name.starts_with(kind));
    let count = same.count();
    // There are fewer devices than letters, see `DEVICES_MOST`, unless nothing else is attached.
    let name = match u8::try_from(count) {
        Ok(number) if number < 26 => format!("{kind}{}", char::from(b'a' + number)),
        _ => format!("{kind}{count}"),
    };
    disks.push(NamedDisk {
        name: name.clone(),
        vector,
        disk,
    });
    name
}

fn add_child(
    bus: DeviceId,
    name: String,
    class: Class,
    driver: &'static str,
    about: String,
    features: Vec<&'static str>,
) {
    tree::add(Device {
        bus: Bus::VirtioMmio,
        driver: Some(driver),
        about,
        features,
        ..tree::plain(name, class, Some(bus))
    });
}

/// The names of features, of the driver's own and of those that all virtio devices have.
fn names(features: u64, own: &[(u64, &'static str)]) -> Vec<&'static str> {
    let all = own.iter().chain(wire::FEATURES);
    let agreed = all.filter(|(bit, _)| features & bit != 0);
    agreed.map(|(_, name)| *name).collect()
}
