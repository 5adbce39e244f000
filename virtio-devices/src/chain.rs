//! A chain of descriptors, read once and checked as a whole (virtio 1.2, 2.7.5). Called by
//! [`crate::queue`]. Never touches the buffers.
//!
//! `virtio-queue`'s own iterator ends silently where a chain breaks the rules, so a device would take
//! the rest for a request. Here a broken chain is an error that names the rule.

use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::memory::OutOfRange;

/// The size of a descriptor in memory, in bytes.
const DESCRIPTOR_LEN: u32 = size_of::<Descriptor>() as u32;

/// Which rule of a queue a driver broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The available ring's index is further on than the queue has room for.
    #[error("the available index ran more than the queue's {size} entries ahead")]
    AvailableIndex {
        /// The queue's size, in descriptors.
        size: u16,
    },
    /// More requests are under way than the queue has descriptors.
    #[error("more than {size} chains are in flight")]
    InFlight {
        /// The queue's size, in descriptors.
        size: u16,
    },
    /// An index is not in its table.
    #[error("descriptor {index} is not in a table of {len}")]
    Index {
        /// The index, of a head or a next descriptor.
        index: u16,
        /// The table's length, in descriptors.
        len: u16,
    },
    /// The chain has a cycle, or more descriptors than the queue.
    #[error("a chain has more than the queue's {size} descriptors")]
    TooLong {
        /// The queue's size, in descriptors.
        size: u16,
    },
    /// The buffers are 4 GiB or more together (2.7.5.2).
    #[error("a chain's buffers are 4 GiB or more")]
    TooLarge,
    /// A buffer that the device may only read follows one that it writes (2.7.4.2).
    #[error("a readable descriptor follows a writable one")]
    Order,
    /// VIRTQ_DESC_F_INDIRECT where it may not be (2.7.5.3.1).
    #[error("an indirect descriptor {0}")]
    Indirect(&'static str),
    /// A buffer or a table is outside memory.
    #[error(transparent)]
    Memory(#[from] OutOfRange),
    /// The queue's rings cannot be reached.
    #[error("the queue's rings cannot be reached: {0}")]
    Ring(String),
}

/// A piece of guest memory, checked to lie in memory. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Its first byte.
    pub at: GuestAddress,
    /// Its length, in bytes.
    pub len: u32,
}

/// The buffers of one request. Kept and filled again, so that a request costs no allocation.
#[derive(Debug, Default)]
pub struct Chain {
    /// The head's index, by which the chain is given back.
    pub head: u16,
    /// What the driver wrote for the device, in order.
    pub readable: Vec<Buffer>,
    /// Where the device may write, in order.
    pub writable: Vec<Buffer>,
}

/// A table of descriptors: the queue's own, or an indirect one.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    /// Its first descriptor.
    pub at: GuestAddress,
    /// Its length, in descriptors.
    pub len: u16,
}

impl Chain {
    /// Take in the chain that starts at `head`.
    ///
    /// Buffers of no length are legal and left out. What else is refused: [`ChainError`].
    pub(crate) fn read(
        &mut self,
        memory: &GuestMemoryMmap,
        queue: Table,
        is_indirect_allowed: bool,
        head: u16,
    ) -> Result<(), ChainError> {
        self.head = head;
        self.readable.clear();
        self.writable.clear();
        let (mut table, mut index, mut total) = (queue, head, 0u32);
        let mut is_indirect = false;
        // A chain may have as many descriptors as the queue, those of an indirect table included
        // (2.7.5.3.1), so a cycle ends here too.
        for _ in 0..=queue.len {
            let descriptor = descriptor(memory, table, index)?;
            let flags = u32::from(descriptor.flags());
            if flags & VRING_DESC_F_INDIRECT != 0 {
                let fault = match (is_indirect_allowed, is_indirect, flags & VRING_DESC_F_NEXT) {
                    (false, ..) => Some("was not negotiated"),
                    (_, true, _) => Some("is inside an indirect table"),
                    (_, _, next) if next != 0 => Some("has a next one"),
                    _ => None,
                };
                if let Some(fault) = fault {
                    return Err(ChainError::Indirect(fault));
                }
                (table, index, is_indirect) = (indirect(&descriptor)?, 0, true);
                continue;
            }
            total = total
                .checked_add(descriptor.len())
                .ok_or(ChainError::TooLarge)?;
            self.add(memory, &descriptor)?;
            if flags & VRING_DESC_F_NEXT == 0 {
                return Ok(());
            }
            index = descriptor.next();
        }
        Err(ChainError::TooLong { size: queue.len })
    }

    /// Take in one buffer.
    fn add(&mut self, memory: &GuestMemoryMmap, descriptor: &Descriptor) -> Result<(), ChainError> {
        let is_writable = u32::from(descriptor.flags()) & VRING_DESC_F_WRITE != 0;
        let (at, len) = (descriptor.addr(), descriptor.len());
        if len == 0 {
            return Ok(());
        }
        if !memory.check_range(at, len as usize) {
            return Err(OutOfRange {
                at: at.raw_value(),
                len: u64::from(len),
            }
            .into());
        }
        match (is_writable, self.writable.is_empty()) {
            (true, _) => self.writable.push(Buffer { at, len }),
            (false, true) => self.readable.push(Buffer { at, len }),
            (false, false) => return Err(ChainError::Order),
        }
        Ok(())
    }
}

/// Read one descriptor: copied once, then the copy is what counts.
fn descriptor(
    memory: &GuestMemoryMmap,
    table: Table,
    index: u16,
) -> Result<Descriptor, ChainError> {
    if index >= table.len {
        let len = table.len;
        return Err(ChainError::Index { index, len });
    }
    let out = OutOfRange {
        at: table.at.raw_value(),
        len: u64::from(table.len) * u64::from(DESCRIPTOR_LEN),
    };
    let at = table
        .at
        .checked_add(u64::from(index) * u64::from(DESCRIPTOR_LEN))
        .ok_or(out)?;
    memory.read_obj(at).map_err(|_| out.into())
}

/// The table that an indirect descriptor refers to.
fn indirect(descriptor: &Descriptor) -> Result<Table, ChainError> {
    let bytes = descriptor.len();
    if bytes == 0 || !bytes.is_multiple_of(DESCRIPTOR_LEN) {
        return Err(ChainError::Indirect("has a table of no whole descriptors"));
    }
    // The table may be longer than the chain in it, and the chain no longer than the queue.
    let len = u16::try_from(bytes / DESCRIPTOR_LEN).unwrap_or(u16::MAX);
    Ok(Table {
        at: descriptor.addr(),
        len,
    })
}

/// How many bytes buffers have together.
#[must_use]
pub fn total(buffers: &[Buffer]) -> u64 {
    buffers.iter().map(|buffer| u64::from(buffer.len)).sum()
}

/// Copy from the start of buffers; returns how many bytes there were, `into.len()` at most.
pub fn copy_from(memory: &GuestMemoryMmap, buffers: &[Buffer], into: &mut [u8]) -> usize {
    copy(buffers, into.len(), |at, range| {
        into.get_mut(range)
            .is_some_and(|part| memory.read_slice(part, at).is_ok())
    })
}

/// Copy to the start of buffers; returns how many bytes found room.
pub fn copy_to(memory: &GuestMemoryMmap, buffers: &[Buffer], from: &[u8]) -> usize {
    copy(buffers, from.len(), |at, range| {
        from.get(range)
            .is_some_and(|part| memory.write_slice(part, at).is_ok())
    })
}

/// Copy to buffers, behind their first `skip` bytes; returns how many bytes found room.
pub fn copy_to_after(
    memory: &GuestMemoryMmap,
    buffers: &[Buffer],
    skip: u64,
    from: &[u8],
) -> usize {
    let mut skip = skip;
    let mut done = 0;
    for buffer in buffers {
        let len = u64::from(buffer.len);
        if skip >= len {
            skip -= len;
            continue;
        }
        // `skip` is below a u32, and the buffer lies in memory.
        let rest = Buffer {
            at: buffer.at.unchecked_add(skip),
            len: (len - skip) as u32,
        };
        skip = 0;
        let left = from.get(done..).unwrap_or_default();
        done += copy_to(memory, &[rest], left);
    }
    done
}

/// Walk buffers and `len` bytes side by side, until a piece fails.
fn copy(
    buffers: &[Buffer],
    len: usize,
    mut piece: impl FnMut(GuestAddress, std::ops::Range<usize>) -> bool,
) -> usize {
    let mut done = 0;
    for buffer in buffers {
        let count = (buffer.len as usize).min(len - done);
        if count == 0 || !piece(buffer.at, done..done + count) {
            break;
        }
        done += count;
    }
    done
}

/// Leave the first `count` bytes of buffers out.
pub fn drop_front(buffers: &mut Vec<Buffer>, count: u32) {
    let mut left = count;
    let mut gone = 0;
    for buffer in buffers.iter_mut() {
        if left < buffer.len {
            buffer.at = buffer.at.unchecked_add(u64::from(left));
            buffer.len -= left;
            break;
        }
        left -= buffer.len;
        gone += 1;
    }
    buffers.drain(..gone);
}

/// Take the last byte off buffers, and return where it is.
pub fn take_last_byte(buffers: &mut Vec<Buffer>) -> Option<GuestAddress> {
    let last = buffers.last_mut()?;
    last.len -= 1;
    // The buffer lies in memory, so no sum of its parts wraps.
    let at = last.at.unchecked_add(u64::from(last.len));
    if last.len == 0 {
        buffers.pop();
    }
    Some(at)
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
