//! A drive's interrupt line and the I/O APIC's pin: how often a line that stays raised interrupts.
//!
//! Each turn sets the pin's trigger, has the drive raise its line, and acknowledges at the drive only in
//! the interrupt of a number. It prints what `foreign/src/lines.rs` prints in the native modes.

use core::arch::x86_64::_rdtsc;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use hypercall_abi::boot::BootInfo;
use hypercall_abi::table::irq::Guest as _;
use hypercall_abi::table::port::Guest as _;
use hypercall_abi::{GuestVirt, layout};
use pv_runtime::{PAGE, TrapFrame, shared_page};

use crate::{events, exit, println};

/// The channel's ports, and its pin.
const STATUS: u16 = 0x1f7;
const DEVICE: u16 = 0x1f6;
const CONTROL: u16 = 0x3f6;
const PIN: u32 = 14;
const IDENTIFY: u8 = 0xec;

const VECTOR: u32 = 0x2a;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;

/// The I/O APIC, and where it is mapped: in the direct map's second gigabyte, where no memory is.
const IO_APIC: u64 = 0xfec0_0000;
const REGISTERS: u64 = layout::DIRECT_MAP + (1 << 30);
/// A frame for a page table: above what the hypervisor and the image use.
const FRAME: u64 = 9 << 20;
/// A page table's entry: present, writable, for CPL 3, uncached, large.
const ENTRY: u64 = 1 | 2 | 4 | 0x18 | 0x80;

/// How long an interrupt that must come is waited for, and one that must not, in ticks of the time-stamp
/// counter.
const PATIENCE: u64 = 20_000_000_000;
const MOMENT: u64 = 20_000_000;

static COUNT: AtomicU32 = AtomicU32::new(0);
/// The interrupt in which the drive is acknowledged; 0 for none.
static AT: AtomicU32 = AtomicU32::new(0);
static IS_DIRECTED: AtomicBool = AtomicBool::new(false);

/// See the module.
pub fn lines(boot: &'static BootInfo, _: &str) {
    map(boot.root, IO_APIC);
    if PAGE
        .set_event_entries(GuestVirt(pv_runtime::entries()))
        .is_err()
    {
        exit(95);
    }
    events::on_event(on_event);
    let _ = PAGE.port_write(CONTROL, 1, 0);
    let _ = PAGE.port_write(DEVICE, 1, 0x40);
    enable();
    for (is_level, at, is_directed) in [
        (false, 0, false),
        (true, 1, true),
        (true, 4, true),
        (true, 1, false),
        (true, 4, false),
    ] {
        turn(is_level, at, is_directed);
    }
}

fn turn(is_level: bool, at: u32, is_directed: bool) {
    COUNT.store(0, Ordering::SeqCst);
    AT.store(at, Ordering::SeqCst);
    IS_DIRECTED.store(is_directed, Ordering::SeqCst);
    set_pin(VECTOR | if is_level { LEVEL } else { 0 });
    let _ = PAGE.port_write(STATUS, 1, IDENTIFY.into());
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
    let _ = PAGE.port_read(STATUS, 1);
    store(0x40, VECTOR);
}

fn on_event(frame: &mut TrapFrame) {
    if frame.vector == layout::ENTRY_PENDING {
        deliver();
    } else if frame.vector == u64::from(VECTOR) {
        handle();
    } else {
        println!("event {} at {:#x}", frame.vector, frame.rip);
        exit(94);
    }
}

fn deliver() {
    let pending = &shared_page().pending;
    while let Some(vector) = pending.load(Ordering::Acquire).checked_ilog2() {
        pending.fetch_and(!(1 << vector), Ordering::AcqRel);
        handle();
    }
}

fn handle() {
    if COUNT.fetch_add(1, Ordering::SeqCst) + 1 == AT.load(Ordering::SeqCst) {
        let _ = PAGE.port_read(STATUS, 1);
    }
    let _ = PAGE.end_of_interrupt();
    if IS_DIRECTED.load(Ordering::SeqCst) {
        store(0x40, VECTOR);
    }
}

fn enable() {
    let shared = shared_page();
    shared.hold.cli.store(0, Ordering::SeqCst);
    while shared.needs_unmask.load(Ordering::SeqCst) != 0 {
        shared.hold.cli.store(1, Ordering::SeqCst);
        deliver();
        if PAGE.unmask() == Ok(0) {
            return;
        }
    }
}

/// Map registers at 2 MiB of guest-physical addresses with a large page; returns where they are.
pub fn map(root: u64, phys: u64) -> u64 {
    let slot = |table: u64, level: u32| table + (REGISTERS >> (12 + 9 * level) & 511) * 8;
    let directory_table = read(slot(root, 3)) & !0xfff;
    for (at, entry) in [
        (slot(FRAME, 1), phys | ENTRY),
        (slot(directory_table, 2), FRAME | 7),
    ] {
        // SAFETY: the boot tables and this frame are in the direct map; nothing was mapped there.
        unsafe { ptr::write_volatile((layout::DIRECT_MAP + at) as *mut u64, entry) };
    }
    REGISTERS
}

fn read(at: u64) -> u64 {
    // SAFETY: the boot tables are in the direct map.
    unsafe { ptr::read_volatile((layout::DIRECT_MAP + at) as *const u64) }
}

fn ticks() -> u64 {
    // SAFETY: CR4.TSD is clear, so RDTSC works at CPL 3.
    unsafe { _rdtsc() }
}

fn set_pin(low: u32) {
    for (register, value) in [(0x11 + 2 * PIN, 0), (0x10 + 2 * PIN, low)] {
        store(0x00, register);
        store(0x10, value);
    }
}

fn store(register: u64, value: u32) {
    // SAFETY: `map` mapped the registers.
    unsafe { ptr::write_volatile((REGISTERS + register) as *mut u32, value) };
}
