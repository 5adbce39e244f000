//! The hypervisor's view of a vCPU's shared page.

use std::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::shared::{ClockScale, SharedPage};

use crate::memory::Memory;

/// A vCPU's shared page, in the mapping of its virtual machine.
#[derive(Debug)]
pub struct Shared(*const SharedPage);

// SAFETY: the page is memory of the machine's mapping, every field is atomic, and nothing is tied
// to the thread that made the pointer.
unsafe impl Send for Shared {}

impl Shared {
    /// The page at a guest-physical address. It must not outlive `memory`; `Vm` holds both.
    pub(crate) fn new(memory: &Memory, at: u64) -> Option<Self> {
        memory
            .host_page(at)
            .map(|page| Self(page.cast_const().cast()))
    }

    fn page(&self) -> &SharedPage {
        // SAFETY: `new` checked that 4096 mapped bytes are there, page aligned as the mapping is;
        // `Vm` drops this before the memory; the fields are atomic, so the guest may write too.
        unsafe { &*self.0 }
    }

    /// Set what the guest finds at its start.
    pub fn start(&self, clock: ClockScale) {
        let page = self.page();
        page.hold.cli.store(1, Ordering::Relaxed);
        page.tsc_base.store(clock.tsc_base, Ordering::Relaxed);
        page.tsc_mul.store(clock.mul, Ordering::Relaxed);
    }

    /// Count an exit where the guest can read it.
    pub fn count_exit(&self) {
        count(&self.page().exits);
    }

    /// Count a call where the guest can read it.
    pub fn count_call(&self) {
        count(&self.page().calls);
    }

    /// How many batch entries the guest has made.
    pub fn ring_tail(&self) -> u32 {
        self.page().ring_tail.load(Ordering::Acquire)
    }

    /// Say how many batch entries were taken.
    pub fn set_ring_head(&self, head: u32) {
        self.page().ring_head.store(head, Ordering::Release);
    }
}

/// The guest may write too; nobody else counts, so no locked instruction is needed.
fn count(word: &AtomicU64) {
    word.store(
        word.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
}
