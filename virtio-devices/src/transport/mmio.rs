//! virtio over MMIO, version 2 (virtio 1.2, 4.2): the register block. Called by the VMM's bus, on a
//! vCPU's thread. Never touches a queue's contents: the worker does, on its own thread.
//!
//! What a driver MUST NOT do has a verdict here, and a test each in `mmio_tests.rs`:
//!
//! | a driver ... | verdict |
//! |---|---|
//! | accesses a register other than by an aligned 32-bit access | reads 0, writes are ignored |
//! | clears a status bit other than by a reset, or sets NEEDS_RESET | ignored |
//! | takes a step of the initialization before the one it needs | the step's status bit stays 0 |
//! | accepts features that were not offered, or not VERSION_1 | FEATURES_OK stays 0 |
//! | writes features after FEATURES_OK, or before DRIVER | ignored |
//! | sets up queues before FEATURES_OK or after DRIVER_OK | ignored |
//! | writes registers of a ready queue | ignored |
//! | makes a queue ready that has bad rings | QueueReady stays 0; NEEDS_RESET at DRIVER_OK |
//! | rings a doorbell before DRIVER_OK, or one of no queue | ignored |

use std::sync::{Arc, Mutex};
use std::time::Instant;

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
};
use virtio_bindings::virtio_mmio as register;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Interrupt;
use super::setup::{QueueSetup, set_high, set_low};
use super::shared::{Counts, Shared};
use crate::device::{Activation, Device, feature};
use crate::queue::VirtQueue;
use crate::rate::{Limiter, Limits};
use crate::worker::Worker;

/// The size of the window, in bytes: registers below [`CONFIG`], configuration space above.
pub const MMIO_SIZE: u64 = 0x1000;
/// Where configuration space starts.
pub const CONFIG: u64 = register::VIRTIO_MMIO_CONFIG as u64;
/// Where a doorbell is rung, by a 32-bit write of the queue's index.
pub const QUEUE_NOTIFY: u64 = register::VIRTIO_MMIO_QUEUE_NOTIFY as u64;

/// Where the device status is: 0 resets the device.
pub const STATUS: u64 = register::VIRTIO_MMIO_STATUS as u64;

/// "virt", little-endian.
const MAGIC: u32 = 0x7472_6976;
/// Version 2: not the legacy interface.
const VERSION: u32 = 2;
/// The vendor: "PVNE", little-endian.
const VENDOR: u32 = 0x454e_5650;
/// QueueReset, which is for VIRTIO_F_RING_RESET alone; not offered.
const QUEUE_RESET: u32 = 0xc0;

/// The steps of an initialization (3.1.1), each of which needs the one before.
const STEPS: [u32; 4] = [
    VIRTIO_CONFIG_S_ACKNOWLEDGE,
    VIRTIO_CONFIG_S_DRIVER,
    VIRTIO_CONFIG_S_FEATURES_OK,
    VIRTIO_CONFIG_S_DRIVER_OK,
];

/// A device behind virtio-mmio registers.
pub struct MmioTransport {
    device: Box<dyn Device>,
    memory: GuestMemoryMmap,
    shared: Arc<Shared>,
    doorbells: Vec<EventFd>,
    queues: Vec<QueueSetup>,
    /// Queues that were ready at some time and are not refused: their rings.
    rings: Vec<Option<Queue>>,
    queue_select: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    /// Features that are not offered, though the device has them.
    withheld: u64,
    /// What the device may do in a time; resets change nothing of it.
    limiter: Option<Arc<Mutex<Limiter>>>,
    /// Why the driver cannot have what it set up.
    refused: Option<String>,
    worker: Option<Worker>,
}

impl MmioTransport {
    /// Put a device behind registers. Nothing runs until a driver sets DRIVER_OK.
    ///
    /// # Errors
    /// The host has no more file descriptors for doorbells.
    pub fn new(
        mut device: Box<dyn Device>,
        memory: GuestMemoryMmap,
        interrupt: Arc<dyn Interrupt>,
    ) -> std::io::Result<Self> {
        let shared = Shared::new(interrupt);
        let sizes = device.queue_sizes();
        let queues: Vec<_> = sizes.iter().map(|max| QueueSetup::new(*max)).collect();
        let doorbells = sizes.iter().map(|_| EventFd::new(EFD_NONBLOCK));
        let doorbells = doorbells.collect::<Result<_, _>>()?;
        let tell = Arc::clone(&shared);
        device.on_config_change(Arc::new(move || tell.config_changed()));
        Ok(MmioTransport {
            device,
            memory,
            shared,
            doorbells,
            rings: queues.iter().map(|_| None).collect(),
            queues,
            queue_select: 0,
            device_features_select: 0,
            driver_features_select: 0,
            driver_features: 0,
            withheld: 0,
            limiter: None,
            refused: None,
            worker: None,
        })
    }

    /// Do not offer features that the device has, to compare with and without. Before any driver.
    pub fn withhold(&mut self, features: u64) {
        self.withheld = features;
    }

    /// Let the device do no more than this in a time. Before any driver.
    pub fn limit(&mut self, limits: Limits) {
        let limiter = || Arc::new(Mutex::new(Limiter::new(limits, Instant::now())));
        self.limiter = limits.is_some().then(limiter);
    }

    fn offered(&self) -> u64 {
        self.device.features() & !self.withheld
    }

    /// One eventfd a queue: an ioeventfd at [`QUEUE_NOTIFY`], 4 bytes, with the queue's index as its
    /// data, spares the exit.
    #[must_use]
    pub fn doorbells(&self) -> &[EventFd] {
        &self.doorbells
    }

    /// The device's type, for a boot table.
    #[must_use]
    pub fn device_type(&self) -> u32 {
        self.device.device_type()
    }

    /// Why the device needs a reset, if it does: for a report.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.shared.reason()
    }

    /// Why the device last needed a reset, since it was made.
    #[must_use]
    pub fn last_fault(&self) -> Option<String> {
        self.shared.last_reason()
    }

    /// What the device has done since it was made.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// A read of the window. Every width and alignment is defined: see the module.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        into.fill(0);
        if let Some(offset) = offset.checked_sub(CONFIG) {
            self.device.read_config(offset, into);
            return;
        }
        if let (Some(register), [_, _, _, _]) = (aligned(offset), &into) {
            into.copy_from_slice(&self.read_register(register).to_le_bytes());
        }
    }

    /// A write to the window. Every width and alignment is defined: see the module.
    pub fn write(&mut self, offset: u64, from: &[u8]) {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            self.device.write_config(offset, from);
            return;
        }
        if let (Some(register), Ok(value)) = (aligned(offset), from.try_into()) {
            self.write_register(register, u32::from_le_bytes(value));
        }
    }

    /// Registers that can be read; those that can only be written read 0.
    fn read_register(&self, register: u32) -> u32 {
        let queue = self.queues.get(self.queue_select as usize);
        match register {
            register::VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            register::VIRTIO_MMIO_VERSION => VERSION,
            register::VIRTIO_MMIO_DEVICE_ID => self.device.device_type(),
            register::VIRTIO_MMIO_VENDOR_ID => VENDOR,
            register::VIRTIO_MMIO_DEVICE_FEATURES => {
                half(self.offered(), self.device_features_select)
            }
            register::VIRTIO_MMIO_QUEUE_NUM_MAX => queue.map_or(0, |queue| queue.max().into()),
            register::VIRTIO_MMIO_QUEUE_READY => queue.map_or(0, |queue| queue.is_ready.into()),
            register::VIRTIO_MMIO_INTERRUPT_STATUS => self.shared.pending(),
            register::VIRTIO_MMIO_STATUS => self.shared.status(),
            // A length of all ones: no such shared memory region (4.2.2).
            register::VIRTIO_MMIO_SHM_LEN_LOW
            | register::VIRTIO_MMIO_SHM_LEN_HIGH
            | register::VIRTIO_MMIO_SHM_BASE_LOW
            | register::VIRTIO_MMIO_SHM_BASE_HIGH => u32::MAX,
            register::VIRTIO_MMIO_CONFIG_GENERATION => self.shared.generation(),
            _ => 0,
        }
    }

    fn write_register(&mut self, register: u32, value: u32) {
        match register {
            register::VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.device_features_select = value,
            register::VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.driver_features_select = value,
            register::VIRTIO_MMIO_DRIVER_FEATURES => self.accept_features(value),
            register::VIRTIO_MMIO_QUEUE_SEL => self.queue_select = value,
            register::VIRTIO_MMIO_QUEUE_READY => self.set_ready(value),
            register::VIRTIO_MMIO_QUEUE_NOTIFY => self.ring(value),
            register::VIRTIO_MMIO_INTERRUPT_ACK => self.shared.acknowledge(value),
            register::VIRTIO_MMIO_STATUS => self.set_status(value),
            QUEUE_RESET => {}
            _ => self.set_up_queue(register, value),
        }
    }

    /// Features may be chosen from DRIVER until FEATURES_OK (3.1.1).
    fn accept_features(&mut self, value: u32) {
        let status = self.shared.status();
        let is_time = status & VIRTIO_CONFIG_S_DRIVER != 0;
        if !is_time || status & VIRTIO_CONFIG_S_FEATURES_OK != 0 {
            return;
        }
        match self.driver_features_select {
            0 => set_low(&mut self.driver_features, value),
            1 => set_high(&mut self.driver_features, value),
            // There are no features there: a driver that sets one has accepted what was not offered.
            _ if value != 0 => self.refuse("the driver accepted features above bit 63".into()),
            _ => {}
        }
    }

    /// Whether the driver may choose the rings of the queues.
    fn is_setup_time(&self) -> bool {
        let status = self.shared.status();
        status & VIRTIO_CONFIG_S_FEATURES_OK != 0 && status & VIRTIO_CONFIG_S_DRIVER_OK == 0
    }

    /// The registers of the selected queue, which stand while it is ready.
    fn set_up_queue(&mut self, register: u32, value: u32) {
        if !self.is_setup_time() {
            return;
        }
        let Some(queue) = self.queues.get_mut(self.queue_select as usize) else {
            return;
        };
        if queue.is_ready {
            return;
        }
        match register {
            register::VIRTIO_MMIO_QUEUE_NUM => queue.size = value,
            register::VIRTIO_MMIO_QUEUE_DESC_LOW => set_low(&mut queue.descriptors, value),
            register::VIRTIO_MMIO_QUEUE_DESC_HIGH => set_high(&mut queue.descriptors, value),
            register::VIRTIO_MMIO_QUEUE_AVAIL_LOW => set_low(&mut queue.available, value),
            register::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => set_high(&mut queue.available, value),
            register::VIRTIO_MMIO_QUEUE_USED_LOW => set_low(&mut queue.used, value),
            register::VIRTIO_MMIO_QUEUE_USED_HIGH => set_high(&mut queue.used, value),
            _ => {}
        }
    }

    /// QueueReady: 1 once the rings are good, 0 at any time; the device is done with the queue when
    /// the write of 0 returns.
    fn set_ready(&mut self, value: u32) {
        let index = self.queue_select as usize;
        let is_setup_time = self.is_setup_time();
        let (Some(queue), Some(ring)) = (self.queues.get_mut(index), self.rings.get_mut(index))
        else {
            return;
        };
        match value {
            0 => {
                queue.is_ready = false;
                *ring = None;
                if let Some(worker) = &self.worker {
                    worker.disable(index);
                }
            }
            1 if is_setup_time && !queue.is_ready => match queue.ring(&self.memory) {
                Ok(checked) => {
                    *ring = Some(checked);
                    queue.is_ready = true;
                }
                Err(what) => self.refuse(format!("queue {index} {what}")),
            },
            _ => {}
        }
    }

    /// A doorbell that came as an exit.
    fn ring(&self, queue: u32) {
        if !self.shared.is_live() {
            return;
        }
        if let Some(doorbell) = self.doorbells.get(queue as usize) {
            // It fails only when the counter is full: then it rings already.
            let _ = doorbell.write(1);
        }
    }

    /// The status register: 0 resets, other values add steps, in their order.
    fn set_status(&mut self, value: u32) {
        if value == 0 {
            return self.reset();
        }
        self.shared.add_status(value & VIRTIO_CONFIG_S_FAILED);
        for (place, step) in STEPS.into_iter().enumerate() {
            let before = place.checked_sub(1).and_then(|before| STEPS.get(before));
            let status = self.shared.status();
            let is_new = value & step != 0 && status & step == 0;
            if is_new && before.is_none_or(|before| status & before != 0) {
                self.take_step(step);
            }
        }
    }

    fn take_step(&mut self, step: u32) {
        let is_taken = match step {
            VIRTIO_CONFIG_S_FEATURES_OK => self.has_legal_features(),
            _ => true,
        };
        if is_taken {
            self.shared.add_status(step);
        }
        if step == VIRTIO_CONFIG_S_DRIVER_OK {
            self.start();
        }
    }

    /// Whether the driver's choice is a subset of the offer, with VERSION_1 (2.2, 6.1).
    fn has_legal_features(&self) -> bool {
        let extra = self.driver_features & !self.offered();
        extra == 0 && self.driver_features & feature::VERSION_1 != 0 && self.refused.is_none()
    }

    /// DRIVER_OK: make the data path and let it run.
    fn start(&mut self) {
        if let Some(why) = self.refused.take() {
            return self.shared.needs_reset(why);
        }
        let unready = |max| Queue::new(max).ok();
        let rings = self.queues.iter().zip(&mut self.rings).enumerate();
        let queues = rings.filter_map(|(index, (queue, ring))| {
            let ring = ring.take().or_else(|| unready(queue.max()))?;
            let (memory, features) = (self.memory.clone(), self.driver_features);
            let mut queue = VirtQueue::new(index, ring, memory, features);
            if let Some(limiter) = &self.limiter {
                queue.limit(Arc::clone(limiter), self.device.fills_buffers());
            }
            Some(queue)
        });
        let queues = queues.collect();
        // The doorbells that the worker hears; the others are for the device to give away.
        let (heard, given) = match self.device.gives_doorbells_away() {
            true => (&[][..], self.doorbells.as_slice()),
            false => (self.doorbells.as_slice(), &[][..]),
        };
        let given = given.iter().map(EventFd::try_clone);
        let given = given.collect::<std::io::Result<_>>();
        let given = given.map_err(|error| format!("the host refused doorbells: {error}"));
        let started = given.and_then(|doorbells| {
            let activation = Activation {
                queues,
                memory: self.memory.clone(),
                features: self.driver_features,
                doorbells,
            };
            let path = self.device.activate(activation);
            path.map_err(|error| error.to_string())
        });
        let started = started.and_then(|path| {
            Worker::start(path, heard, Arc::clone(&self.shared))
                .map_err(|error| format!("the host refused a worker: {error}"))
        });
        match started {
            Ok(worker) => self.worker = Some(worker),
            Err(why) => self.shared.needs_reset(why),
        }
    }

    /// Note what a driver cannot have; the first reason is kept.
    fn refuse(&mut self, why: String) {
        self.refused.get_or_insert(why);
    }

    /// Stop the worker, wait until its I/O has ended, and forget the driver.
    fn reset(&mut self) {
        self.worker = None;
        self.device.reset();
        self.queues.iter_mut().for_each(QueueSetup::reset);
        self.rings.fill_with(|| None);
        self.queue_select = 0;
        self.device_features_select = 0;
        self.driver_features_select = 0;
        self.driver_features = 0;
        self.refused = None;
        let is_ours = !self.device.gives_doorbells_away();
        for doorbell in self.doorbells.iter().filter(|_| is_ours) {
            // Rings for the driver before: an empty counter is an error, and no matter.
            let _ = doorbell.read();
        }
        self.shared.reset();
    }

    /// Whether the device waits for a reset.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.shared.status() & VIRTIO_CONFIG_S_NEEDS_RESET != 0
    }
}

/// The register at an offset below [`CONFIG`], if the offset is one's.
fn aligned(offset: u64) -> Option<u32> {
    let register = u32::try_from(offset).ok()?;
    register.is_multiple_of(4).then_some(register)
}

/// One 32-bit half of the features; there is nothing beyond the second.
fn half(features: u64, select: u32) -> u32 {
    match select {
        // Truncation takes the low half.
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

#[cfg(test)]
#[path = "mmio_tests.rs"]
mod tests;
