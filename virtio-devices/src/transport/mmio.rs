//! The registers of virtio over MMIO, version 2 (virtio 1.2, 4.2.2). Called by the VMM for accesses that exit;
//! doorbells come as eventfds and pass it by. It knows nothing of KVM, and nothing of what a device does.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::Device;
pub use crate::lines::Interrupt;
use crate::lines::Lines;
use crate::worker::Worker;

/// The register whose stores ring a queue's doorbell: its value is the queue's number.
pub const QUEUE_NOTIFY: u64 = 0x50;

/// Offsets (table 4.1).
mod register {
    pub const MAGIC: u64 = 0x00;
    pub const VERSION: u64 = 0x04;
    pub const DEVICE: u64 = 0x08;
    pub const VENDOR: u64 = 0x0c;
    pub const DEVICE_FEATURES: u64 = 0x10;
    pub const DEVICE_FEATURES_SEL: u64 = 0x14;
    pub const DRIVER_FEATURES: u64 = 0x20;
    pub const DRIVER_FEATURES_SEL: u64 = 0x24;
    pub const QUEUE_SEL: u64 = 0x30;
    pub const QUEUE_SIZE_MAX: u64 = 0x34;
    pub const QUEUE_SIZE: u64 = 0x38;
    pub const QUEUE_READY: u64 = 0x44;
    pub const INTERRUPT_STATUS: u64 = 0x60;
    pub const INTERRUPT_ACK: u64 = 0x64;
    pub const STATUS: u64 = 0x70;
    pub const QUEUE_DESC: u64 = 0x80;
    pub const QUEUE_DRIVER: u64 = 0x90;
    pub const QUEUE_DEVICE: u64 = 0xa0;
    pub const SHM: std::ops::RangeInclusive<u64> = 0xb0..=0xbc;
    pub const GENERATION: u64 = 0xfc;
    pub const CONFIG: u64 = 0x100;
}

/// Bits of the device status (2.1).
pub mod status {
    /// The guest has noticed the device.
    pub const ACKNOWLEDGE: u32 = 1;
    /// It knows how to drive it.
    pub const DRIVER: u32 = 2;
    /// The driver is ready.
    pub const DRIVER_OK: u32 = 4;
    /// Features are settled.
    pub const FEATURES_OK: u32 = 8;
    /// The device cannot go on without a reset.
    pub const NEEDS_RESET: u32 = 64;
    /// The driver has given up.
    pub const FAILED: u32 = 128;
    /// What a driver may set.
    pub(super) const DRIVERS: u32 = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED;
}

/// VIRTIO_F_VERSION_1 (6): without it a driver speaks another language.
pub const VERSION_1: u64 = 1 << 32;
/// "virt".
const MAGIC: u32 = 0x7472_6976;
/// "PRVN".
const VENDOR: u32 = 0x4e56_5250;

/// A device, and what its driver has said so far.
pub struct MmioTransport {
    device: Arc<Mutex<Box<dyn Device>>>,
    lines: Arc<Lines>,
    memory: GuestMemoryMmap,
    doorbells: Vec<EventFd>,
    queues: Vec<Queue>,
    sizes: Vec<u16>,
    offered: u64,
    accepted: u64,
    device_features_sel: u32,
    driver_features_sel: u32,
    queue_sel: usize,
    status: u32,
    worker: Option<Worker>,
}

impl MmioTransport {
    /// Registers in front of a device that no driver has found yet.
    ///
    /// # Errors
    /// No eventfd is to be had, or a queue's size is no power of two.
    pub fn new(
        device: Box<dyn Device>,
        memory: GuestMemoryMmap,
        interrupt: Arc<dyn Interrupt>,
    ) -> io::Result<Self> {
        let sizes = device.queue_sizes().to_vec();
        let doorbells = sizes.iter().map(|_| EventFd::new(EFD_NONBLOCK));
        Ok(Self {
            doorbells: doorbells.collect::<io::Result<_>>()?,
            queues: queues(&sizes)?,
            sizes,
            offered: device.features() | VERSION_1,
            device: Arc::new(Mutex::new(device)),
            lines: Arc::new(Lines::new(interrupt)),
            memory,
            accepted: 0,
            device_features_sel: 0,
            driver_features_sel: 0,
            queue_sel: 0,
            status: 0,
            worker: None,
        })
    }

    /// The doorbells, by queue: the VMM has a store of the queue's number to [`QUEUE_NOTIFY`] ring them.
    pub fn doorbells(&self) -> &[EventFd] {
        &self.doorbells
    }

    /// Read at an offset. Registers are of 32 bits; what is read otherwise is 0. The device's configuration is read
    /// at any width.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        into.fill(0);
        if let Some(offset) = offset.checked_sub(register::CONFIG) {
            return self.device().read_config(offset, into);
        }
        if into.len() != 4 {
            return;
        }
        for (to, byte) in into.iter_mut().zip(self.register(offset).to_le_bytes()) {
            *to = byte;
        }
    }

    fn register(&self, offset: u64) -> u32 {
        let queue = self.queues.get(self.queue_sel);
        match offset {
            register::MAGIC => MAGIC,
            register::VERSION => 2,
            register::DEVICE => self.device().device_type(),
            register::VENDOR => VENDOR,
            register::DEVICE_FEATURES => half(self.offered, self.device_features_sel),
            register::QUEUE_SIZE_MAX => queue.map_or(0, |queue| u32::from(queue.max_size())),
            register::QUEUE_READY => queue.map_or(0, |queue| u32::from(queue.ready())),
            register::INTERRUPT_STATUS => self.lines.status(),
            register::STATUS => self.status(),
            register::GENERATION => self.lines.generation(),
            // There is no shared memory: a length and a base of all ones (4.2.2.1).
            offset if register::SHM.contains(&offset) => u32::MAX,
            _ => 0,
        }
    }

    fn status(&self) -> u32 {
        match self.lines.needs_reset() {
            true => self.status | status::NEEDS_RESET,
            false => self.status,
        }
    }

    /// Write at an offset, likewise; what the driver may not write there and then is ignored.
    pub fn write(&mut self, offset: u64, from: &[u8]) {
        if let Some(offset) = offset.checked_sub(register::CONFIG) {
            return self.device().write_config(offset, from);
        }
        let Ok(value) = from.try_into().map(u32::from_le_bytes) else {
            return;
        };
        match offset {
            register::DEVICE_FEATURES_SEL => self.device_features_sel = value,
            register::DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            register::DRIVER_FEATURES => self.accept(value),
            register::QUEUE_SEL => self.queue_sel = value as usize,
            QUEUE_NOTIFY => {
                if let Some(doorbell) = self.doorbells.get(value as usize) {
                    // Full, it has rung already.
                    let _ = doorbell.write(1);
                }
            }
            register::INTERRUPT_ACK => self.lines.acknowledge(value),
            register::STATUS => self.set_status(value),
            _ => self.set_queue(offset, value),
        }
    }

    /// Features, a half at a time, until they are settled.
    fn accept(&mut self, value: u32) {
        if self.status & (status::DRIVER | status::FEATURES_OK) != status::DRIVER {
            return;
        }
        let shift = match self.driver_features_sel {
            0 => 0,
            1 => 32,
            _ => return,
        };
        self.accepted = self.accepted & !(0xffff_ffff << shift) | u64::from(value) << shift;
    }

    /// A register of the selected queue: between FEATURES_OK and DRIVER_OK, while it is not ready.
    fn set_queue(&mut self, offset: u64, value: u32) {
        let is_time =
            self.status & (status::FEATURES_OK | status::DRIVER_OK) == status::FEATURES_OK;
        let Some(queue) = self.queues.get_mut(self.queue_sel).filter(|_| is_time) else {
            return;
        };
        if offset == register::QUEUE_READY {
            queue.set_ready(value == 1);
            // A queue that is not whole in memory never gets ready.
            if value == 1 && !queue.is_valid(&self.memory) {
                queue.set_ready(false);
            }
            return;
        }
        if queue.ready() {
            return;
        }
        let (low, high) = match offset & 4 {
            0 => (Some(value), None),
            _ => (None, Some(value)),
        };
        match offset & !4 {
            register::QUEUE_SIZE => {
                // One that is refused leaves the largest, as after a reset.
                if let Ok(size) = value.try_into() {
                    queue.set_size(size);
                }
            }
            register::QUEUE_DESC => queue.set_desc_table_address(low, high),
            register::QUEUE_DRIVER => queue.set_avail_ring_address(low, high),
            register::QUEUE_DEVICE => queue.set_used_ring_address(low, high),
            _ => {}
        }
    }

    /// The driver only ever sets bits, or resets (2.1.1).
    fn set_status(&mut self, value: u32) {
        if value == 0 {
            return self.reset();
        }
        let new = value & status::DRIVERS & !self.status;
        if new & status::FEATURES_OK != 0 {
            let is_legal = self.status & status::DRIVER != 0
                && self.accepted & !self.offered == 0
                && self.accepted & VERSION_1 != 0;
            if !is_legal {
                // The driver reads the bit back (3.1.1).
                self.status |= new & !(status::FEATURES_OK | status::DRIVER_OK);
                return;
            }
        }
        self.status |= new;
        if new & status::DRIVER_OK != 0 {
            self.start();
        }
    }

    fn start(&mut self) {
        if self.status & status::FEATURES_OK == 0 || self.lines.needs_reset() {
            return self.lines.fail();
        }
        let queues = std::mem::take(&mut self.queues);
        let event_idx = self.accepted & crate::EVENT_IDX != 0;
        let mut given = Vec::new();
        for mut queue in queues {
            queue.set_event_idx(event_idx);
            // The driver may read what it wrote.
            self.queues.extend(copy_of(&queue));
            given.push(queue);
        }
        let memory = self.memory.clone();
        let started = self.device().activate(memory, self.accepted, given).is_ok();
        let worker = Worker::start(&self.device, &self.lines, &self.doorbells);
        match worker {
            Ok(worker) if started => self.worker = Some(worker),
            _ => self.lines.fail(),
        }
    }

    fn reset(&mut self) {
        // It ends what is under way first.
        self.worker = None;
        self.device().reset();
        for doorbell in &self.doorbells {
            let _ = doorbell.read();
        }
        self.lines.reset();
        // The sizes made queues once.
        self.queues = queues(&self.sizes).unwrap_or_default();
        (self.accepted, self.status, self.queue_sel) = (0, 0, 0);
        (self.device_features_sel, self.driver_features_sel) = (0, 0);
    }

    fn device(&self) -> MutexGuard<'_, Box<dyn Device>> {
        lock(&self.device)
    }
}

impl Drop for MmioTransport {
    fn drop(&mut self) {
        self.reset();
    }
}

/// A device whose thread panicked is as it was then; the process ends for it.
pub(crate) fn lock(device: &Mutex<Box<dyn Device>>) -> MutexGuard<'_, Box<dyn Device>> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

fn queues(sizes: &[u16]) -> io::Result<Vec<Queue>> {
    let queues = sizes.iter().map(|size| Queue::new(*size));
    queues.collect::<Result<_, _>>().map_err(io::Error::other)
}

/// A queue with the same registers.
fn copy_of(queue: &Queue) -> Option<Queue> {
    Queue::try_from(queue.state()).ok()
}

fn half(features: u64, which: u32) -> u32 {
    match which {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
