//! A queue as devices use it: `virtio-queue`'s ring, with each chain checked and each rule of
//! notification kept (virtio 1.2, 2.7.6 to 2.7.10). Called by data paths. Never knows requests.

use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Error, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::chain::{Chain, ChainError, Table, total};
use crate::device::{DeviceError, Served, feature};
use crate::rate::Limiter;

/// Where the entries of the two rings start, and how long a used one is, in bytes (2.7.6, 2.7.8).
const AVAILABLE_HEADER: u64 = 4;
const USED_HEADER: u64 = 4;
const USED_LEN: u64 = 8;

/// A queue that a driver has set up, or left out.
pub struct VirtQueue {
    index: usize,
    ring: Queue,
    memory: GuestMemoryMmap,
    is_indirect_allowed: bool,
    /// The used index that the driver was last told of, or did not want to be told of.
    told: u16,
    /// Bytes that were copied since a step last told.
    copied: u64,
    /// The limits of the device, if it has any.
    limiter: Option<Arc<Mutex<Limiter>>>,
    /// Whether the limits count the room of a request's buffers, rather than what is written there.
    counts_room: bool,
    /// A request may wait for the limits.
    is_held: bool,
}

/// A poisoned lock holds a whole value all the same.
fn lock(limiter: &Mutex<Limiter>) -> MutexGuard<'_, Limiter> {
    limiter.lock().unwrap_or_else(PoisonError::into_inner)
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
            told: 0,
            copied: 0,
            limiter: None,
            counts_room: false,
            is_held: false,
            is_indirect_allowed: features & feature::INDIRECT_DESC != 0,
        }
    }

    /// Keep to limits.
    pub(crate) fn limit(&mut self, limiter: Arc<Mutex<Limiter>>, counts_room: bool) {
        (self.limiter, self.counts_room) = (Some(limiter), counts_room);
    }

    /// How long a request has to wait for the limits, if one may; asking forgets it.
    pub(crate) fn held(&mut self) -> Option<Duration> {
        let is_held = std::mem::take(&mut self.is_held);
        let limiter = self.limiter.as_ref().filter(|_| is_held)?;
        Some(lock(limiter).wait(Instant::now()))
    }

    /// Whether the limits let a request through now.
    fn is_allowed(&mut self) -> bool {
        let Some(limiter) = &self.limiter else {
            return true;
        };
        self.is_held = !lock(limiter).wait(Instant::now()).is_zero();
        !self.is_held
    }

    /// Count a request with the bytes that it gives, or the bytes that it gets.
    fn charge(&self, operations: u64, bytes: u64) {
        if let Some(limiter) = &self.limiter {
            let (mut limiter, now) = (lock(limiter), Instant::now());
            if operations > 0 {
                limiter.operation(now);
            }
            limiter.bytes(bytes, now);
        }
    }

    fn charge_written(&self, written: u32) {
        if !self.counts_room && written > 0 {
            self.charge(0, written.into());
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

    /// Where its parts are: descriptor table, available ring, used ring.
    pub(crate) fn parts(&self) -> [GuestAddress; 3] {
        let ring = &self.ring;
        [ring.desc_table(), ring.avail_ring(), ring.used_ring()].map(GuestAddress)
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
        if !self.ring.ready() || !self.is_allowed() {
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
        let room = match self.counts_room {
            true => total(&chain.writable),
            false => 0,
        };
        self.charge(1, total(&chain.readable).saturating_add(room));
        Ok(true)
    }

    /// Give a request back, with the count of bytes that were written to its buffers.
    ///
    /// # Errors
    /// [`DeviceError::Queue`] when the used ring cannot be reached.
    pub fn push_used(&mut self, head: u16, written: u32) -> Result<(), DeviceError> {
        self.charge_written(written);
        self.ring
            .add_used(&self.memory, head, written)
            .map_err(|error| self.failed(error))
    }

    /// Give several chains back at once: the driver sees all of them or none, as it must where one
    /// packet fills them (5.1.6.4).
    ///
    /// # Errors
    /// As [`VirtQueue::push_used`].
    pub fn push_used_together(&mut self, chains: &[(u16, u32)]) -> Result<(), DeviceError> {
        let Some(((last, written), before)) = chains.split_last() else {
            return Ok(());
        };
        let size = self.ring.size();
        for (head, written) in before {
            let next = self.ring.next_used();
            let element = u64::from(*head) | u64::from(*written) << 32;
            // The index moves with the last: until then the driver does not look at the entries.
            let at = self.ring.used_ring() + USED_HEADER + USED_LEN * u64::from(next % size);
            self.charge_written(*written);
            self.memory
                .write_slice(&element.to_le_bytes(), GuestAddress(at))
                .map_err(|error| self.broken(ChainError::Ring(error.to_string())))?;
            self.ring.set_next_used(next.wrapping_add(1));
        }
        self.push_used(*last, *written)
    }

    /// Whether the driver wants an interrupt for what was given back since the last call (2.7.7.2).
    ///
    /// `virtio-queue` has this too, but neither the flag for drivers without EVENT_IDX nor chains that
    /// are given back together.
    ///
    /// # Errors
    /// As [`VirtQueue::push_used`].
    pub fn needs_interrupt(&mut self) -> Result<bool, DeviceError> {
        let (old, new) = (self.told, self.ring.next_used());
        self.told = new;
        // The used index must be out before the driver's wish is read (2.7.7.2).
        fence(Ordering::SeqCst);
        if self.ring.event_idx_enabled() {
            let event = self.available_word(AVAILABLE_HEADER + 2 * u64::from(self.ring.size()))?;
            // Whether the index has passed used_event on its way from `old`, all modulo 2^16.
            let since_event = new.wrapping_sub(event).wrapping_sub(1);
            return Ok(since_event < new.wrapping_sub(old));
        }
        let flags = self.available_word(0)?;
        Ok(u32::from(flags) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }

    /// A word of the available ring.
    fn available_word(&self, offset: u64) -> Result<u16, DeviceError> {
        let at = GuestAddress(self.ring.avail_ring().saturating_add(offset));
        let word = self.memory.load(at, Ordering::Relaxed);
        word.map(u16::from_le)
            .map_err(|error| self.broken(ChainError::Ring(error.to_string())))
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
        self.served(has_used, again)
    }

    /// What a step comes to that gave requests back or not, and left some or not.
    ///
    /// # Errors
    /// As [`VirtQueue::needs_interrupt`].
    pub fn served(&mut self, has_used: bool, again: bool) -> Result<Served, DeviceError> {
        let interrupt = has_used && self.needs_interrupt()?;
        let copied = std::mem::take(&mut self.copied);
        Ok(Served {
            interrupt,
            again,
            copied,
        })
    }

    /// Bytes of payload were copied by this process; the next [`VirtQueue::served`] tells.
    pub fn copied(&mut self, bytes: u64) {
        self.copied = self.copied.saturating_add(bytes);
    }

    /// Ask for no doorbells while requests are taken.
    fn quiet(&mut self) -> Result<(), DeviceError> {
        let done = self.ring.disable_notification(&self.memory);
        done.map_err(|error| self.failed(error))
    }

    /// Ask for a doorbell; returns whether requests came meanwhile, whose doorbell may be lost. Those
    /// that wait for the limits come by a timer.
    ///
    /// # Errors
    /// As [`VirtQueue::push_used`].
    pub fn arm(&mut self) -> Result<bool, DeviceError> {
        let more = self.ring.enable_notification(&self.memory);
        let more = more.map_err(|error| self.failed(error))?;
        Ok(more && !self.is_held)
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
