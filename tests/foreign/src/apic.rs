//! The local APIC, by its memory-mapped registers (SDM vol. 3, chapter 11).

use core::ptr;

use crate::cell::OneCpu;
use crate::paging;

/// The timer's vector.
pub const TIMER: u8 = 0x20;
/// The vectors of interrupts that the kernel sends to itself, of two priorities.
pub const LOW: u8 = 0x51;
/// As [`LOW`], of higher priority.
pub const HIGH: u8 = 0x91;

const SPURIOUS_VECTOR: u32 = 0xff;
const TASK_PRIORITY: u64 = 0x80;
const EOI: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const REQUESTED: u64 = 0x200;
const COMMAND: u64 = 0x300;
const LVT_TIMER: u64 = 0x320;
const INITIAL_COUNT: u64 = 0x380;
const DIVIDE: u64 = 0x3e0;
const ENABLE: u32 = 0x100;
const BY_1: u32 = 0b1011;
const TO_SELF: u32 = 0x4_0000;
const SENDING: u32 = 1 << 12;

/// Looks at a register before a caller gives up.
const PATIENCE: u32 = 2_000_000;

/// The timer's ticks in a microsecond.
static TICKS_PER_US: OneCpu<u32> = OneCpu::new(0);

fn read(register: u64) -> u32 {
    // SAFETY: `paging::init` maps the registers there, uncached, for good.
    unsafe { ptr::read_volatile((paging::APIC + register) as *const u32) }
}

fn write(register: u64, value: u32) {
    // SAFETY: as in `read`.
    unsafe { ptr::write_volatile((paging::APIC + register) as *mut u32, value) };
}

/// Enable it, with the timer in one-shot mode.
pub fn init(timer_hz: u64) {
    TICKS_PER_US.with(|ticks| *ticks = (timer_hz / 1_000_000) as u32);
    write(SPURIOUS, ENABLE | SPURIOUS_VECTOR);
    write(LVT_TIMER, u32::from(TIMER));
    write(DIVIDE, BY_1);
}

/// End of interrupt.
pub fn end_of_interrupt() {
    write(EOI, 0);
}

/// Raise the timer's interrupt once, so many microseconds from now.
pub fn arm_timer_us(us: u32) {
    write(INITIAL_COUNT, TICKS_PER_US.with(|ticks| *ticks) * us);
}

/// Send an interrupt to this processor.
pub fn send_to_self(vector: u8) {
    write(COMMAND, TO_SELF | u32::from(vector));
    while read(COMMAND) & SENDING != 0 {}
}

/// Hold back interrupts of a priority class (vector / 16) up to this one.
pub fn set_priority(class: u32) {
    write(TASK_PRIORITY, class << 4);
}

/// Wait until a vector is requested and not taken yet. False if that does not come.
pub fn wait_requested(vector: u8) -> bool {
    let register = REQUESTED + u64::from(vector / 32) * 0x10;
    (0..PATIENCE).any(|_| read(register) & 1 << (vector % 32) != 0)
}
