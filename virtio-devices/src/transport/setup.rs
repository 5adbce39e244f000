//! A queue as a driver sets it up, register by register, and the check of it. Called by
//! [`super::mmio`]. Never touches the rings.

use std::ops::Range;

use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// The registers of one queue (virtio 1.2, 4.2.2).
pub(super) struct QueueSetup {
    /// QueueNumMax.
    max: u16,
    /// QueueNum, as written.
    pub size: u32,
    /// QueueDesc, QueueDriver and QueueDevice.
    pub descriptors: u64,
    /// See `descriptors`.
    pub available: u64,
    /// See `descriptors`.
    pub used: u64,
    /// QueueReady.
    pub is_ready: bool,
}

impl QueueSetup {
    pub fn new(max: u16) -> Self {
        QueueSetup {
            max,
            size: 0,
            descriptors: 0,
            available: 0,
            used: 0,
            is_ready: false,
        }
    }

    /// QueueNumMax.
    pub fn max(&self) -> u16 {
        self.max
    }

    /// The ring, if the driver may use it as it is.
    ///
    /// # Errors
    /// What is wrong, as a sentence fragment.
    pub fn ring(&self, memory: &GuestMemoryMmap) -> Result<Queue, &'static str> {
        const SIZE: &str = "has a size that is no power of two up to its maximum";
        let mut ring = Queue::new(self.max).map_err(|_| "has no legal maximum size")?;
        let size = u16::try_from(self.size).map_err(|_| SIZE)?;
        ring.try_set_size(size).map_err(|_| SIZE)?;
        ring.try_set_desc_table_address(GuestAddress(self.descriptors))
            .map_err(|_| "has a descriptor table that is not 16-byte aligned")?;
        ring.try_set_avail_ring_address(GuestAddress(self.available))
            .map_err(|_| "has an available ring that is not 2-byte aligned")?;
        ring.try_set_used_ring_address(GuestAddress(self.used))
            .map_err(|_| "has a used ring that is not 4-byte aligned")?;
        // virtio-queue takes the address 0 for a queue that was reset.
        if self.available == 0 {
            return Err("has an available ring at address 0");
        }
        ring.set_ready(true);
        if !ring.is_valid(memory) {
            return Err("has a ring outside memory");
        }
        if self.has_overlap(u64::from(size)) {
            return Err("has rings that overlap");
        }
        Ok(ring)
    }

    /// Whether two of the three parts share a byte. Their ends are inside memory, so no sum wraps.
    fn has_overlap(&self, size: u64) -> bool {
        // 2.7: the sizes of the parts, with the event words.
        let part = |at: u64, len: u64| at..at.saturating_add(len);
        let parts = [
            part(self.descriptors, 16 * size),
            part(self.available, 6 + 2 * size),
            part(self.used, 6 + 8 * size),
        ];
        let meet = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
        let [descriptors, available, used] = &parts;
        meet(descriptors, available) || meet(descriptors, used) || meet(available, used)
    }

    /// Back to what it was before any driver.
    pub fn reset(&mut self) {
        *self = QueueSetup::new(self.max);
    }
}

/// Replace one half of a 64-bit register.
pub(super) fn set_low(register: &mut u64, value: u32) {
    *register = *register & !0xffff_ffff | u64::from(value);
}

/// See [`set_low`].
pub(super) fn set_high(register: &mut u64, value: u32) {
    *register = *register & 0xffff_ffff | u64::from(value) << 32;
}
