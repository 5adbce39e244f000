//! Changes of present entries, which the monitor makes at CPL 0: a KVM that shadows page tables
//! itself does not see stores that the VMM makes (platforms: kvm_pvm).

use super::Full;

/// The most edits that may wait. The monitor makes them one by one, at CPL 0.
pub const MAX_EDITS: usize = 64;

/// A store that the monitor makes to a shadow entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The guest-physical address of the entry.
    pub entry: u64,
    /// Its new value.
    pub value: u64,
    /// The address to invalidate: the first that goes through the entry.
    pub linear: u64,
}

/// The stores to make before the guest goes on, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// The stores.
    pub list: Vec<Edit>,
    /// Invalidating each `linear` is not enough: an entry led to a whole table. The monitor loads
    /// CR3 after the stores instead.
    pub flush: bool,
}

/// Edits that wait to be taken.
#[derive(Debug)]
pub(super) struct Waiting {
    edits: Edits,
    /// The most that may wait.
    pub limit: usize,
    is_over: bool,
}

impl Waiting {
    /// None, and at most [`MAX_EDITS`].
    pub fn new() -> Self {
        Self {
            edits: Edits::default(),
            limit: MAX_EDITS,
            is_over: false,
        }
    }

    /// Forget all: the entries are no more.
    pub fn clear(&mut self) {
        self.edits = Edits::default();
        self.is_over = false;
    }

    /// Whether one more fits.
    pub fn has_room(&self) -> bool {
        self.edits.list.len() < self.limit
    }

    /// What an entry will be, if an edit of it waits.
    pub fn value(&self, entry: u64) -> Option<u64> {
        let found = self.edits.list.iter().find(|edit| edit.entry == entry);
        found.map(|edit| edit.value)
    }

    /// Add an edit, in place of one of the same entry. `flush`: the entry leads to a table.
    pub fn push(&mut self, edit: Edit, flush: bool) {
        self.edits.flush |= flush;
        let same = |waiting: &&mut Edit| waiting.entry == edit.entry;
        if let Some(waiting) = self.edits.list.iter_mut().find(same) {
            waiting.value = edit.value;
        } else if self.has_room() {
            self.edits.list.push(edit);
        } else {
            self.is_over = true;
        }
    }

    /// An edit would have been needed, and is lost.
    pub fn overflow(&mut self) {
        self.is_over = true;
    }

    /// Whether an edit was lost.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Hand the edits out.
    pub fn take(&mut self) -> Result<Edits, Full> {
        match self.is_over {
            true => Err(Full),
            false => Ok(std::mem::take(&mut self.edits)),
        }
    }
}
