//! A source of random numbers. Asked seldom and for little, it is polled.

use alloc::boxed::Box;
use alloc::string::{String, ToString};

use virtio_drivers::device::rng::VirtIORng;

use super::Registers;
use super::hal::KernelHal;
use crate::dev::{self, Class, Device};
use crate::sync::SpinLock;

static SOURCE: SpinLock<Option<VirtIORng<KernelHal, Registers>>> = SpinLock::new(None);

pub(super) fn drive(registers: Registers, bus: &str) -> Result<(), virtio_drivers::Error> {
    let mut source = VirtIORng::new(registers)?;
    source.disable_interrupts();
    *SOURCE.lock() = Some(source);
    dev::add(Device {
        name: "hwrng".into(),
        bus: "virtio-mmio",
        class: Class::Random,
        parent: Some(bus.to_string()),
        driver: Some("virtio-rng"),
        vector: None,
        about: String::new(),
    });
    Ok(())
}

/// Up to 256 random bytes; `None` without a source, or where it fails.
pub fn random(count: usize) -> Option<Box<[u8]>> {
    let mut bytes = alloc::vec![0; count.min(256)];
    let mut source = SOURCE.lock();
    let source = source.as_mut()?;
    let given = source.request_entropy(&mut bytes).ok()?;
    bytes.truncate(given);
    Some(bytes.into())
}
