//! The local APIC, by its memory-mapped registers (SDM vol. 3, chapter 11).

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::layout;
use pv_guest::mm;

/// Where the registers are mapped; 0 before [`init`].
static BASE: AtomicU64 = AtomicU64::new(0);
/// Timer ticks per nanosecond, as a 32.32 fixed-point number.
static TICKS_PER_NS: AtomicU64 = AtomicU64::new(0);

const EOI: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const LVT_TIMER: u64 = 0x320;
const INITIAL_COUNT: u64 = 0x380;
const DIVIDE: u64 = 0x3e0;

#[inline(always)]
fn write(register: u64, value: u32) {
    let at = BASE.load(Ordering::Relaxed) + register;
    // SAFETY: `init` mapped the APIC's page there, uncached, for the life of the kernel.
    unsafe { ptr::write_volatile(at as *mut u32, value) };
}

/// Map the registers and enable the APIC with its timer in one-shot mode.
pub fn init(timer_hz: u64) {
    BASE.store(mm::map_mmio(layout::APIC_PHYS, 4096), Ordering::Relaxed);
    TICKS_PER_NS.store(
        ((u128::from(timer_hz) << 32) / 1_000_000_000) as u64,
        Ordering::Relaxed,
    );
    write(SPURIOUS, 0x100 | u32::from(layout::SPURIOUS_VECTOR));
    write(LVT_TIMER, u32::from(layout::TIMER_VECTOR));
    write(DIVIDE, 0b1011); // by 1
}

/// End of interrupt.
#[inline(always)]
pub fn end_of_interrupt() {
    write(EOI, 0);
}

/// Arm the timer `delta_ns` from now; 0 stops it.
#[inline(always)]
pub fn arm_timer(delta_ns: u32) {
    let ticks = (u128::from(delta_ns) * u128::from(TICKS_PER_NS.load(Ordering::Relaxed))) >> 32;
    write(INITIAL_COUNT, u32::try_from(ticks).unwrap_or(u32::MAX));
}
