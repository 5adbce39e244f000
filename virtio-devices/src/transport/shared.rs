//! What a transport and its worker share: device status, interrupt status, the interrupt itself.
//! Called by both. Never knows queues or devices.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_bindings::virtio_config::{VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_NEEDS_RESET};
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};

use super::Interrupt;

/// See the module.
pub(crate) struct Shared {
    /// The device status field (virtio 1.2, 2.1).
    status: AtomicU32,
    /// InterruptStatus (4.2.2).
    pending: AtomicU32,
    /// ConfigGeneration (4.2.2, 2.5.1).
    generation: AtomicU32,
    /// Why the device needs a reset.
    fault: Mutex<Option<String>>,
    /// Why it last needed one; resets do not change that.
    last_fault: Mutex<Option<String>>,
    line: Arc<dyn Interrupt>,
    counts: [AtomicU64; 4],
}

/// What a device has done since it was made; resets do not change that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stores to QueueNotify.
    pub doorbells: u64,
    /// Interrupts to the driver.
    pub interrupts: u64,
    /// Bytes of payload that this process copied, instead of having the kernel move them between
    /// guest memory and what is behind the device.
    pub copied: u64,
    /// Time on a processor of workers that have ended, in nanoseconds.
    pub cpu_ns: u64,
}

/// The places of counts.
pub(crate) enum Counted {
    Doorbells,
    Interrupts,
    Copied,
    CpuNs,
}

impl Shared {
    pub fn new(line: Arc<dyn Interrupt>) -> Arc<Self> {
        Arc::new(Shared {
            status: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            fault: Mutex::new(None),
            last_fault: Mutex::new(None),
            line,
            counts: Default::default(),
        })
    }

    /// The device status.
    pub fn status(&self) -> u32 {
        self.status.load(Ordering::SeqCst)
    }

    /// Whether the driver drives the device.
    pub fn is_live(&self) -> bool {
        self.status() & VIRTIO_CONFIG_S_DRIVER_OK != 0
    }

    /// Add bits to the device status.
    pub fn add_status(&self, bits: u32) {
        self.status.fetch_or(bits, Ordering::SeqCst);
    }

    /// Back to the state before any driver. Only while no worker runs.
    pub fn reset(&self) {
        self.status.store(0, Ordering::SeqCst);
        self.pending.store(0, Ordering::SeqCst);
        *self.fault() = None;
    }

    /// Tell the driver of used buffers.
    pub fn used(&self) {
        self.interrupt(VIRTIO_MMIO_INT_VRING);
    }

    /// Tell the driver that the configuration has changed. A driver that is not there yet reads it
    /// anyway, but may be in the middle of that: the generation always changes.
    pub fn config_changed(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        if self.is_live() {
            self.interrupt(VIRTIO_MMIO_INT_CONFIG);
        }
    }

    /// The device cannot go on; the first reason is kept. A driver that runs is told (2.1.2).
    pub fn needs_reset(&self, why: String) {
        let last = self.fault().get_or_insert(why).clone();
        *whole(&self.last_fault) = Some(last);
        self.add_status(VIRTIO_CONFIG_S_NEEDS_RESET);
        if self.is_live() {
            self.interrupt(VIRTIO_MMIO_INT_CONFIG);
        }
    }

    /// Tell a driver again of a change of the configuration that it has not acknowledged; false when it has,
    /// or is gone.
    pub fn tell_again(&self) -> bool {
        let is_unheard = self.is_live() && self.pending() & VIRTIO_MMIO_INT_CONFIG != 0;
        if is_unheard {
            self.interrupt(VIRTIO_MMIO_INT_CONFIG);
        }
        is_unheard
    }

    /// Why the device needs a reset.
    pub fn reason(&self) -> Option<String> {
        self.fault().clone()
    }

    /// Why the device last needed a reset, since it was made.
    pub fn last_reason(&self) -> Option<String> {
        whole(&self.last_fault).clone()
    }

    /// InterruptStatus.
    pub fn pending(&self) -> u32 {
        self.pending.load(Ordering::SeqCst)
    }

    /// InterruptACK.
    pub fn acknowledge(&self, bits: u32) {
        self.pending.fetch_and(!bits, Ordering::SeqCst);
    }

    /// ConfigGeneration.
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::SeqCst)
    }

    /// The cause first, then the interrupt: its handler reads the cause.
    fn interrupt(&self, cause: u32) {
        self.pending.fetch_or(cause, Ordering::SeqCst);
        self.count(Counted::Interrupts, 1);
        self.line.signal();
    }

    /// Count something.
    pub fn count(&self, what: Counted, more: u64) {
        if let Some(count) = self.counts.get(what as usize) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        let [doorbells, interrupts, copied, cpu_ns] = &self.counts;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            doorbells: get(doorbells),
            interrupts: get(interrupts),
            copied: get(copied),
            cpu_ns: get(cpu_ns),
        }
    }

    fn fault(&self) -> MutexGuard<'_, Option<String>> {
        whole(&self.fault)
    }
}

/// A poisoned lock holds a whole value all the same.
fn whole<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
