//! A drive's interrupt line and the I/O APIC's pin: how often a line that stays raised interrupts.
//!
//! Each turn sets the pin's trigger, has the drive raise its line, and acknowledges at the drive only in
//! the interrupt of a number. It prints what `guests/src/lines.rs` prints in mode `pv`. Run instead of the
//! checks where the command line says `lines`.

use core::arch::x86_64::_rdtsc;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::paging::{self, NO_EXECUTE, SCRATCH, UNCACHED, WRITE};
use crate::{own_events, println, x86};

/// The channel's ports, and its pin.
const STATUS: u16 = 0x1f7;
const DEVICE: u16 = 0x1f6;
const CONTROL: u16 = 0x3f6;
const PIN: u32 = 14;
const IDENTIFY: u8 = 0xec;

/// The vector that the pin leads to.
pub const VECTOR: u64 = 0x61;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;

/// The I/O APIC, guest-physical.
const IO_APIC: u64 = 0xfec0_0000;

/// How long an interrupt that must come is waited for, and one that must not, in ticks of the time-stamp
/// counter.
const PATIENCE: u64 = 20_000_000_000;
const MOMENT: u64 = 20_000_000;

static COUNT: AtomicU32 = AtomicU32::new(0);
/// The interrupt in which the drive is acknowledged; 0 for none.
static AT: AtomicU32 = AtomicU32::new(0);
static IS_DIRECTED: AtomicBool = AtomicBool::new(false);

/// See the module.
pub fn run() {
    paging::kernel().map(SCRATCH, IO_APIC, WRITE | NO_EXECUTE | UNCACHED);
    x86::invalidate(SCRATCH);
    x86::out8(CONTROL, 0);
    x86::out8(DEVICE, 0x40);
    x86::sti();
    for (is_level, at, is_directed) in [
        (false, 0, false),
        (true, 1, true),
        (true, 4, true),
        (true, 1, false),
        (true, 4, false),
    ] {
        turn(is_level, at, is_directed);
    }
    x86::cli();
    let _ = own_events::take_interrupts();
}

fn turn(is_level: bool, at: u32, is_directed: bool) {
    COUNT.store(0, Ordering::SeqCst);
    AT.store(at, Ordering::SeqCst);
    IS_DIRECTED.store(is_directed, Ordering::SeqCst);
    set_pin(VECTOR as u32 | if is_level { LEVEL } else { 0 });
    x86::out8(STATUS, IDENTIFY);
    // As many as it takes, and then as long as one too many would take.
    let start = ticks();
    while COUNT.load(Ordering::SeqCst) < at && ticks().wrapping_sub(start) < PATIENCE {}
    let start = ticks();
    while ticks().wrapping_sub(start) < MOMENT {}
    println!(
        "{}, acknowledged in {at}, {}: {}",
        if is_level { "level" } else { "edge" },
        if is_directed {
            "ended at both"
        } else {
            "ended at the local APIC"
        },
        COUNT.load(Ordering::SeqCst),
    );
    set_pin(MASKED);
    // Whatever is left of the turn.
    x86::in8(STATUS);
    store(0x40, VECTOR as u32);
}

/// The drive's interrupt, before it is ended at the local APIC.
pub fn handle() {
    if COUNT.fetch_add(1, Ordering::SeqCst) + 1 == AT.load(Ordering::SeqCst) {
        x86::in8(STATUS);
    }
}

/// And after.
pub fn handled() {
    if IS_DIRECTED.load(Ordering::SeqCst) {
        store(0x40, VECTOR as u32);
    }
}

fn ticks() -> u64 {
    // SAFETY: RDTSC works at CPL 0, and in the modes where this kernel is at CPL 3.
    unsafe { _rdtsc() }
}

fn set_pin(low: u32) {
    for (register, value) in [(0x11 + 2 * PIN, 0), (0x10 + 2 * PIN, low)] {
        store(0x00, register);
        store(0x10, value);
    }
}

fn store(register: u64, value: u32) {
    // SAFETY: `run` mapped the registers there, uncached, for good.
    unsafe { ptr::write_volatile((SCRATCH + register) as *mut u32, value) };
}
