//! What a guest's entry becomes in the shadow. Pure: no memory, no state.

use super::{Backing, View};
use crate::machine::paging::entry::{
    self, ACCESSED, DIRTY, NO_EXECUTE, PRESENT, UNCACHED, USER, WRITE, WRITE_THROUGH,
};
use crate::machine::paging::{Access, Paging};

/// What decides the meaning of a guest's entries besides the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Context {
    pub view: View,
    /// CR0.WP; set in the user view, where it means nothing.
    pub write_protect: bool,
    /// EFER.NXE: what was well formed under one value may not be under the other.
    pub no_execute: bool,
}

impl Context {
    pub fn new(paging: &Paging, view: View) -> Self {
        Self {
            view,
            write_protect: paging.write_protect || view == View::User,
            no_execute: paging.no_execute,
        }
    }
}

/// What the entries of a path so far allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rights {
    write: bool,
    user: bool,
    execute: bool,
    /// The entry that maps the page has its dirty bit; true as long as there is no such entry.
    dirty: bool,
}

impl Rights {
    /// Before the first entry.
    pub const ALL: Self = Self {
        write: true,
        user: true,
        execute: true,
        dirty: true,
    };

    /// After one more entry, of a level.
    pub fn through(self, level: u32, value: u64) -> Self {
        Self {
            write: self.write && value & WRITE != 0,
            user: self.user && value & USER != 0,
            execute: self.execute && value & NO_EXECUTE == 0,
            dirty: self.dirty && (!entry::is_leaf(level, value) || value & DIRTY != 0),
        }
    }
}

/// What the guest's tables let a view do without a fault, and without a bit to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    write: bool,
    execute: bool,
}

impl Grant {
    /// `None`: the view has no access.
    pub fn new(context: Context, rights: Rights) -> Option<Self> {
        let may_write = rights.write || !context.write_protect;
        (rights.user || context.view == View::Kernel).then_some(Self {
            // The first store to a clean page must fault, to set the dirty bit.
            write: may_write && rights.dirty,
            execute: rights.execute,
        })
    }

    /// Whether code may be fetched.
    pub fn may_execute(self) -> bool {
        self.execute
    }

    /// The shadow entry.
    pub fn entry(self, frame: u64, backing: Backing) -> u64 {
        let bit = |is_set: bool, bit: u64| if is_set { bit } else { 0 };
        let data = PRESENT | USER | USED | bit(self.write, WRITE);
        match backing {
            Backing::Ram {
                phys,
                may_write,
                may_execute,
            } => {
                let read = data & !bit(!may_write, WRITE);
                let fetch = self.execute && may_execute;
                entry::frame(1, phys) | read | bit(!fetch, NO_EXECUTE)
            }
            Backing::Device { phys } => entry::frame(1, phys) | data | DEVICE,
            Backing::Nothing => frame | data | DEVICE,
        }
    }

    /// Whether all that this one lets do, the other lets do, too.
    fn is_within(self, other: Self) -> bool {
        (other.write || !self.write) && (other.execute || !self.execute)
    }
}

const DEVICE: u64 = UNCACHED | WRITE_THROUGH | NO_EXECUTE;

/// Nobody reads these bits of a shadow entry; those of the guest's entry are the guest's. They are set from the start,
/// since to set them takes the processor time, and a KVM with shadow tables a fault for the first read of a page and
/// one for the first store.
const USED: u64 = ACCESSED | DIRTY;

/// The entry of a shadow table that leads to another: the last entry alone restricts.
pub(super) fn link(table: u64) -> u64 {
    table | PRESENT | WRITE | USER | ACCESSED
}

/// Whether a shadow entry lets the real CPL 3 do this.
pub(super) fn satisfies(shadow: u64, access: Access) -> bool {
    shadow & PRESENT != 0
        && (shadow & WRITE != 0 || !access.write)
        && (shadow & NO_EXECUTE == 0 || !access.execute)
}

/// Whether two shadow entries are the same, but for what the processor has noted in them.
pub(super) fn is_same(old: u64, new: u64) -> bool {
    (old ^ new) & !USED == 0
}

/// Whether the second shadow entry differs from the first, which is present, in more rights alone.
pub(super) fn is_upgrade(old: u64, new: u64) -> bool {
    let [old, new] = [old, new].map(|entry| entry & !USED);
    let added = new & !old & !NO_EXECUTE | old & !new & NO_EXECUTE;
    let taken = old & !new & !NO_EXECUTE | new & !old & NO_EXECUTE;
    taken == 0 && added & !(WRITE | NO_EXECUTE) == 0
}

/// Whether a shadow entry is one that its frame's owner would still make.
pub(super) fn conforms(shadow: u64, frame: u64, backing: Backing) -> bool {
    let most = Grant {
        write: true,
        execute: true,
    };
    let most = most.entry(frame, backing);
    is_same(shadow, most) || is_upgrade(shadow, most)
}

/// Whether a shadow leaf that was derived from `old` is right for `new`, too: the same frame, and no
/// right that `new` does not give. `above` is what the entries before it allow.
pub(super) fn keeps(context: Context, paging: &Paging, above: Rights, old: u64, new: u64) -> bool {
    let grant = |value| Grant::new(context, above.through(1, value));
    is_usable(paging, 1, new)
        && entry::frame(1, old) == entry::frame(1, new)
        && match (grant(old), grant(new)) {
            (Some(old), Some(new)) => old.is_within(new),
            _ => false,
        }
}

/// Whether a guest's entry may be in the shadow at all: present, well formed, and used before, so
/// that no accessed bit is to be set.
pub(super) fn is_usable(paging: &Paging, level: u32, value: u64) -> bool {
    value & (PRESENT | ACCESSED) == PRESENT | ACCESSED && !paging.is_malformed(level, value)
}
