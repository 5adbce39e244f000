//! The guest's page tables, read as a processor reads them: 4-level paging of long mode (SDM vol.
//! 3, 4.5 to 4.8). Called by `machine::shadow`, and by whoever needs to know where a guest's
//! address leads. Never changes more of guest memory than accessed and dirty bits.
//!
//! What is not there: 5 levels, PCID, protection keys, SMEP and SMAP. The virtual processor has
//! none of them.

pub mod entry;
mod mark;
mod walk;

pub use mark::mark;
pub use walk::walk;

use entry::{ADDRESS, LARGE, NO_EXECUTE};

/// Guest-physical memory, as a walk needs it.
pub trait Physical {
    /// The word at an address that is a multiple of 8, or `None` where there is no memory.
    fn read_word(&self, at: u64) -> Option<u64>;

    /// Replace the word at an address that is a multiple of 8 if it is still `old`; whether it was.
    /// Another processor may write at the same time.
    fn write_word(&self, at: u64, old: u64, new: u64) -> bool;

    /// Read consecutive words that lie in one page; whether all of them were there.
    fn read_words(&self, at: u64, into: &mut [u64]) -> bool {
        into.iter_mut().zip((at..).step_by(8)).all(|(word, at)| {
            let found = self.read_word(at);
            *word = found.unwrap_or_default();
            found.is_some()
        })
    }
}

/// The state of a virtual processor that decides what its page tables mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// The root's guest-physical address: CR3, of which bits 51:12 count.
    pub root: u64,
    /// CR0.WP: pages without the write bit are read-only for the kernel, too.
    pub write_protect: bool,
    /// EFER.NXE: bit 63 of an entry forbids execution, and is not reserved.
    pub no_execute: bool,
    /// MAXPHYADDR: address bits from this one on are reserved. At most what the real processor
    /// has, or shadow entries would have reserved bits set.
    pub phys_bits: u32,
}

impl Paging {
    /// Whether an entry of a level, which is present, has a reserved bit set (SDM vol. 3, 4.5.4,
    /// tables 4-15 to 4-20).
    pub fn is_malformed(&self, level: u32, value: u64) -> bool {
        let beyond = u64::MAX.checked_shl(self.phys_bits).unwrap_or(0) & ADDRESS;
        let execute = if self.no_execute { 0 } else { NO_EXECUTE };
        let size = match level {
            4 => LARGE,
            // A large page's address is a multiple of its size; bit 12 is PAT.
            2 | 3 if value & LARGE != 0 => (entry::span(level) - 1) & ADDRESS & !0x1000,
            _ => 0,
        };
        value & (beyond | execute | size) != 0
    }
}

/// What code wants to do at an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Store there.
    pub write: bool,
    /// Fetch an instruction from there.
    pub execute: bool,
    /// From virtual CPL 3.
    pub user: bool,
}

/// An entry on the way from the root to a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Its guest-physical address.
    pub at: u64,
    /// Its value.
    pub value: u64,
}

/// The entries on the way from the root to a page, the root's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    steps: [Step; 4],
    depth: usize,
}

impl Path {
    /// The entries, the root's first; the last one maps the page.
    pub fn steps(&self) -> &[Step] {
        self.steps.get(..self.depth).unwrap_or_default()
    }

    /// The entry of a level (4 is the root's), if the way goes that deep.
    pub fn at_level(&self, level: u32) -> Option<Step> {
        let step = 4usize.checked_sub(level as usize)?;
        self.steps().get(step).copied()
    }

    fn push(&mut self, step: Step) {
        if let Some(free) = self.steps.get_mut(self.depth) {
            *free = step;
            self.depth += 1;
        }
    }

    fn steps_mut(&mut self) -> &mut [Step] {
        self.steps.get_mut(..self.depth).unwrap_or_default()
    }
}

/// Where an address leads, and what may be done there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The guest-physical address.
    pub phys: u64,
    /// The page's size in bytes: 4 KiB, 2 MiB or 1 GiB.
    pub page_bytes: u64,
    /// Every entry has the write bit.
    pub writable: bool,
    /// Every entry has the user bit.
    pub user: bool,
    /// No entry forbids execution.
    pub executable: bool,
    /// The last entry has the global bit.
    pub global: bool,
    /// The last entry has the dirty bit.
    pub dirty: bool,
    /// The entries.
    pub path: Path,
}

impl Translation {
    /// Whether the rights allow an access (SDM vol. 3, 4.6.1).
    pub fn allows(&self, access: Access, write_protect: bool) -> bool {
        let may_write = match access.user {
            true => self.writable,
            false => self.writable || !write_protect,
        };
        (self.user || !access.user)
            && (may_write || !access.write)
            && (self.executable || !access.execute)
    }
}

/// A page fault: what the processor pushes as its error code (SDM vol. 3, 4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The bits [`PageFault::PRESENT`] and so on.
    pub code: u32,
}

impl PageFault {
    /// The tables map the page, and forbid the access.
    pub const PRESENT: u32 = 1;
    /// The access was a store.
    pub const WRITE: u32 = 1 << 1;
    /// The access came from CPL 3.
    pub const USER: u32 = 1 << 2;
    /// An entry had a reserved bit set.
    pub const RESERVED: u32 = 1 << 3;
    /// The access was an instruction fetch, and EFER.NXE is set.
    pub const FETCH: u32 = 1 << 4;
}

#[cfg(test)]
mod tests;
