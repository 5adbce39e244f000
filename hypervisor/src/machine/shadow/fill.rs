//! The answer to a fault: a true fault of the guest's, or entries for the page and its neighbours.

use super::derive::{self, Grant};
use super::pool::{Id, Key, Source};
use super::{Backing, Frames, Full, Place, Resolution, Shadow, TOP_SLOT, Tables, View};
use crate::machine::paging::entry::{self, ENTRIES};
use crate::machine::paging::{Access, PageFault, Paging, Path, Physical, Translation, mark, walk};
use hypercall_abi::layout::MONITOR_GIB;

/// How many entries of a guest's table, those around the one that faulted, a fault fills. A power
/// of 2: all of them. Measured on kvm_pvm, where a hidden fault and its exit cost about 40 us: with 32, a boot
/// to the shell's prompt has 14 hidden faults; with all, 5.
pub const PREFILL: usize = 512;
const _: () = assert!(PREFILL.is_power_of_two() && PREFILL <= ENTRIES);

impl<T: Tables> Shadow<T> {
    /// The guest faulted at a canonical address, with the processor's error code.
    pub fn fault(
        &mut self,
        guest: &impl Physical,
        paging: &Paging,
        view: View,
        at: u64,
        code: u32,
        frames: &mut impl Frames,
    ) -> Resolution {
        let access = Access {
            write: code & PageFault::WRITE != 0,
            execute: code & PageFault::FETCH != 0,
            user: view == View::User,
        };
        if at >= MONITOR_GIB {
            // What the guest does not map there either faults as anywhere.
            return match walk(guest, paging, at, access) {
                Ok(_) => Resolution::Monitor,
                Err(fault) => Resolution::True(fault),
            };
        }
        let Ok(root) = self.root(guest, paging, view) else {
            return Resolution::Full;
        };
        // A fault makes a processor forget the address (SDM vol. 3, 4.10.4.1), for both views.
        self.invalidate(guest, paging, at);
        let mut found = match walk(guest, paging, at, access) {
            Ok(found) => found,
            Err(fault) => return Resolution::True(fault),
        };
        if !mark(guest, &mut found, access.write) {
            return Resolution::Filled;
        }
        match self.fill(guest, paging, root, at, access, &found, frames) {
            Ok(resolution) if !self.pool.waiting.is_over() => resolution,
            _ => Resolution::Full,
        }
    }

    /// Fill the page's entry, and its neighbours'.
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of `fault`, with all it knows"
    )]
    fn fill(
        &mut self,
        guest: &impl Physical,
        paging: &Paging,
        root: Id,
        at: u64,
        access: Access,
        found: &Translation,
        frames: &mut impl Frames,
    ) -> Result<Resolution, Full> {
        let (table, is_new) = self.table_for(guest, paging, root, at, &found.path)?;
        let (key, slot) = (self.pool.table(table).key, entry::index(at, 1));
        let value = value_of(&key, slot, &found.path);
        let wanted = self.leaf(&key, slot, value, access, frames).unwrap_or(0);
        if !derive::satisfies(wanted, access) {
            let frame = entry::frame(1, value);
            return Ok(Resolution::Refused { frame });
        }
        match !is_new && derive::is_same(self.pool.entry(table, slot), wanted) {
            // The processor knows something older than the entry: invalidate the address.
            true => self.pool.edit(table, slot, wanted),
            false => self.pool.set(table, slot, wanted),
        }
        self.pool.table_mut(table).values[slot] = value;
        self.fill_neighbours(guest, paging, table, slot, access.user, frames);
        Ok(Resolution::Filled)
    }

    /// The level 1 table for an address, linked in on the path that the guest's tables have now;
    /// and whether the processor has not seen it there before.
    fn table_for(
        &mut self,
        guest: &impl Physical,
        paging: &Paging,
        root: Id,
        at: u64,
        path: &Path,
    ) -> Result<(Id, bool), Full> {
        let (mut table, mut is_new) = (root, false);
        for level in (2..=4).rev() {
            let slot = entry::index(at, level);
            let value = value_of(&self.pool.table(table).key, slot, path);
            let before = self.pool.entry(table, slot);
            let below = self.below(guest, paging, table, slot, value)?;
            is_new |= !derive::is_same(self.pool.entry(table, slot), before);
            table = below;
        }
        Ok((table, is_new))
    }

    /// The table that an entry has to lead to when the guest's entry is `value`.
    fn below(
        &mut self,
        guest: &impl Physical,
        paging: &Paging,
        parent: Id,
        slot: usize,
        value: u64,
    ) -> Result<Id, Full> {
        let table = self.pool.table(parent);
        let (level, key) = (table.key.level, table.key.child(slot, value));
        if let Some(child) = table.child(slot) {
            let linked = self.pool.table(child);
            if linked.key == key && !linked.is_dead {
                self.pool.link(parent, slot, value, child);
                return Ok(child);
            }
            if level == 4 && slot == TOP_SLOT {
                if !self.empty(child) {
                    return Err(Full);
                }
                self.pool.table_mut(child).key = key;
                self.pool.table_mut(parent).values[slot] = value;
                return Ok(child);
            }
        }
        let child = match self.pool.find(&key) {
            Some(known) if self.verify(guest, paging, known) => known,
            Some(known) => {
                self.pool.give_up(known);
                self.pool.make(key)?
            }
            None => self.pool.make(key)?,
        };
        self.pool.link(parent, slot, value, child);
        Ok(child)
    }

    /// Fill what is empty around an entry, where the guest's entries need no bit to be set.
    fn fill_neighbours(
        &mut self,
        guest: &impl Physical,
        paging: &Paging,
        table: Id,
        slot: usize,
        user: bool,
        frames: &mut impl Frames,
    ) {
        let key = self.pool.table(table).key;
        let ask = Access {
            user,
            ..Access::default()
        };
        let mut words = [0; ENTRIES];
        let around = match key.source {
            Source::Table(at) => {
                let first = slot - slot % PREFILL;
                let around = first..first + PREFILL;
                let words = words.get_mut(around.clone()).unwrap_or_default();
                if !guest.read_words(at + first as u64 * 8, words) {
                    return;
                }
                around
            }
            _ => 0..ENTRIES,
        };
        for slot in around {
            let value = match key.value_in_memory(slot) {
                Some(value) => value,
                None if derive::is_usable(paging, 1, words[slot]) => words[slot],
                None => continue,
            };
            if self.pool.table(table).values[slot] != 0 {
                continue;
            }
            let Some(entry) = self.leaf(&key, slot, value, ask, frames) else {
                continue;
            };
            if self.pool.fill(table, slot, entry) {
                self.pool.table_mut(table).values[slot] = value;
            }
        }
    }

    /// The shadow entry for a guest's entry; `None` when the view has no access.
    fn leaf(
        &self,
        key: &Key,
        slot: usize,
        value: u64,
        access: Access,
        frames: &mut impl Frames,
    ) -> Option<u64> {
        let rights = key.rights_of(value);
        let grant = Grant::new(key.context, rights)?;
        let frame = entry::frame(1, value);
        let backing = match self.is_hidden(frame) {
            true => Backing::Device {
                phys: self.monitor.hole,
            },
            false => {
                let place = Place {
                    at: key.linear_of(slot),
                    may_execute: grant.may_execute(),
                };
                frames.backing(frame, place, key.context.view, access)
            }
        };
        Some(grant.entry(frame, backing))
    }

    /// Whether a frame has memory that no guest may see.
    fn is_hidden(&self, frame: u64) -> bool {
        self.monitor.memory.contains(&frame) || self.pool.range().contains(&frame)
    }
}

/// The guest's entry that an entry of a shadow table stands for, on a path.
fn value_of(key: &Key, slot: usize, path: &Path) -> u64 {
    let guest = || path.at_level(key.level).map_or(0, |step| step.value);
    key.value_in_memory(slot).unwrap_or_else(guest)
}
