//! The entry of one page, to be changed by a plain store: for the benchmark, which asks what that costs.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::Frame;
use x86_64::structures::paging::page_table::PageTableFlags as Flags;

use super::direct::to_virt;
use super::kernel::entry_at;

/// The bits of an entry that are an address (SDM vol. 3, table 4-20).
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The last entry on the way to a page that [`map`](super::map) mapped. Whoever changes it invalidates the
/// page, and unmaps it only as it was.
#[derive(Debug)]
pub struct Entry(&'static AtomicU64);

impl Entry {
    /// The entry of the page at `at`; `None` when no page of [`map`](super::map)'s is there.
    pub fn of(at: u64) -> Option<Self> {
        let entry = to_virt(entry_at(at)?) as *const AtomicU64;
        // SAFETY: a page table's word in the direct map, 8 bytes aligned. The kernel's tables are never taken
        // down, and what else reaches the word works under the lock that `entry_at` has let go, one store at a
        // time, on one processor.
        Some(Self(unsafe { &*entry }))
    }

    /// Let the page lead to another frame, with the rights that it has.
    #[inline(always)]
    pub fn point_to(&self, frame: Frame) {
        let rights = self.0.load(Ordering::Relaxed) & !ADDRESS;
        self.0.store(rights | frame.start().0, Ordering::Relaxed);
    }

    /// Let an access to the page fault, or lead to its frame again. It counts as not accessed yet.
    #[inline(always)]
    pub fn set_present(&self, is_present: bool) {
        let bits = self.0.load(Ordering::Relaxed) & !(Flags::PRESENT | Flags::ACCESSED).bits();
        let present = Flags::PRESENT.bits() * u64::from(is_present);
        self.0.store(bits | present, Ordering::Relaxed);
    }
}
