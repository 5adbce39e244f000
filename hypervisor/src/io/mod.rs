//! Virtio devices behind memory-mapped registers: which there are, where each is, and how it interrupts.
//! Called by vm, which builds them, and by vcpu, for the registers that exit. What a device does is
//! `virtio-devices`' affair.
//!
//! ```text
//! doorbell   a store to QueueNotify   -> ioeventfd -> the device's thread     no exit to this process
//! interrupt  the device's thread      -> irqfd     -> a vector at the local APIC
//! registers  any other access         -> exit      -> `Io::read`, `Io::write`
//! ```
//!
//! The command line tells the guest of them, as Linux' `virtio_mmio.device=SIZE@BASE:IRQ` does; IRQ is the
//! vector.

mod config;
mod console;
mod interrupts;
mod net;
mod relay;

use std::io::PipeWriter;
use std::ops::Range;
use std::sync::Arc;

use hypercall_abi::layout::{DEVICE_VECTORS, DEVICES_PHYS};
use kvm_ioctls::{IoEventAddress, VmFd};
use serde::Serialize;
use virtio_devices::device::feature;
use virtio_devices::transport::Counts;
use virtio_devices::transport::mmio::{MmioTransport, QUEUE_NOTIFY, STATUS};
use vmm_sys_util::eventfd::EventFd;

use crate::error::HostError;
use crate::memory::Memory;

pub use config::{Device, Disk, Engine, Format, Limits, Vsock, Wiring};
pub use console::Console;
pub(crate) use interrupts::{Route, set_routes};
pub use net::{DEFAULT_MTU, Forward, Net, NetCarrier, UserNetwork};
pub use virtio_devices::balloon::Handle as BalloonHandle;
pub use virtio_devices::blk::MAX_QUEUES;

/// Bytes from one device's registers to the next one's.
const WINDOW: u64 = 4096;

/// The devices of a virtual machine.
#[derive(Debug, Default)]
pub struct Io {
    /// By their place: the first one's registers are at `DEVICES_PHYS`.
    devices: Vec<Attached>,
    routes: Vec<Route>,
}

/// What a device has done in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceCounts {
    /// The device.
    pub name: String,
    /// Stores of the driver's to the device's doorbells.
    pub doorbells: u64,
    /// Interrupts to the driver.
    pub interrupts: u64,
    /// Bytes of payload that this process copied.
    pub copied: u64,
    /// Time on a processor of the device's own thread, in nanoseconds.
    pub cpu_ns: u64,
    /// Why it could last not go on without a reset, if it ever was so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl DeviceCounts {
    fn of(name: &str, fault: Option<String>, counts: Counts) -> Self {
        Self {
            name: name.to_owned(),
            doorbells: counts.doorbells,
            interrupts: counts.interrupts,
            copied: counts.copied,
            cpu_ns: counts.cpu_ns,
            fault,
        }
    }
}

/// A device in its place.
struct Attached {
    name: String,
    vector: u8,
    transport: MmioTransport,
    place: Option<String>,
    balloon: Option<BalloonHandle>,
    /// After the device, which uses it.
    kept: console::Kept,
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Attached");
        debug
            .field("name", &self.name)
            .field("vector", &self.vector);
        debug.finish_non_exhaustive()
    }
}

impl Io {
    /// Open what the devices need, and connect them.
    ///
    /// # Errors
    /// [`HostError::Device`], with the device's name and the mend; [`HostError::Devices`] for too many;
    /// [`HostError::Kvm`].
    pub fn attach(
        fd: &Arc<VmFd>,
        memory: &Memory,
        devices: &[Device],
        wiring: Wiring,
    ) -> Result<Self, HostError> {
        let limit = DEVICE_VECTORS.count();
        if devices.len() > limit {
            return Err(HostError::Devices {
                count: devices.len(),
                limit,
            });
        }
        let routes = interrupts::routes(devices.len());
        if !routes.is_empty() {
            interrupts::set_routes(fd, &routes)?;
        }
        let mut attached = Vec::new();
        for ((number, device), vector) in devices.iter().enumerate().zip(DEVICE_VECTORS) {
            let name = device.to_string();
            let fail = |source: Box<dyn std::error::Error + Send + Sync>| HostError::Device {
                device: name.clone(),
                source,
            };
            let interrupt = interrupts::connect(fd, number, vector, wiring.irqfd)?;
            // There are 14 at most.
            let opened = device.open(number as u8, memory).map_err(fail)?;
            let mut transport = MmioTransport::new(opened.model, memory.dma(), interrupt)
                .map_err(|error| fail(Box::new(error)))?;
            transport.limit(device.limits());
            if !wiring.event_idx {
                transport.withhold(feature::EVENT_IDX);
            }
            let base = DEVICES_PHYS + number as u64 * WINDOW;
            let doorbells = transport.doorbells().iter().enumerate();
            for (queue, doorbell) in doorbells.filter(|_| wiring.ioeventfd) {
                register(fd, base, queue, doorbell)?;
            }
            attached.push(Attached {
                name,
                vector,
                transport,
                place: opened.place,
                balloon: opened.balloon,
                kept: opened.kept,
            });
        }
        Ok(Self {
            devices: attached,
            routes,
        })
    }

    /// Where KVM leads the devices' interrupts: who sets routes sets these, too.
    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// End the devices, once their I/O has ended; what each has done.
    pub fn end(&mut self) -> Vec<DeviceCounts> {
        let devices = self.devices.iter_mut();
        let counts = devices.map(|device| {
            device.transport.write(STATUS, &[0; 4]);
            let fault = device.transport.last_fault();
            DeviceCounts::of(&device.name, fault, device.transport.counts())
        });
        counts.collect()
    }

    /// Devices that people cannot find without being told, each with where it is.
    pub fn places(&self) -> impl Iterator<Item = (&str, &str)> {
        let devices = self.devices.iter();
        devices.filter_map(|device| Some((device.name.as_str(), device.place.as_deref()?)))
    }

    /// What sets the balloon's size, if there is one.
    pub fn balloon(&self) -> Option<BalloonHandle> {
        self.devices
            .iter()
            .find_map(|device| device.balloon.clone())
    }

    /// Where what is typed at the machine goes, if that is one of these devices.
    pub fn typing(&self) -> Option<Arc<PipeWriter>> {
        self.devices.iter().find_map(|device| match &device.kept {
            console::Kept::Typing(pipe) => Some(Arc::clone(pipe)),
            _ => None,
        })
    }

    /// The guest-physical addresses of the devices' registers.
    pub fn range(&self) -> Range<u64> {
        DEVICES_PHYS..DEVICES_PHYS + self.devices.len() as u64 * WINDOW
    }

    /// What the guest's command line says of them; empty without devices.
    pub fn command_line(&self) -> String {
        let words = self.devices.iter().enumerate().map(|(number, device)| {
            let base = DEVICES_PHYS + number as u64 * WINDOW;
            format!(" virtio_mmio.device=4K@{base:#x}:{}", device.vector)
        });
        words.collect()
    }

    /// Read registers; false where no device is.
    pub fn read(&mut self, at: u64, data: &mut [u8]) -> bool {
        let Some((device, offset)) = self.at(at) else {
            return false;
        };
        device.transport.read(offset, data);
        true
    }

    /// Write registers; false where no device is.
    pub fn write(&mut self, at: u64, data: &[u8]) -> bool {
        let Some((device, offset)) = self.at(at) else {
            return false;
        };
        device.transport.write(offset, data);
        true
    }

    fn at(&mut self, at: u64) -> Option<(&mut Attached, u64)> {
        let offset = at.checked_sub(DEVICES_PHYS)?;
        let device = self
            .devices
            .get_mut(usize::try_from(offset / WINDOW).ok()?)?;
        Some((device, offset % WINDOW))
    }
}

/// Have a store of a queue's number to the device's QueueNotify ring its doorbell.
fn register(fd: &VmFd, base: u64, queue: usize, doorbell: &EventFd) -> Result<(), HostError> {
    let address = IoEventAddress::Mmio(base + QUEUE_NOTIFY);
    fd.register_ioevent(doorbell, &address, queue as u32)
        .map_err(HostError::kvm("register a doorbell (ioeventfd)"))
}
