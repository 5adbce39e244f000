//! A queue as devices use it: `virtio-queue`'s ring, with each chain checked and each rule of
//! notification kept (virtio 1.2, 2.7.6 to 2.7.10). Called by data paths. Never knows requests.

use std::sync::atomic::Ordering;

use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Error, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::chain::{Chain, ChainError, Table};
use crate::device::{DeviceError, Served, feature};

/// A queue that a driver has set up, or left out.
pub struct VirtQueue {
    index: usize,
    ring: Queue,
    memory: GuestMemoryMmap,
    is_indirect_allowed: bool,
}

impl VirtQueue {
    /// Wrap a ring whose addresses were checked; one that is not ready has no requests.
    pub(crate) fn new(
        index: usize,
        mut ring: Queue,
        memory: GuestMemoryMmap,
        features: u64,
    ) -> Self {
        ring.set_event_idx(features & feature::EVENT_IDX != 0);
        VirtQueue {
            index,
            ring,
            memory,
            is_indirect_allowed: features & feature::INDIRECT_DESC != 0,
        }
    }

    /// How many descriptors the driver gave the queue.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.ring.size()
    }

    /// Whether the driver has set the queue up, and not disabled it since.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ring.ready()
    }

    /// Use the queue no more.
    pub fn disable(&mut self) {
        self.ring.set_ready(false);
    }

    /// Take the next request; returns whether there was one.
    ///
    /// # Errors
    /// [`DeviceError::Queue`] for an index or a chain that breaks the rules.
    pub fn pop(&mut self, chain: &mut Chain) -> Result<bool, DeviceError> {
        if !self.ring.ready() {
            return Ok(false);
        }
        let table = Table {
            at: GuestAddress(self.ring.desc_table()),
            len: self.ring.size(),
        };
        let head = match self.ring.iter(&self.memory) {
            Ok(mut heads) => heads.next().map(|chain| chain.head_index()),
            Err(error) => return Err(self.failed(error)),
        };
        let Some(head) = head else { return Ok(false) };
        chain
            .read(&self.memory, table, self.is_indirect_allowed, head)
            .map_err(|what| self.broken(what))?;
        Ok(true)
    }

    /// Give a request back, with the count of bytes that were written to its buffers.
    ///
    /// # Errors
    /// [`DeviceError::Queue`] when the used ring cannot be reached.
    pub fn push_used(&mut self, head: u16, written: u32) -> Result<(), DeviceError> {
        self.ring
            .add_used(&self.memory, head, written)
            .map_err(|error| self.failed(error))
    }

    /// Whether the driver wants an interrupt for what was given back since the last call.
    ///
    /// # Errors
    /// As [`VirtQueue::push_used`].
    pub fn needs_interrupt(&mut self) -> Result<bool, DeviceError> {
        let is_wanted = self.ring.needs_notification(&self.memory);
        let is_wanted = is_wanted.map_err(|error| self.failed(error))?;
        if self.ring.event_idx_enabled() {
            return Ok(is_wanted);
        }
        // Without EVENT_IDX, flags of the available ring decide (2.7.7.2); virtio-queue leaves
        // them to its caller.
        let at = GuestAddress(self.ring.avail_ring());
        let flags: u16 = self
            .memory
            .load(at, Ordering::Relaxed)
            .map_err(|error| self.broken(ChainError::Ring(error.to_string())))?;
        Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }

    /// Hand requests to `each` until none is left or as many as the queue's size were taken.
    ///
    /// `each` returns whether it gave a request back. A driver that refills the queue all the time
    /// cannot keep the worker here.
    ///
    /// # Errors
    /// [`DeviceError`] of the queue or of `each`.
    pub fn serve(
        &mut self,
        chain: &mut Chain,
        mut each: impl FnMut(&mut VirtQueue, &mut Chain) -> Result<bool, DeviceError>,
    ) -> Result<Served, DeviceError> {
        if !self.ring.ready() {
            return Ok(Served::default());
        }
        let (mut left, mut has_used) = (self.ring.size(), false);
        let again = loop {
            self.quiet()?;
            while left > 0 && self.pop(chain)? {
                has_used |= each(self, chain)?;
                left -= 1;
            }
            if left == 0 {
                break true;
            }
            if !self.arm()? {
                break false;
            }
        };
        let interrupt = has_used && self.needs_interrupt()?;
        Ok(Served { interrupt, again })
    }

    /// Ask for no doorbells while requests are taken.
    fn quiet(&mut self) -> Result<(), DeviceError> {
        let done = self.ring.disable_notification(&self.memory);
        done.map_err(|error| self.failed(error))
    }

    /// Ask for a doorbell; returns whether requests came meanwhile, whose doorbell may be lost.
    ///
    /// # Errors
    /// As [`VirtQueue::push_used`].
    pub fn arm(&mut self) -> Result<bool, DeviceError> {
        let more = self.ring.enable_notification(&self.memory);
        more.map_err(|error| self.failed(error))
    }

    /// An error of this queue, which `virtio-queue` reports.
    fn failed(&self, error: Error) -> DeviceError {
        self.broken(match error {
            Error::InvalidAvailRingIndex => ChainError::AvailableIndex {
                size: self.ring.size(),
            },
            other => ChainError::Ring(other.to_string()),
        })
    }

    /// A broken rule of this queue.
    pub(crate) fn broken(&self, what: ChainError) -> DeviceError {
        DeviceError::Queue {
            queue: self.index,
            what,
        }
    }
}
