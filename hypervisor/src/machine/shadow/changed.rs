//! A frame of guest memory has become something else: code of which there is a copy, or data again.

use super::derive::Grant;
use super::{Frames, Place, Shadow, Tables, derive};
use crate::machine::paging::Access;
use crate::machine::paging::entry::{self, ENTRIES};

impl<T: Tables> Shadow<T> {
    /// Take out every mapping of a page-aligned guest-physical frame, in all roots and views, that
    /// its owner would not make any more; how many there were. The edits may be too many: then
    /// [`take_edits`](Self::take_edits) says so.
    ///
    /// Searches all tables of level 1.
    pub fn frame_changed(&mut self, frame: u64, frames: &mut impl Frames) -> usize {
        let mut taken = 0;
        for id in self.pool.ids() {
            let table = self.pool.table(id);
            if table.is_dead || table.key.level != 1 {
                continue;
            }
            let view = table.key.context.view;
            let mut from = 0;
            while let Some(slot) = first_of(&self.pool.table(id).values, frame, from) {
                from = slot + 1;
                let table = self.pool.table(id);
                let value = table.values.get(slot).copied().unwrap_or_default();
                let grant = Grant::new(table.key.context, table.key.rights_of(value));
                let place = Place {
                    at: table.key.linear_of(slot),
                    may_execute: grant.is_some_and(Grant::may_execute),
                };
                let backing = frames.backing(frame, place, view, Access::default());
                if !derive::conforms(self.pool.entry(id, slot), frame, backing) {
                    self.pool.drop_entry(id, slot);
                    taken += 1;
                }
            }
        }
        taken
    }
}

/// The first entry from `from` on that maps a frame.
fn first_of(values: &[u64; ENTRIES], frame: u64, from: usize) -> Option<usize> {
    const RUN: usize = 32;
    let maps = |value: u64| value != 0 && entry::frame(1, value) == frame;
    // Bit 63 is clear where the frames are the same. Vector instructions, as in `verify.rs`.
    let differs = |value: u64| {
        let difference = entry::frame(1, value) ^ frame;
        difference | difference.wrapping_neg()
    };
    for (run, values) in values.chunks(RUN).enumerate().skip(from / RUN) {
        let all = values
            .iter()
            .fold(u64::MAX, |all, value| all & differs(*value));
        if all >> 63 == 1 {
            continue;
        }
        let mut slots = (run * RUN..).zip(values);
        if let Some((slot, _)) = slots.find(|(slot, value)| *slot >= from && maps(**value)) {
            return Some(slot);
        }
    }
    None
}
