//! Shadow page tables: what the real processor walks while a guest's own tables are never loaded.
//! For modes `trap` and `patch`, in which the native kernel runs at CPL 3. Called where exits of
//! these modes are handled; needs no KVM. Never writes to guest memory but for accessed and dirty
//! bits, and never decides what a frame is ([`Frames`] does).
//!
//! Each root of the guest has two shadows. The *kernel view* is for virtual CPL 0: all that the
//! guest maps is accessible at the real CPL 3. The *user view* has only pages with the user bit.
//! Both are filled on demand (`fill.rs`), with small pages only.
//!
//! **Sharing.** A shadow table stands for one table of the guest's (or a part of a large page), at
//! one linear address, under the same rights from the entries above (`pool.rs`). Processes that
//! share the kernel's tables share their shadows.
//!
//! **Staleness.** Nobody watches the guest's stores to its tables. As a TLB may, the shadow keeps
//! what it has until the guest says that it changed something. Each entry remembers the guest's
//! entry that it was derived from. INVLPG compares the entries of one path; a load of CR3 marks all
//! roots, and a marked root is compared as a whole before it is entered (`verify.rs`). A table that
//! gets linked is compared then. So does a path on which the guest faults.
//!
//! **Edits.** A KVM that shadows page tables itself does not see the VMM change a present entry.
//! Only additions are stored at once; the rest is a list of edits for the monitor (`edits.rs`).
//!
//! **Accessed and dirty bits** are exact: a page is mapped when the guest's entries have the
//! accessed bit, and writable when they have the dirty bit, so the first use faults, and sets them.

mod changed;
mod derive;
mod edits;
mod fill;
mod frames;
mod pool;
mod verify;

use std::ops::Range;

use hypercall_abi::layout::MONITOR_GIB;

use super::paging::entry::{self, ADDRESS};
use super::paging::{PageFault, Paging, Physical};
use derive::{Context, Rights};
use pool::{Id, Key, Pool, Source};

pub use edits::{Edit, Edits, MAX_EDITS};
pub use fill::PREFILL;
pub use frames::{Backing, Frames, Full, MonitorLink, Place, Tables, View};
pub use verify::MAX_DROPS;

/// The entry of a root through which the monitor's gigabyte goes.
const TOP_SLOT: usize = 511;
/// The entry of that table which is the monitor's.
const MONITOR_SLOT: usize = 511;
const _: () = assert!(MONITOR_GIB == u64::MAX << 30);

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The guest's tables allow the access, and the shadow does now. The guest tries again.
    Filled,
    /// The guest's tables forbid it: the guest gets this fault.
    True(PageFault),
    /// The guest touched the monitor's gigabyte, where it maps something itself.
    Monitor,
    /// The guest's tables allow it, but the owner of the frame does not: a fetch from a device,
    /// for example. The caller emulates the access, or ends the virtual machine.
    Refused {
        /// The guest-physical frame.
        frame: u64,
    },
    /// [`Full`].
    Full,
}

/// The shadow tables of a virtual machine.
#[derive(Debug)]
pub struct Shadow<T> {
    pool: Pool<T>,
    monitor: MonitorLink,
    /// Grows with each flush: a root that was verified in an earlier epoch is marked.
    epoch: u64,
    /// Grows whenever a translation may have been forgotten.
    generation: u64,
    /// What the last root was selected for.
    current: Option<Paging>,
    /// Whether a root was made that leads to nothing of the guest's yet.
    is_blank: bool,
    /// [`MAX_DROPS`].
    max_drops: usize,
}

impl<T: Tables> Shadow<T> {
    /// No shadows yet. The pool's pages are zero, nothing else uses them, and `words` reads and
    /// writes them; its bounds are multiples of 4096.
    pub fn new(words: T, pool: Range<u64>, monitor: MonitorLink) -> Self {
        Self {
            pool: Pool::new(words, pool),
            monitor,
            epoch: 1,
            generation: 1,
            current: None,
            is_blank: false,
            max_drops: MAX_DROPS,
        }
    }

    /// The words of the pool, for who resets it.
    pub fn words_mut(&mut self) -> &mut T {
        &mut self.pool.words
    }

    /// How many tables have been made since the last reset.
    pub fn tables(&self) -> usize {
        self.pool.ids().count()
    }

    /// The shadow root to load for a view, verified if it is marked. The caller asks before each
    /// entry of the guest that follows a flush, a change of the view, or a fault; then it takes the
    /// edits.
    ///
    /// # Errors
    /// [`Full`].
    pub fn select(
        &mut self,
        guest: &impl Physical,
        paging: &Paging,
        view: View,
    ) -> Result<u64, Full> {
        let root = self.root(guest, paging, view)?;
        Ok(self.pool.phys(root))
    }

    /// The guest has loaded CR3, with the value it had or another: marks every root.
    pub fn load_root(&mut self) {
        self.epoch += 1;
        self.generation += 1;
    }

    /// The guest has flushed all translations, global ones included (CR4.PGE), or changed CR0 or
    /// EFER: marks every root. What was derived under other values of CR0.WP and EFER.NXE is kept
    /// apart, and not used under the new ones.
    pub fn flush_all(&mut self) {
        self.epoch += 1;
        self.generation += 1;
    }

    /// The guest has executed INVLPG.
    pub fn invalidate(&mut self, guest: &impl Physical, paging: &Paging, at: u64) {
        self.generation += 1;
        for view in [View::Kernel, View::User] {
            if let Some(root) = self.pool.find(&root_key(paging, view)) {
                self.recheck(guest, paging, root, at);
            }
        }
    }

    /// Another number than before: the guest has flushed translations, one or all, and what is remembered of
    /// its tables elsewhere is to be looked up again.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a root was made since this was last asked: it leads to nothing of the guest's, who is about to fault.
    pub fn take_blank(&mut self) -> bool {
        std::mem::take(&mut self.is_blank)
    }

    /// What the monitor has to store before the guest goes on.
    ///
    /// # Errors
    /// [`Full`], when it is more than [`MAX_EDITS`].
    pub fn take_edits(&mut self) -> Result<Edits, Full> {
        self.pool.waiting.take()
    }

    /// Forget everything. The pool was reset: its pages are zero, and KVM has forgotten them.
    pub fn clear(&mut self) {
        self.pool.clear();
    }

    /// The root of a view, made or verified if need be.
    fn root(&mut self, guest: &impl Physical, paging: &Paging, view: View) -> Result<Id, Full> {
        if self.pool.waiting.is_over() {
            return Err(Full);
        }
        if self.current != Some(*paging) {
            self.current = Some(*paging);
            self.epoch += 1;
        }
        let key = root_key(paging, view);
        let root = match self.pool.find(&key) {
            Some(root) if self.pool.table(root).epoch == self.epoch => return Ok(root),
            Some(root) if self.verify(guest, paging, root) => root,
            Some(root) => {
                // Too much has changed: an empty root costs no edit.
                self.pool.give_up(root);
                self.make_root(key)?
            }
            None => self.make_root(key)?,
        };
        self.pool.table_mut(root).epoch = self.epoch;
        Ok(root)
    }

    /// A root that leads to the monitor alone.
    fn make_root(&mut self, key: Key) -> Result<Id, Full> {
        if self.pool.room() < 2 {
            return Err(Full);
        }
        let root = self.pool.make(key)?;
        let top = self.pool.make_private(Key {
            level: 3,
            source: Source::Nothing,
            linear: key.linear_of(TOP_SLOT),
            ..key
        })?;
        let directory = match key.context.view {
            View::Kernel => self.monitor.kernel_directory,
            View::User => self.monitor.directory,
        };
        let monitor = derive::link(entry::frame(1, directory));
        self.pool.set(top, MONITOR_SLOT, monitor);
        self.pool.link(root, TOP_SLOT, 0, top);
        self.is_blank = true;
        Ok(root)
    }
}

fn root_key(paging: &Paging, view: View) -> Key {
    Key {
        context: Context::new(paging, view),
        level: 4,
        source: Source::Table(paging.root & ADDRESS),
        linear: 0,
        rights: Rights::ALL,
    }
}

#[cfg(test)]
mod tests;
