//! The guest's memory, drawn, then defined. Descriptors, rings, headers and buffers have places of
//! their own, so that a driver that goes astray is seen to, and what is bent on purpose can be told from
//! what is not.
//!
//! ```text
//! 0x000000  nothing
//! 0x001000  descriptor tables, a page a queue
//! 0x010000  indirect tables
//! 0x020000  available rings, a page a queue
//! 0x030000  used rings, a page a queue
//! 0x040000  headers: words that mean something to a device, 16 bytes each
//! 0x048000  statuses, 16 bytes each
//! 0x050000  buffers
//! 0x080000  --- two mappings of the host meet here ---
//! 0x0bc000  now and then the rings of queue 0, up to the last byte
//! 0x0c0000  --- no memory ---
//! 0x100000  buffers
//! 0x13c000  now and then the rings of queue 1, up to the last byte
//! 0x140000  --- no memory ---
//! FAR       nothing: no driver names it, however its descriptors are torn
//! ```

use std::io;
use std::ops::Range;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Descriptor tables and indirect tables.
pub const TABLES: Range<u64> = 0x1000..0x2_0000;
/// Of those, indirect ones.
pub const INDIRECT: Range<u64> = 0x1_0000..0x2_0000;
/// Available and used rings.
pub const RINGS: Range<u64> = 0x2_0000..0x4_0000;
/// Headers.
pub const HEADERS: Range<u64> = 0x4_0000..0x4_8000;
/// Statuses.
pub const STATUSES: Range<u64> = 0x4_8000..0x5_0000;
/// Where two mappings meet.
pub const SEAM: u64 = 0x8_0000;
/// Buffers.
pub const BUFFERS: [Range<u64>; 2] = [0x5_0000..0xb_c000, 0x10_0000..0x13_c000];
/// Where memory ends.
pub const ENDS: [u64; 2] = [0xc_0000, 0x14_0000];
/// Four bytes of it are the same, and none of them is anywhere else.
pub const FAR: Range<u64> = 0x5a5a_5a00_0000..0x5a5a_5a01_0000;
/// All memory.
pub const MEMORY: [Range<u64>; 4] = [0..SEAM, SEAM..0xc_0000, 0x10_0000..0x14_0000, FAR];

/// What the tables are full of: as an address, a length or an index it is refused.
const TABLE_FILL: u8 = 0xa5;
/// A slot of headers, statuses or tables, in bytes.
pub const SLOT: u64 = 16;

/// Where the parts of a queue are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// In descriptors.
    pub size: u16,
    /// The descriptor table.
    pub descriptors: u64,
    /// The available ring.
    pub available: u64,
    /// The used ring.
    pub used: u64,
}

impl Rings {
    /// The usual place of a queue's.
    #[must_use]
    pub fn usual(queue: usize, size: u16) -> Rings {
        let page = 0x1000 * (queue as u64 % 15);
        Rings {
            size,
            descriptors: TABLES.start + page,
            available: RINGS.start + page,
            used: RINGS.start + 0x1_0000 + page,
        }
    }

    /// A place up to the last byte of memory, with one of the parts last; for the first two queues.
    #[must_use]
    pub fn at_the_end(queue: usize, size: u16, last: usize) -> Option<Rings> {
        let mut end = *ENDS.get(queue)?;
        let mut starts = [0; 3];
        for part in [last % 3, (last + 1) % 3, (last + 2) % 3] {
            // Each part is aligned as it must be, and as close to the next one as that allows.
            end = (end - Rings::lengths(size)[part]) & !([16, 2, 4][part] - 1);
            starts[part] = end;
        }
        let [descriptors, available, used] = starts;
        Some(Rings {
            size,
            descriptors,
            available,
            used,
        })
    }

    /// The lengths of the three parts, in bytes (virtio 1.2, 2.7).
    #[must_use]
    pub fn lengths(size: u16) -> [u64; 3] {
        let size = u64::from(size);
        [16 * size, 6 + 2 * size, 6 + 8 * size]
    }
}

/// The guest's memory, with what it looks like before any driver.
pub struct Guest {
    /// What the device has.
    pub memory: GuestMemoryMmap,
    pristine: Vec<u8>,
}

impl Guest {
    /// Memory of the host's.
    ///
    /// # Errors
    /// There is none to be had.
    pub fn new() -> io::Result<Guest> {
        let ranges = MEMORY.map(|range| {
            (
                GuestAddress(range.start),
                (range.end - range.start) as usize,
            )
        });
        let memory = GuestMemoryMmap::from_ranges(&ranges).map_err(io::Error::other)?;
        let bytes = MEMORY.into_iter().flatten().map(fill);
        Ok(Guest {
            memory,
            pristine: bytes.collect(),
        })
    }

    /// Make it look as before any driver, and fill a copy of that, one range behind the other.
    ///
    /// # Panics
    /// When memory is not where it is.
    pub fn refill(&self, copy: &mut Vec<u8>) {
        let mut rest = self.pristine.as_slice();
        for range in MEMORY {
            let (part, others) = rest.split_at((range.end - range.start) as usize);
            let written = self.memory.write_slice(part, GuestAddress(range.start));
            written.expect("memory is there");
            rest = others;
        }
        copy.clear();
        copy.extend_from_slice(&self.pristine);
    }

    /// Fill a copy of it, one range behind the other.
    ///
    /// # Panics
    /// When memory is not where it is.
    pub fn copy(&self, copy: &mut Vec<u8>) {
        copy.resize(self.pristine.len(), 0);
        let mut rest = copy.as_mut_slice();
        for range in MEMORY {
            let (part, others) = rest.split_at_mut((range.end - range.start) as usize);
            let read = self.memory.read_slice(part, GuestAddress(range.start));
            read.expect("memory is there");
            rest = others;
        }
    }
}

/// What a byte of memory is at first: with its top bit set, so that no number that means something to a
/// device can be read by mistake, and different from its neighbours.
fn fill(at: u64) -> u8 {
    match TABLES.contains(&at) {
        true => TABLE_FILL,
        false => 0x80 | (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57) as u8,
    }
}

/// Where a byte of memory is in a copy; none if there is no such byte.
#[must_use]
pub fn place(at: u64) -> Option<usize> {
    let mut before = 0;
    for range in MEMORY {
        if range.contains(&at) {
            return Some(before + (at - range.start) as usize);
        }
        before += (range.end - range.start) as usize;
    }
    None
}

/// Where a byte of a copy is in memory.
#[must_use]
pub fn address(place: usize) -> Option<u64> {
    let mut before = 0;
    for range in MEMORY {
        let len = (range.end - range.start) as usize;
        if place < before + len {
            return Some(range.start + (place - before) as u64);
        }
        before += len;
    }
    None
}

/// Whether a range of bytes, one at least, is all memory.
#[must_use]
pub fn is_memory(at: u64, len: u64) -> bool {
    let ends = (at.checked_add(len), place(at));
    let (Some(end), Some(first)) = ends else {
        return false;
    };
    // The ranges of a copy are next to each other where the memory is, or else are apart in it.
    len > 0 && place(end - 1).is_some_and(|last| (last - first) as u64 == len - 1)
}

/// Whether two ranges have a byte in common.
#[must_use]
pub fn meet(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_addresses() {
        let guest = Guest::new().expect("memory");
        let (mut copy, mut found) = (Vec::new(), Vec::new());
        guest.refill(&mut copy);
        guest.copy(&mut found);
        assert_eq!(copy, found);
        for at in [0, 0x1000, SEAM, 0xb_ffff, 0x10_0000, FAR.start, FAR.end - 1] {
            let there = place(at).expect("memory");
            assert_eq!((address(there), copy[there]), (Some(at), fill(at)));
        }
        assert_eq!(
            (place(0xc_0000), place(FAR.end), address(copy.len())),
            (None, None, None)
        );
    }

    #[test]
    fn memory_ends_where_it_does() {
        assert!(is_memory(SEAM - 1, 2) && is_memory(0, 0xc_0000) && is_memory(FAR.start, 0x1_0000));
        for (at, len) in [
            (0, 0xc_0001),
            (0xb_ffff, 2),
            (0x14_0000, 1),
            (0, 0),
            (u64::MAX, 2),
            (5, u64::MAX),
        ] {
            assert!(!is_memory(at, len), "{at:#x}, {len}");
        }
        // As long as the hole is left out, but not one range.
        assert!(!is_memory(0xb_0000, 0x6_0000));
    }
}
