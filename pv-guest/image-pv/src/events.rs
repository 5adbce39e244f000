//! Interrupts that arrived while the kernel held them, and the events that are not the kernel's.

use core::sync::atomic::Ordering;

use hypercall_abi::boot::BootInfo;
use hypercall_abi::layout;
use hypercall_abi::table::irq::Guest as _;
use pv_guest::trap;
use pv_runtime::{PAGE, TrapFrame, shared_page};

/// The hypervisor enters here, by way of the runtime's entry.
// SAFETY (unsafe attribute): the runtime declares the symbol; each image defines it once.
#[unsafe(no_mangle)]
extern "C" fn paravane_start(boot: &'static BootInfo) -> ! {
    crate::hooks::remember(boot);
    pv_guest::boot::start(boot)
}

/// Every event arrives here, with virtual interrupts off.
// SAFETY (unsafe attribute): as above.
#[unsafe(no_mangle)]
extern "C" fn paravane_event(frame: &mut TrapFrame) {
    if frame.vector == layout::ENTRY_PENDING {
        // Only a context that lets interrupts in can be stopped on its way back for one.
        deliver_pending();
    } else {
        trap::handle(frame);
    }
}

/// Handle every pending interrupt, the highest vector first. Called with interrupts off.
pub fn deliver_pending() {
    let pending = &shared_page().pending;
    loop {
        let bits = pending.load(Ordering::Acquire);
        let Some(vector) = bits.checked_ilog2() else {
            return;
        };
        pending.fetch_and(!(1 << vector), Ordering::AcqRel);
        trap::interrupt(vector as u8);
    }
}

/// Let interrupts in when the processor's own flag may be clear: the monitor knows.
#[cold]
pub fn unmask() {
    let shared = shared_page();
    loop {
        shared.hold.cli.store(1, Ordering::Relaxed);
        deliver_pending();
        // On 0 the monitor has cleared `hold` and let interrupts in; on 1 one came meanwhile.
        if PAGE.unmask() == Ok(0) {
            return;
        }
    }
}
