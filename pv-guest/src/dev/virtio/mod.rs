//! Virtio over MMIO (virtio 1.2, 4.2), on the crate `virtio-drivers`: which devices the command line names, and
//! who drives them.
//!
//! In walking order: this file finds devices; `hal` gives the crate memory; `blk` and `rng` are drivers.

mod blk;
mod hal;
mod rng;

use alloc::format;
use alloc::string::String;
use core::ptr::NonNull;

use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceType, Transport};

use super::line::Line;
use super::{Class, Device};
use crate::command_line::VirtioDevice;
use crate::{dev, mm, println};

pub use blk::{Disk, DiskError, disks};
pub use rng::random;

/// The way to a device's registers.
type Registers = MmioTransport<'static>;

/// Find a device, and drive it if there is a driver. What is wrong with it is said, and the boot goes on.
pub fn probe(found: VirtioDevice) {
    let bus = format!("virtio-mmio@{:x}", found.base);
    let Some(registers) = registers(found) else {
        return println!("{bus}: no virtio device of version 2 is there");
    };
    dev::add(Device {
        name: bus.clone(),
        bus: "platform",
        class: Class::Bus,
        parent: None,
        driver: Some("virtio-mmio"),
        vector: Some(found.vector),
        about: String::new(),
    });
    let Some(line) = Line::of(found.vector) else {
        return println!("{bus}: vector {} is taken, or no device's", found.vector);
    };
    let kind = registers.device_type();
    let result = match kind {
        DeviceType::Block => blk::drive(registers, line, &bus),
        DeviceType::EntropySource => rng::drive(registers, &bus),
        _ => {
            dev::add(Device {
                name: format!("{kind:?}@{:x}", found.base),
                bus: "virtio-mmio",
                class: Class::Unknown,
                parent: Some(bus.clone()),
                driver: None,
                vector: None,
                about: String::new(),
            });
            Ok(())
        }
    };
    if let Err(error) = result {
        println!("{bus}: {error}");
    }
}

fn registers(found: VirtioDevice) -> Option<Registers> {
    let at = mm::map_mmio(found.base, found.size);
    let header = NonNull::new(at as *mut VirtIOHeader)?;
    // SAFETY: `map_mmio` has mapped these registers for this device alone, uncached, and for good; the
    // hypervisor says on the command line that they are there, and page-aligned.
    unsafe { MmioTransport::new(header, found.size as usize) }.ok()
}
