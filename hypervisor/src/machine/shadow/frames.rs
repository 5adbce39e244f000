//! What the shadow asks of others: its pool's words, and what a frame of guest memory is.

use std::ops::Range;

use crate::machine::paging::Access;

/// For whom a shadow root is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// The guest at virtual CPL 0.
    Kernel,
    /// The guest at virtual CPL 3.
    User,
}

/// The words of the pool's pages, by guest-physical address. The guest has no access to them.
pub trait Tables {
    /// A word. The shadow asks for addresses in its pool alone, multiples of 8.
    fn read(&self, at: u64) -> u64;
    /// Store a word, from outside of the virtual machine.
    fn write(&mut self, at: u64, value: u64);
}

/// What a frame of guest memory may be mapped as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Memory.
    Ram {
        /// The frame itself, or a copy of it.
        phys: u64,
        /// Stores may go there without an exit.
        may_write: bool,
        /// Code may be fetched from there.
        may_execute: bool,
    },
    /// A device, or a place that stands for one: never cached, never executed.
    Device {
        /// Where to map it to.
        phys: u64,
    },
    /// No memory. The frame is mapped as it is, like a device, so that KVM makes an exit of each
    /// access. A frame that has memory of the VMM's is not this, but a [`Backing::Device`] at a
    /// place without memory.
    Nothing,
}

/// Where a frame is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The page of linear addresses.
    pub at: u64,
    /// Whether the guest's tables let code be fetched there.
    pub may_execute: bool,
}

/// Who knows what the frames of guest memory are.
pub trait Frames {
    /// What a page-aligned guest-physical frame may be mapped as in a view, at a place.
    ///
    /// `access` is what the guest does there right now: a store to a page of which there is a copy,
    /// or a fetch from a page of which there is none yet, may change the answer. An access with no
    /// bit set asks how things are; the answer must not change them. When an answer has changed, the
    /// owner calls [`Shadow::frame_changed`](super::Shadow::frame_changed) before the guest goes on.
    fn backing(&mut self, frame: u64, place: Place, view: View, access: Access) -> Backing;
}

/// The gigabyte of the monitor's, and what of guest-physical memory no guest may see.
#[derive(Clone, Debug)]
pub struct MonitorLink {
    /// The page directory that every root of the user view maps at `layout::MONITOR_GIB`. Its entries
    /// say what of it CPL 3 may touch.
    pub directory: u64,
    /// Likewise of the kernel view.
    pub kernel_directory: u64,
    /// The monitor's guest-physical memory. A guest that maps it, or the pool, gets the hole.
    pub memory: Range<u64>,
    /// A page-aligned address without memory: an access there is an exit.
    pub hole: u64,
}

/// There is no room: the pool is used up, or too much has to change at once. The caller resets the
/// pool (its memory is zero, and KVM knows nothing of it any more), calls `clear`, and tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for shadow page tables: reset their pool")]
pub struct Full;
