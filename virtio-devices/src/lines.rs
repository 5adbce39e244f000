//! What a device tells its driver besides its queues: interrupts, and that it cannot go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Raises a device's interrupt: an irqfd, or a message.
pub trait Interrupt: Send + Sync {
    /// Raise it.
    fn signal(&self);
}

/// Bits of InterruptStatus (virtio 1.2, 4.2.2).
const USED: u32 = 1;
const CONFIG: u32 = 2;

/// Shared by a device's registers and its thread.
pub(crate) struct Lines {
    interrupt: Arc<dyn Interrupt>,
    status: AtomicU32,
    generation: AtomicU32,
    needs_reset: AtomicBool,
}

impl Lines {
    pub fn new(interrupt: Arc<dyn Interrupt>) -> Self {
        Self {
            interrupt,
            status: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            needs_reset: AtomicBool::new(false),
        }
    }

    /// Buffers were used, and the driver wants to hear of it.
    pub fn used(&self) {
        self.status.fetch_or(USED, Ordering::Release);
        self.interrupt.signal();
    }

    /// The device cannot go on (2.1.2).
    pub fn fail(&self) {
        self.needs_reset.store(true, Ordering::Release);
        self.generation.fetch_add(1, Ordering::Release);
        self.status.fetch_or(CONFIG, Ordering::Release);
        self.interrupt.signal();
    }

    pub fn needs_reset(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire)
    }

    pub fn status(&self) -> u32 {
        self.status.load(Ordering::Acquire)
    }

    pub fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::AcqRel);
    }

    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn reset(&self) {
        self.needs_reset.store(false, Ordering::Release);
        self.status.store(0, Ordering::Release);
    }
}
