//! Devices: found on the command line, given to their drivers, kept in a tree and by class.
//!
//! - `place`: what the command line says of a device;
//! - `raw`: memory and registers for drivers, the one unsafe room of it;
//! - `env`: the kernel as a driver's environment, for drivers that are built in;
//! - `tree`: every device with its bus, class and parent;
//! - `block`: requests to a disk, for callers that sleep until they are complete.
//!
//! Called by `boot`, which names the command line, and by the shell. A kernel without a device on
//! its command line does nothing here.

pub mod block;
mod env;
mod place;
#[allow(unsafe_code)]
mod raw;
mod tree;

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use driver_api::{BlockDevice, Env, RandomSource};
use virtio::{Transport, VirtioError, wire};

pub use env::{KernelEnv, KernelLock, KernelWaiters};
pub use place::Place;
pub use raw::{DmaMemory, Registers};
pub use tree::{Bus, Class, Device, DeviceId, State, for_each_device};

use crate::println;
use crate::sync::SpinLock;

/// The most devices that are looked at: more than there are vectors.
const DEVICES_MOST: usize = 32;

/// A disk of the kernel's.
pub type Disk = Arc<dyn BlockDevice<DmaMemory>>;

static DISKS: SpinLock<Vec<Disk>> = SpinLock::new(Vec::new());
static RANDOM: SpinLock<Option<Arc<dyn RandomSource>>> = SpinLock::new(None);

/// The disk of a number, counted from 0 in the order of the command line.
pub fn disk(number: usize) -> Option<Disk> {
    DISKS.lock().get(number).cloned()
}

/// The first source of randomness.
pub fn random() -> Option<Arc<dyn RandomSource>> {
    RANDOM.lock().clone()
}

/// Set up the devices that the command line names.
pub fn find(command_line: &str) {
    for place in place::places(command_line).take(DEVICES_MOST) {
        match place {
            Ok(place) => set_up(&place),
            Err(word) => println!("kernel: {word} names no device"),
        }
    }
}

/// Put a device and what is behind it into the tree, and give it to its driver.
fn set_up(place: &Place) {
    let bus = tree::add(Device {
        name: format!("virtio-mmio@{:x}", place.base),
        bus: Bus::Platform,
        class: Class::Bus,
        parent: Some(tree::PLATFORM),
        driver: Some("virtio-mmio"),
        vector: Some(place.vector),
        features: Vec::new(),
        state: State::Bound,
    });
    match bind(place, bus) {
        // DeviceID 0 says that nothing is there (virtio 1.3, 4.2.3.1.1).
        Ok(()) | Err(VirtioError::OtherDevice(0)) => {}
        Err(error) => {
            println!("kernel: the device at {:#x}: {error}", place.base);
            tree::set_state(bus, State::Failed(error));
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
            let number = {
                let mut disks = DISKS.lock();
                disks.push(disk);
                disks.len() - 1
            };
            let name = format!("disk{number}");
            add_child(bus, name, Class::Block, "virtio-blk", features);
        }
        wire::ID_RNG => {
            let rng = virtio_rng::Rng::new(KernelEnv, transport, place.vector)?;
            let features = names(rng.features(), &[]);
            RANDOM.lock().get_or_insert(rng);
            add_child(bus, "random".into(), Class::Random, "virtio-rng", features);
        }
        other => return Err(VirtioError::OtherDevice(other)),
    }
    Ok(())
}

fn add_child(
    bus: DeviceId,
    name: alloc::string::String,
    class: Class,
    driver: &'static str,
    features: Vec<&'static str>,
) {
    tree::add(Device {
        name,
        bus: Bus::Virtio,
        class,
        parent: Some(bus),
        driver: Some(driver),
        vector: None,
        features,
        state: State::Bound,
    });
}

/// The names of features, of the driver's own and of those that all virtio devices have.
fn names(features: u64, own: &[(u64, &'static str)]) -> Vec<&'static str> {
    let all = own.iter().chain(wire::FEATURES);
    let agreed = all.filter(|(bit, _)| features & bit != 0);
    agreed.map(|(_, name)| *name).collect()
}
