//! The verbs: one call, one shared word or one plain instruction each.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use hypercall_abi::boot::BootInfo;
use hypercall_abi::shared::{RING_ENTRIES, SharedPage};
use hypercall_abi::table::console::Guest as _;
use hypercall_abi::table::irq::Guest as _;
use hypercall_abi::table::mmu::Guest as _;
use hypercall_abi::table::null::Guest as _;
use hypercall_abi::table::power::Guest as _;
use hypercall_abi::table::time::Guest as _;
use hypercall_abi::{Frame, GuestPhys, GuestPtr, GuestVirt, layout};
use pv_guest::hooks::{Hooks, NullCall, Privileged};

use pv_runtime::{PAGE, shared_page};

use crate::{events, ports, privileged};

struct PvHooks;
pv_guest::implement_hooks!(PvHooks);

/// The page directory of the kernel's view of the monitor, from the boot information.
static MONITOR_DIRECTORY: AtomicU64 = AtomicU64::new(0);

/// Keep what the first page tables need, before anything else runs.
pub fn remember(boot: &BootInfo) {
    MONITOR_DIRECTORY.store(boot.kernel_view, Ordering::Relaxed);
}

/// A call that cannot be refused unless kernel and hypervisor disagree: there is no way on.
#[cold]
pub(crate) fn refused(what: &str, error: hypercall_abi::CallError) -> ! {
    panic!("the hypervisor refused {what}: {error}")
}

impl Hooks for PvHooks {
    fn init(_: &'static BootInfo) {
        if let Err(error) = PAGE.set_event_entries(GuestVirt(pv_runtime::entries())) {
            refused("set_event_entries", error);
        }
    }

    fn power_off(status: u8) -> ! {
        loop {
            // Returns only if the hypervisor refuses; there is nothing else to do with the processor.
            let _ = PAGE.power_off(status);
        }
    }

    #[inline(always)]
    fn irq_enable() {
        let shared = shared_page();
        compiler_fence(Ordering::SeqCst);
        shared.hold.cli.store(0, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        // The store above comes first: an interrupt after it is taken, one before it has left its
        // mark here. (The monitor runs on this processor, so program order is enough.)
        if shared.needs_unmask.load(Ordering::Relaxed) != 0 {
            events::unmask();
        }
    }

    #[inline(always)]
    fn irq_disable() {
        shared_page().hold.cli.store(1, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
    }

    #[inline(always)]
    fn irq_is_enabled() -> bool {
        shared_page().hold.cli.load(Ordering::Relaxed) == 0
    }

    fn idle() {
        pv_runtime::drain();
        if PAGE.idle().is_ok() {
            events::deliver_pending();
        }
    }

    #[inline(always)]
    fn end_of_interrupt() {
        // Neither this nor arm_timer can fail: their slots take every argument.
        let _ = PAGE.end_of_interrupt();
    }

    #[inline(always)]
    fn load_root(root: u64) {
        if let Err(error) = PAGE.load_root(Frame::containing(GuestPhys(root))) {
            refused("load_root", error);
        }
    }

    #[inline(always)]
    fn invalidate_page(at: u64) {
        if let Err(error) = PAGE.invalidate_page(GuestVirt(at)) {
            refused("invalidate_page", error);
        }
    }

    #[inline(always)]
    fn fault_address() -> u64 {
        shared_page().fault_address.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn kernel_pages_are_user() -> bool {
        true
    }

    fn monitor_directory() -> Option<u64> {
        Some(MONITOR_DIRECTORY.load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn arm_timer(delta_ns: u32) {
        let _ = PAGE.arm_timer(delta_ns);
    }

    #[inline(always)]
    fn ticks() -> u64 {
        // SAFETY: CR4.TSD is clear, so RDTSC works at CPL 3.
        unsafe { _rdtsc() }
    }

    fn console_write(text: &[u8]) {
        for piece in text.chunks(40) {
            let mut words = [0u64; 5];
            for (word, bytes) in words.iter_mut().zip(piece.chunks(8)) {
                let mut eight = [0; 8];
                for (to, from) in eight.iter_mut().zip(bytes) {
                    *to = *from;
                }
                *word = u64::from_le_bytes(eight);
            }
            let [w0, w1, w2, w3, w4] = words;
            let _ = PAGE.console_put(piece.len() as u64, w0, w1, w2, w3, w4);
        }
        if text.contains(&b'\n') {
            pv_runtime::drain();
        }
    }

    fn console_flush() {
        pv_runtime::drain();
    }

    fn console_read(into: &mut [u8]) -> usize {
        let at = (into.as_mut_ptr() as u64).wrapping_sub(layout::KERNEL_BASE);
        let at = if at < layout::MONITOR_GIB - layout::KERNEL_BASE {
            at
        } else {
            (into.as_mut_ptr() as u64).wrapping_sub(layout::DIRECT_MAP)
        };
        match PAGE.console_read(GuestPtr::new(GuestPhys(at)), into.len() as u64) {
            Ok(count) => (count as usize).min(into.len()),
            Err(_) => 0,
        }
    }

    fn port_read(port: u16) -> u8 {
        ports::read(port)
    }

    fn port_write(port: u16, value: u8) {
        ports::write(port, value);
    }

    fn port_read_words(port: u16, into: &mut [u16]) {
        ports::read_words(port, into);
    }

    fn port_write_words(port: u16, from: &[u16]) {
        ports::write_words(port, from);
    }

    #[inline(always)]
    fn shared() -> &'static SharedPage {
        shared_page()
    }

    fn image_name() -> &'static str {
        "pv"
    }

    #[inline(always)]
    fn null_call(which: NullCall) -> bool {
        match which {
            NullCall::Monitor => PAGE.null_monitor().is_ok(),
            NullCall::Machine => PAGE.null_machine().is_ok(),
            NullCall::Batch64 => {
                for _ in 0..RING_ENTRIES {
                    let _ = PAGE.null_batch();
                }
                PAGE.drain_batch().is_ok()
            }
        }
    }

    fn privileged_operand(which: Privileged) -> Option<u64> {
        privileged::operand(which)
    }

    fn privileged(which: Privileged, operand: u64, turns: u64) {
        privileged::execute(which, operand, turns);
    }
}
