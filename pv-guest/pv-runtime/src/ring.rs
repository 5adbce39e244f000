//! Tier 3: calls that wait in the batch ring until any exit drains it.

use core::ptr;
use core::sync::atomic::Ordering;

use hypercall_abi::shared::{Entry, RING_ENTRIES, ring_slot, ring_waiting};
use hypercall_abi::table::null::Guest as _;
use hypercall_abi::{Args, CallError, layout};

use crate::{gate, shared_page};

const RING: *mut Entry = (layout::vcpu_area(0) + layout::AREA_RING) as *mut Entry;

/// Put a call into the ring; a full ring is drained first.
#[inline]
pub fn queue(number: u64, args: Args) -> u64 {
    let shared = shared_page();
    let tail = shared.ring_tail.load(Ordering::Relaxed);
    match ring_waiting(tail, shared.ring_head.load(Ordering::Acquire)) {
        Ok(waiting) if waiting < RING_ENTRIES => {}
        Ok(_) => {
            if let Err(error) = gate::PAGE.drain_batch() {
                return error.to_word();
            }
        }
        Err(_) => return CallError::RingFull.to_word(),
    }
    // SAFETY: RING is the monitor's ring page, mapped for the kernel in every kernel root, and
    // ring_slot is below RING_ENTRIES; the VMM reads an entry only after ring_tail passed it, and
    // nothing else in this image writes the page.
    unsafe {
        ptr::write_volatile(
            RING.add(ring_slot(tail)),
            Entry {
                number,
                args,
                result: 0,
            },
        )
    };
    shared
        .ring_tail
        .store(tail.wrapping_add(1), Ordering::Release);
    0
}

/// Whether calls wait.
#[inline]
pub fn is_waiting() -> bool {
    let shared = shared_page();
    shared.ring_tail.load(Ordering::Relaxed) != shared.ring_head.load(Ordering::Relaxed)
}

/// Have the VMM run what waits.
#[inline]
pub fn drain() {
    if is_waiting() {
        // A refusal leaves the entries where they are; the next exit reports a corrupt ring.
        let _ = gate::PAGE.drain_batch();
    }
}
