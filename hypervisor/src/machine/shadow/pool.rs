//! The pages of the pool, each a shadow table, and what each was derived from.
//!
//! A page is never used for a second table before the whole pool is reset: KVM may remember what
//! the first one was. So tables are made, linked, emptied and given up, but not freed.

use std::collections::HashMap;
use std::ops::Range;

use super::derive::{self, Context, Rights};
use super::edits::{Edit, Waiting};
use super::{Full, Tables};
use crate::machine::paging::entry::{self, ENTRIES, LARGE, PAGE, PRESENT};

/// A table of the pool, by its page's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(u32);

/// What a shadow table shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// The guest's table at this address, entry by entry.
    Table(u64),
    /// Memory from this address on, which the guest maps with one large entry.
    Memory(u64),
    /// Nothing of the guest's yet.
    Nothing,
}

/// Two ways that agree in all of this share a table: processes that have the kernel's tables in
/// common, above all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub context: Context,
    pub level: u32,
    pub source: Source,
    /// The first address that goes through the table. A guest's table that is in two places has
    /// two shadows, so a shadow entry has one linear address.
    pub linear: u64,
    /// What the entries above allow.
    pub rights: Rights,
}

impl Key {
    /// The address that an entry maps.
    pub fn linear_of(&self, slot: usize) -> u64 {
        let at = self.linear + slot as u64 * entry::span(self.level);
        let is_upper = self.level == 4 && slot >= ENTRIES / 2;
        if is_upper { at | 0xffff << 48 } else { at }
    }

    /// The table below an entry, whose value in the guest is given.
    pub fn child(&self, slot: usize, value: u64) -> Self {
        let (source, rights) = match self.source {
            Source::Memory(at) => {
                let at = at + slot as u64 * entry::span(self.level);
                (Source::Memory(at), self.rights)
            }
            _ => {
                let source = match entry::is_leaf(self.level, value) {
                    true => Source::Memory(entry::frame(self.level, value)),
                    false => Source::Table(value & entry::ADDRESS),
                };
                (source, self.rights.through(self.level, value))
            }
        };
        Self {
            context: self.context,
            level: self.level.saturating_sub(1),
            source,
            linear: self.linear_of(slot),
            rights,
        }
    }

    /// What the entries of a path allow, with that of a page at its end.
    pub fn rights_of(&self, value: u64) -> Rights {
        match self.source {
            Source::Memory(_) => self.rights,
            _ => self.rights.through(1, value),
        }
    }

    /// What stands for the guest's entry in a table that shows memory.
    pub fn value_in_memory(&self, slot: usize) -> Option<u64> {
        let Source::Memory(at) = self.source else {
            return None;
        };
        let size = if self.level > 1 { LARGE } else { 0 };
        let frame = at + slot as u64 * entry::span(self.level);
        Some(frame | PRESENT | size)
    }
}

/// What is known of a shadow table.
#[derive(Debug)]
pub(super) struct Table {
    pub key: Key,
    /// Given up: no root that is verified leads here.
    pub is_dead: bool,
    /// Of a root: when it was last verified.
    pub epoch: u64,
    /// The guest's entry that each entry was derived from; 0 where nothing is mapped.
    pub values: Box<[u64; ENTRIES]>,
    /// The tables that the entries lead to; empty at level 1.
    children: Box<[Option<Id>]>,
}

impl Table {
    /// The table that an entry leads to.
    pub fn child(&self, slot: usize) -> Option<Id> {
        self.children.get(slot).copied().flatten()
    }
}

/// All tables.
#[derive(Debug)]
pub(super) struct Pool<T> {
    pub words: T,
    pub waiting: Waiting,
    range: Range<u64>,
    tables: Vec<Table>,
    by_key: HashMap<Key, Id>,
}

impl<T: Tables> Pool<T> {
    pub fn new(words: T, range: Range<u64>) -> Self {
        Self {
            words,
            range,
            waiting: Waiting::new(),
            tables: Vec::new(),
            by_key: HashMap::new(),
        }
    }

    /// Forget all tables: their pages are zero again.
    pub fn clear(&mut self) {
        self.tables.clear();
        self.by_key.clear();
        self.waiting.clear();
    }

    pub fn range(&self) -> &Range<u64> {
        &self.range
    }

    pub fn ids(&self) -> impl Iterator<Item = Id> + use<T> {
        (0..self.tables.len() as u32).map(Id)
    }

    /// How many more tables fit.
    pub fn room(&self) -> u64 {
        let pages = self.range.end.saturating_sub(self.range.start) / PAGE;
        pages.saturating_sub(self.tables.len() as u64)
    }

    pub fn find(&self, key: &Key) -> Option<Id> {
        self.by_key.get(key).copied()
    }

    /// A new, empty table that others may find by its key.
    pub fn make(&mut self, key: Key) -> Result<Id, Full> {
        let id = self.make_private(key)?;
        self.by_key.insert(key, id);
        Ok(id)
    }

    /// A new, empty table that nobody finds.
    pub fn make_private(&mut self, key: Key) -> Result<Id, Full> {
        let id = Id(u32::try_from(self.tables.len()).map_err(|_| Full)?);
        if self.room() == 0 {
            return Err(Full);
        }
        let children = if key.level > 1 { ENTRIES } else { 0 };
        self.tables.push(Table {
            key,
            is_dead: false,
            epoch: 0,
            values: Box::new([0; ENTRIES]),
            children: vec![None; children].into(),
        });
        Ok(id)
    }

    /// A table. An `Id` comes from this pool alone, and `clear` leaves none behind.
    pub fn table(&self, id: Id) -> &Table {
        &self.tables[id.0 as usize]
    }

    pub fn table_mut(&mut self, id: Id) -> &mut Table {
        &mut self.tables[id.0 as usize]
    }

    /// The guest-physical address of a table's page.
    pub fn phys(&self, id: Id) -> u64 {
        self.range.start + u64::from(id.0) * PAGE
    }

    /// Give a table up. It keeps what it has; the caller takes it out of the way it was found on.
    pub fn give_up(&mut self, id: Id) {
        let table = &mut self.tables[id.0 as usize];
        table.is_dead = true;
        if self.by_key.get(&table.key) == Some(&id) {
            self.by_key.remove(&table.key);
        }
    }

    /// Let an entry lead to a table.
    pub fn link(&mut self, parent: Id, slot: usize, value: u64, child: Id) {
        let to = derive::link(self.phys(child));
        let table = self.table_mut(parent);
        table.values[slot] = value;
        if let Some(place) = table.children.get_mut(slot) {
            *place = Some(child);
        }
        self.set(parent, slot, to);
    }

    /// Take an entry out.
    pub fn drop_entry(&mut self, id: Id, slot: usize) {
        let table = self.table_mut(id);
        table.values[slot] = 0;
        if let Some(place) = table.children.get_mut(slot) {
            *place = None;
        }
        self.set(id, slot, 0);
    }

    /// What an entry is, or will be when the edits are made.
    pub fn entry(&self, id: Id, slot: usize) -> u64 {
        let at = self.entry_at(id, slot);
        let waiting = self.waiting.value(at);
        waiting.unwrap_or_else(|| self.words.read(at))
    }

    /// Make an entry be `new`: at once where a KVM that shadows will see it, by an edit otherwise.
    pub fn set(&mut self, id: Id, slot: usize, new: u64) {
        let at = self.entry_at(id, slot);
        let old = self.words.read(at);
        if self.waiting.value(at).is_some() {
            self.edit(id, slot, new);
        } else if old & PRESENT == 0 || (new != 0 && derive::is_upgrade(old, new)) {
            if !derive::is_same(old, new) {
                self.words.write(at, new);
            }
        } else {
            self.edit(id, slot, new);
        }
    }

    /// Fill an entry that is empty, and of which no edit waits; whether it was.
    pub fn fill(&mut self, id: Id, slot: usize, new: u64) -> bool {
        let at = self.entry_at(id, slot);
        let is_empty = self.words.read(at) == 0;
        if is_empty {
            self.words.write(at, new);
        }
        is_empty
    }

    /// Let the monitor store an entry, and invalidate what goes through it.
    pub fn edit(&mut self, id: Id, slot: usize, value: u64) {
        let key = &self.table(id).key;
        let (linear, is_link) = (key.linear_of(slot), key.level > 1);
        let entry = self.entry_at(id, slot);
        let edit = Edit {
            entry,
            value,
            linear,
        };
        self.waiting.push(edit, is_link);
    }

    fn entry_at(&self, id: Id, slot: usize) -> u64 {
        self.phys(id) + slot as u64 * 8
    }
}
