//! Compares the shadow with the guest's tables, and takes out what is not right any more. Called
//! at the points at which a processor forgets translations.

use super::pool::{Id, Source};
use super::{Shadow, TOP_SLOT, Tables, derive};
use crate::machine::paging::entry::{self, ENTRIES, PRESENT};
use crate::machine::paging::{Paging, Physical};

/// A table with more wrong entries than this is given up as a whole: one edit instead of many, and
/// a page of the pool.
pub const MAX_DROPS: usize = 16;

impl<T: Tables> Shadow<T> {
    /// Compare a table, and all that it leads to. `false`: too much is wrong, and the caller gives
    /// the table up.
    pub(super) fn verify(&mut self, guest: &impl Physical, paging: &Paging, id: Id) -> bool {
        let key = self.pool.table(id).key;
        let mut words = [0; ENTRIES];
        match key.source {
            Source::Table(at) => {
                if !guest.read_words(at, &mut words) {
                    words = [0; ENTRIES];
                }
            }
            // Its parent's entry is all that it depends on.
            Source::Memory(_) if key.level == 1 => return true,
            Source::Memory(_) => words = *self.pool.table(id).values,
            Source::Nothing => return true,
        }
        match key.level {
            1 => self.verify_pages(paging, id, &words),
            _ => self.verify_links(guest, paging, id, &words),
        }
    }

    /// The leaves, against the guest's entries of now.
    fn verify_pages(&mut self, paging: &Paging, id: Id, words: &[u64; ENTRIES]) -> bool {
        let (mut from, mut drops) = (0, 0);
        while let Some(slot) = first_difference(&self.pool.table(id).values, words, from) {
            from = slot + 1;
            if self.holds(paging, id, slot, words[slot]) {
                self.pool.table_mut(id).values[slot] = words[slot];
                continue;
            }
            drops += 1;
            if drops > self.max_drops || !self.take_out(id, slot) {
                return false;
            }
        }
        true
    }

    /// The entries that lead to tables, and those tables.
    fn verify_links(
        &mut self,
        guest: &impl Physical,
        paging: &Paging,
        id: Id,
        words: &[u64; ENTRIES],
    ) -> bool {
        for (slot, word) in words.iter().enumerate() {
            let table = self.pool.table(id);
            let (true, Some(child)) = (table.values[slot] != 0, table.child(slot)) else {
                continue;
            };
            if self.holds(paging, id, slot, *word) {
                if self.verify(guest, paging, child) {
                    self.pool.table_mut(id).values[slot] = *word;
                    continue;
                }
                self.pool.give_up(child);
            }
            if !self.take_out(id, slot) {
                return false;
            }
        }
        true
    }

    /// Compare the entries of one path, the root's first.
    pub(super) fn recheck(&mut self, guest: &impl Physical, paging: &Paging, root: Id, at: u64) {
        let mut id = root;
        loop {
            let table = self.pool.table(id);
            let slot = entry::index(at, table.key.level);
            let old = table.values[slot];
            if old == 0 {
                return;
            }
            let now = match table.key.source {
                Source::Table(table) => guest.read_word(table + slot as u64 * 8).unwrap_or(0),
                _ => old,
            };
            let child = table.child(slot);
            if !self.holds(paging, id, slot, now) {
                if !self.take_out(id, slot) {
                    self.pool.waiting.overflow();
                }
                return;
            }
            self.pool.table_mut(id).values[slot] = now;
            match child {
                Some(child) => id = child,
                None => return,
            }
        }
    }

    /// Whether an entry that is filled is right when the guest's entry is `now`.
    fn holds(&self, paging: &Paging, id: Id, slot: usize, now: u64) -> bool {
        let table = self.pool.table(id);
        let (key, old) = (&table.key, table.values[slot]);
        match table.child(slot) {
            Some(child) => {
                let child = self.pool.table(child);
                let is_same = old == now || derive::is_usable(paging, key.level, now);
                is_same && !child.is_dead && child.key == key.child(slot, now)
            }
            None => old == now || derive::keeps(key.context, paging, key.rights, old, now),
        }
    }

    /// Take an entry out, if there is room for the edit.
    fn take_out(&mut self, id: Id, slot: usize) -> bool {
        let table = self.pool.table(id);
        match table.child(slot) {
            Some(top) if table.key.level == 4 && slot == TOP_SLOT => {
                self.pool.table_mut(id).values[slot] = 0;
                self.empty(top)
            }
            _ => {
                let has_room = self.pool.waiting.has_room();
                if has_room {
                    self.pool.drop_entry(id, slot);
                }
                has_room
            }
        }
    }

    /// Take all out of the table that the monitor's gigabyte goes through, but for the monitor.
    pub(super) fn empty(&mut self, top: Id) -> bool {
        for slot in 0..ENTRIES {
            if self.pool.table(top).values[slot] != 0 && !self.take_out(top, slot) {
                return false;
            }
        }
        let top = self.pool.table_mut(top);
        top.key.source = Source::Nothing;
        // Nothing in it is wrong any more.
        top.is_dead = false;
        true
    }
}

/// The first entry from `from` on that is filled, and was derived from another word.
fn first_difference(values: &[u64; ENTRIES], words: &[u64; ENTRIES], from: usize) -> Option<usize> {
    const RUN: usize = 32;
    // What is filled has its present bit. Without a comparison, the loop over a run becomes vector
    // instructions; most runs are right.
    let wrong = |(old, now): (&u64, &u64)| (old ^ now) & (old & PRESENT).wrapping_neg();
    let runs = values.chunks(RUN).zip(words.chunks(RUN)).enumerate();
    for (run, (values, words)) in runs.skip(from / RUN) {
        let pairs = || values.iter().zip(words);
        if pairs().fold(0, |any, pair| any | wrong(pair)) == 0 {
            continue;
        }
        let mut slots = (run * RUN..).zip(pairs());
        if let Some((slot, _)) = slots.find(|(slot, pair)| *slot >= from && wrong(*pair) != 0) {
            return Some(slot);
        }
    }
    None
}
