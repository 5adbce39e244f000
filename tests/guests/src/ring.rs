//! The batch ring, entry by entry: what `pv-runtime` hides.

use core::ptr;
use core::sync::atomic::Ordering;

use hypercall_abi::shared::{Entry, ring_slot};
use hypercall_abi::{Args, Gate, Slot, layout};
use pv_runtime::{PAGE, drain, shared_page};

const RING: *const Entry = (layout::vcpu_area(0) + layout::AREA_RING) as *const Entry;

/// Make a call from the ring, and return what the hypervisor wrote beside it.
pub fn call(number: u64, args: Args) -> u64 {
    let refused = PAGE.call(Slot::Batch, number, args);
    if refused != 0 {
        return refused;
    }
    let index = shared_page()
        .ring_tail
        .load(Ordering::Relaxed)
        .wrapping_sub(1);
    drain();
    // SAFETY: RING is the ring's page, mapped in the boot tables, and ring_slot stays inside it; the
    // hypervisor wrote the entry before `drain` returned, and nothing writes it now.
    unsafe { ptr::read_volatile(RING.add(ring_slot(index))).result }
}
