//! What is wrong with a descriptor, a head or an index. Called by [`super::maker`]. Some of it is legal
//! all the same, and none is worse than what comes next.

use super::driver::{INDIRECT, NEXT, WRITE};
use super::layout::{self, ENDS, HEADERS, RINGS, SEAM, SLOT, STATUSES, TABLES};
use super::maker::{Maker, Raw};
use crate::random::Choose;

impl Maker<'_> {
    /// A descriptor with something wrong: the one at `index` of a chain from `first` on.
    pub(super) fn bend(&mut self, raw: Raw, first: u16, index: u16) -> Raw {
        let mut bent = raw;
        match self.rng.u32(..9) {
            0 | 1 => {
                bent.next = self.other_next(first, index);
                bent.flags |= NEXT;
            }
            2 | 3 => bent.len = self.other_len(raw.len),
            4 | 5 => bent.at = self.other_address(raw),
            6 => bent.flags ^= self.rng.one_of(&[NEXT, WRITE, WRITE, NEXT | WRITE]),
            7 => bent.flags = self.rng.u16(..8),
            _ => return self.bend_indirect(raw, first),
        }
        if self.rng.once_in(60) {
            bent.flags = self.rng.u16(..);
        }
        bent
    }

    /// An indirect descriptor that is nearly right.
    pub(super) fn bend_indirect(&mut self, raw: Raw, first: u16) -> Raw {
        let slots = (layout::INDIRECT.end - layout::INDIRECT.start) / SLOT;
        let table = layout::INDIRECT.start + SLOT * self.rng.u64(..slots);
        let is_table = raw.flags & INDIRECT != 0;
        let mut bent = Raw {
            at: if is_table { raw.at } else { table },
            len: if is_table {
                raw.len
            } else {
                16 * self.rng.u32(1..6)
            },
            flags: INDIRECT,
            next: first,
        };
        match self.rng.u32(..6) {
            0 => bent.flags |= NEXT,
            1 => bent.len = self.rng.one_of(&[0, 1, 8, 15, 17, 24, bent.len + 8]),
            2 => {
                bent.len = self
                    .rng
                    .one_of(&[bent.len + 16, 16, 0x1000, 0x1_0000, 0xffff_fff0])
            }
            3 => bent.at = self.other_address(bent),
            4 => bent.flags |= WRITE,
            _ => {}
        }
        bent
    }

    fn other_next(&mut self, first: u16, index: u16) -> u16 {
        let near = self.rng.u16(..16);
        self.rng
            .one_of(&[index, first, first, near, index + 2, 0x100, 0x7fff, 0xffff])
    }

    fn other_len(&mut self, len: u32) -> u32 {
        let some = self.rng.u32(..0x1_0000);
        self.rng.one_of(&[
            0,
            1,
            15,
            17,
            511,
            513,
            len.wrapping_add(1),
            len.wrapping_sub(1),
            len.wrapping_mul(2),
            some,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_f000,
            0xffff_ffff,
        ])
    }

    fn other_address(&mut self, raw: Raw) -> u64 {
        let (at, len) = (raw.at, u64::from(raw.len));
        let end = self.rng.one_of(&ENDS);
        let (some, shift) = (self.rng.u64(..), self.rng.u32(..64));
        let area = self.rng.one_of(&[
            TABLES.start,
            RINGS.start,
            RINGS.start + 0x1_0000,
            HEADERS.start,
            STATUSES.start,
        ]);
        let inside = area + self.rng.u64(..0x400);
        self.rng.one_of(&[
            0,
            1,
            at + 1,
            at.wrapping_add(8),
            at ^ 0x8000,
            end.saturating_sub(len),
            end.saturating_sub(len) + 1,
            end - 1,
            end,
            SEAM - len.min(SEAM) / 2,
            area,
            inside,
            inside,
            at | 1 << 32,
            1 << 63,
            0u64.wrapping_sub(len),
            u64::MAX - 1,
            some,
            some >> shift,
        ])
    }

    /// A head that is none, or another's.
    pub(super) fn other_head(&mut self, queue: usize, head: u16) -> u16 {
        let size = self.lanes.get(queue).map_or(0, |lane| lane.rings.size);
        let some = self.rng.u16(..);
        let inside = some % size.max(1);
        self.rng.one_of(&[
            size,
            size.wrapping_sub(1),
            0xffff,
            0,
            inside,
            inside,
            head.wrapping_add(1),
            some,
        ])
    }

    /// A step of the available index that takes in more than was offered, or nothing.
    pub(super) fn other_step(&mut self, queue: usize) -> u16 {
        let size = self.lanes.get(queue).map_or(0, |lane| lane.rings.size);
        let some = self.rng.u16(..);
        self.rng
            .one_of(&[0, 2, 3, size, size.wrapping_add(1), 0x8000, 0xffff, some])
    }
}
