//! A split virtqueue (virtio 1.3, 2.7), the driver's side.
//!
//! The rings lie in memory that the device may write at any time. What was handed out is kept here
//! as well, and what the device says is checked against that: a wrong answer is a [`QueueError`].
//! Nothing is read back from the descriptors or the available ring.

use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use driver_api::{Dma, Env, Mmio};

use crate::error::{QueueError, VirtioError};
use crate::transport::Transport;
use crate::wire::{self, DESC_INDIRECT, DESC_NEXT, DESC_WRITE};

/// The most segments of a chain.
pub const MAX_SEGMENTS: usize = 4;

/// Bytes of a descriptor.
const DESCRIPTOR: usize = 16;
/// Bytes of a chain's own table.
const TABLE: usize = MAX_SEGMENTS * DESCRIPTOR;

/// A part of a request: adjacent bytes that the device either reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where, for the device.
    pub phys: u64,
    /// How many bytes.
    pub len: u32,
    /// Whether the device writes them. Such segments come last.
    pub is_writable: bool,
}

/// A chain that the device is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// What [`Queue::add`] returned for it.
    pub token: u16,
    /// How many bytes the device says it wrote; never more than there is room for.
    pub written: u32,
}

/// A chain, by the descriptor that it begins with.
#[derive(Clone, Copy, Debug, Default)]
struct Chain {
    /// Its descriptors in the ring, of which only the first `count` are its own; 0 of an unused one.
    descriptors: [u16; MAX_SEGMENTS],
    count: usize,
    /// Bytes that the device may write.
    room: u32,
}

/// Where the parts of a queue lie in its memory.
#[derive(Clone, Copy, Debug)]
struct Layout {
    available: usize,
    used: usize,
    tables: usize,
    end: usize,
}

impl Layout {
    fn of(size: u16, has_tables: bool) -> Self {
        let size = usize::from(size);
        let available = size * DESCRIPTOR;
        let used = (available + 6 + 2 * size).next_multiple_of(4);
        let tables = (used + 6 + 8 * size).next_multiple_of(DESCRIPTOR);
        let end = tables + if has_tables { size * TABLE } else { 0 };
        Self {
            available,
            used,
            tables,
            end,
        }
    }
}

/// A queue.
#[derive(Debug)]
pub struct Queue<D> {
    memory: D,
    layout: Layout,
    size: u16,
    has_tables: bool,
    has_events: bool,
    chains: Vec<Chain>,
    /// Descriptors that no chain uses.
    free: Vec<u16>,
    in_flight: u16,
    /// The available ring's index, and its value at the last [`Queue::needs_kick`].
    available: u16,
    kicked: u16,
    /// The used ring's index, as far as it was read.
    used: u16,
}

impl<D: Dma> Queue<D> {
    /// Make a queue of at most `most` entries, and hand it to the device.
    ///
    /// # Errors
    /// [`VirtioError`] when the device lacks the queue, or memory does.
    pub fn new<E: Env<Dma = D>, M: Mmio>(
        env: &E,
        transport: &Transport<M>,
        index: u16,
        most: u16,
        features: u64,
    ) -> Result<Self, VirtioError> {
        let offered = transport.max_queue_size(index).min(most.into());
        // A power of two (2.7): the largest that fits.
        let power = offered.checked_ilog2().ok_or(VirtioError::NoQueue(index))?;
        let size = 1u16 << power.min(15);
        let has_tables = features & wire::F_INDIRECT_DESC != 0;
        let layout = Layout::of(size, has_tables);
        let memory = env.dma(layout.end)?;
        let at = memory.phys();
        let rings = [0, layout.available, layout.used].map(|offset| at + offset as u64);
        let queue = Self {
            memory,
            layout,
            size,
            has_tables,
            has_events: features & wire::F_EVENT_IDX != 0,
            chains: alloc::vec![Chain::default(); usize::from(size)],
            free: (0..size).rev().collect(),
            in_flight: 0,
            available: 0,
            kicked: 0,
            used: 0,
        };
        transport.set_queue(index, size, rings);
        Ok(queue)
    }

    /// How many entries the queue has. Tokens are below it.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// How many chains of this many segments the queue holds at once.
    pub fn depth(&self, segments: usize) -> usize {
        usize::from(self.size) / self.descriptors_for(segments).max(1)
    }

    /// How many chains the device has.
    pub fn in_flight(&self) -> u16 {
        self.in_flight
    }

    fn descriptors_for(&self, segments: usize) -> usize {
        if self.has_tables && segments > 1 {
            1
        } else {
            segments
        }
    }

    /// Hand a chain to the device, which may look at it at once, or only when notified. Returns the
    /// chain's token. The segments' memory stays the device's until [`Queue::pop`] has returned it.
    ///
    /// # Errors
    /// [`QueueError::Full`], [`QueueError::BadRequest`].
    pub fn add(&mut self, segments: &[Segment]) -> Result<u16, QueueError> {
        if segments.is_empty() || segments.len() > MAX_SEGMENTS {
            return Err(QueueError::BadRequest);
        }
        let count = self.descriptors_for(segments.len());
        let rest = self.free.len().checked_sub(count).ok_or(QueueError::Full)?;
        let mut chain = Chain {
            count,
            room: room_of(segments),
            ..Chain::default()
        };
        for (place, free) in chain.descriptors.iter_mut().zip(self.free.drain(rest..)) {
            *place = free;
        }
        let head = chain.descriptors[0];
        if count < segments.len() {
            self.write_table(head, segments);
        } else {
            self.write_chain(&chain.descriptors, segments);
        }
        if let Some(place) = self.chains.get_mut(usize::from(head)) {
            *place = chain;
        }
        self.in_flight += 1;
        self.publish(head);
        Ok(head)
    }

    /// The chain as a table of its own, behind one descriptor.
    fn write_table(&mut self, head: u16, segments: &[Segment]) {
        let table = self.layout.tables + usize::from(head) * TABLE;
        for (index, segment) in segments.iter().enumerate() {
            let is_last = index + 1 == segments.len();
            let next = (!is_last).then_some(index as u16 + 1);
            self.write_descriptor(table + index * DESCRIPTOR, segment, 0, next);
        }
        let whole = Segment {
            phys: self.memory.phys() + table as u64,
            len: (segments.len() * DESCRIPTOR) as u32,
            is_writable: false,
        };
        self.write_descriptor(usize::from(head) * DESCRIPTOR, &whole, DESC_INDIRECT, None);
    }

    fn write_chain(&mut self, descriptors: &[u16], segments: &[Segment]) {
        for (index, segment) in segments.iter().enumerate() {
            let is_last = index + 1 == segments.len();
            let next = descriptors.get(index + 1).filter(|_| !is_last).copied();
            let at = descriptors.get(index).copied().unwrap_or_default();
            self.write_descriptor(usize::from(at) * DESCRIPTOR, segment, 0, next);
        }
    }

    fn write_descriptor(&self, at: usize, segment: &Segment, flags: u16, next: Option<u16>) {
        let mut flags = flags;
        if segment.is_writable {
            flags |= DESC_WRITE;
        }
        if next.is_some() {
            flags |= DESC_NEXT;
        }
        let mut bytes = [0; DESCRIPTOR];
        bytes[..8].copy_from_slice(&segment.phys.to_le_bytes());
        bytes[8..12].copy_from_slice(&segment.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.unwrap_or_default().to_le_bytes());
        self.memory.write(at, &bytes);
    }

    /// Put a chain into the available ring (2.7.13).
    fn publish(&mut self, head: u16) {
        let slot = usize::from(self.available % self.size);
        let ring = self.layout.available;
        self.memory.store_u16(ring + 4 + 2 * slot, head);
        self.available = self.available.wrapping_add(1);
        // The store orders what was written before it (2.7.13.3).
        self.memory.store_u16(ring + 2, self.available);
    }

    /// Whether the device wants to be told of what was added since this was last asked.
    pub fn needs_kick(&mut self) -> bool {
        let kicked = core::mem::replace(&mut self.kicked, self.available);
        if kicked == self.available {
            return false;
        }
        // The index must be visible before the device's wish is read (2.7.13.4.1): else both sides
        // could miss each other's store.
        fence(Ordering::SeqCst);
        if self.has_events {
            let event = self.memory.load_u16(self.avail_event());
            return crosses(event, self.available, kicked);
        }
        self.memory.load_u16(self.layout.used) & wire::USED_NO_NOTIFY == 0
    }

    /// Take the next chain that the device is done with, and free its descriptors.
    ///
    /// # Errors
    /// [`QueueError`] when the device breaks the rules. Then nothing is taken, and the same error
    /// comes again: the device must be reset.
    pub fn pop(&mut self) -> Result<Option<Used>, QueueError> {
        let ready = self.ready();
        if ready == 0 {
            return Ok(None);
        }
        if ready > self.in_flight {
            return Err(QueueError::Ahead(ready));
        }
        let (id, written) = self.used_entry();
        let chain = self.chains.get(id as usize).copied().unwrap_or_default();
        if chain.count == 0 {
            return Err(QueueError::BadId(id));
        }
        if written > chain.room {
            return Err(QueueError::BadLength(written));
        }
        let own = chain.descriptors.get(..chain.count).unwrap_or_default();
        self.free.extend_from_slice(own);
        if let Some(place) = self.chains.get_mut(id as usize) {
            *place = Chain::default();
        }
        self.in_flight -= 1;
        self.used = self.used.wrapping_add(1);
        let token = id as u16;
        Ok(Some(Used { token, written }))
    }

    fn used_entry(&self) -> (u32, u32) {
        let slot = usize::from(self.used % self.size);
        let mut bytes = [0; 8];
        self.memory
            .read(self.layout.used + 4 + 8 * slot, &mut bytes);
        let [a, b, c, d, e, f, g, h] = bytes;
        let id = u32::from_le_bytes([a, b, c, d]);
        (id, u32::from_le_bytes([e, f, g, h]))
    }

    /// How many chains wait for [`Queue::pop`], by the device's word.
    fn ready(&self) -> u16 {
        let now = self.memory.load_u16(self.layout.used + 2);
        now.wrapping_sub(self.used)
    }

    /// Ask for no interrupts until [`Queue::allow_interrupts`]. With EVENT_IDX the entry that was asked
    /// for becomes the one that was used last: it comes again after 65535 others.
    pub fn hold_interrupts(&mut self) {
        if self.has_events {
            let event = self.used.wrapping_sub(1);
            self.memory.store_u16(self.used_event(), event);
        } else {
            let flags = wire::AVAIL_NO_INTERRUPT;
            self.memory.store_u16(self.layout.available, flags);
        }
    }

    /// Ask for an interrupt at the next chain that the device is done with. Returns `true` when one
    /// is there already: then none may come for it, and the caller pops again (2.7.14).
    #[must_use = "for what is there already no interrupt comes"]
    pub fn allow_interrupts(&mut self) -> bool {
        self.allow_interrupts_after(1)
    }

    /// Ask for an interrupt when the device is done with `count` more chains, at least 1 and no more
    /// than it has. Returns `true` when so many are there already. Without EVENT_IDX the interrupt
    /// comes with the first.
    #[must_use = "for what is there already no interrupt comes"]
    pub fn allow_interrupts_after(&mut self, count: u16) -> bool {
        let count = count.clamp(1, self.in_flight.max(1));
        if self.has_events {
            let event = self.used.wrapping_add(count - 1);
            self.memory.store_u16(self.used_event(), event);
        } else {
            self.memory.store_u16(self.layout.available, 0);
        }
        // The wish must be visible before the index is read.
        fence(Ordering::SeqCst);
        self.ready() >= count
    }

    /// Whether the device is done with a chain that was not popped, or claims so.
    pub fn has_used(&self) -> bool {
        self.ready() != 0
    }

    /// Which entry of the used ring the driver wants to hear of (2.7.10).
    fn used_event(&self) -> usize {
        self.layout.available + 4 + 2 * usize::from(self.size)
    }

    /// Which entry of the available ring the device wants to hear of.
    fn avail_event(&self) -> usize {
        self.layout.used + 4 + 8 * usize::from(self.size)
    }
}

/// How many bytes of a chain the device may write.
fn room_of(segments: &[Segment]) -> u32 {
    let writable = segments.iter().filter(|segment| segment.is_writable);
    writable.fold(0, |sum: u32, segment| sum.saturating_add(segment.len))
}

/// Whether an index on its way from `old` to `new` has passed the entry `event` (2.7.10.1).
pub(crate) fn crosses(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
