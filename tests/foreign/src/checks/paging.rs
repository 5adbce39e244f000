//! Translations that change, the processor's own bits in page tables, and rights.

use super::{check, check_fault};
use crate::own_events::attempt;
use crate::paging::{ACCESSED, DIRTY, NO_EXECUTE, PRESENT, SCRATCH, WRITE};
use crate::{memory, paging, x86};

const TOPIC: &str = "paging";

pub fn run() {
    let (one, two) = (memory::take(), memory::take());
    memory::write(one, 0x1111);
    memory::write(two, 0x2222);
    let kernel = paging::kernel();
    let leaf = kernel.leaf(SCRATCH);
    let set = |frame: u64, rights: u64| memory::write(leaf, frame | rights);
    let used = || memory::read(leaf) & (ACCESSED | DIRTY);
    let rights = PRESENT | WRITE | NO_EXECUTE;

    set(one, rights);
    check(TOPIC, "fresh page is not used", used(), 0);
    check(TOPIC, "first page", load(), 0x1111);
    check(TOPIC, "after a read", used(), ACCESSED);
    store(0x1234);
    check(TOPIC, "after a write", used(), ACCESSED | DIRTY);
    check(TOPIC, "first frame", memory::read(one), 0x1234);

    set(two, rights);
    x86::invalidate(SCRATCH);
    check(TOPIC, "second page, after invlpg", load(), 0x2222);
    set(one, rights);
    x86::set_cr3(kernel.0);
    check(TOPIC, "first page, after mov cr3", load(), 0x1234);
    check(TOPIC, "used since", used(), ACCESSED);

    set(one, PRESENT | NO_EXECUTE);
    x86::invalidate(SCRATCH);
    let caught = attempt!("mov qword ptr [{at}], 5", at = in(reg) SCRATCH);
    check_fault(TOPIC, "write to a page made read-only", caught, 14, 3);
    check(TOPIC, "first frame is as before", memory::read(one), 0x1234);
    set(one, rights);
    x86::invalidate(SCRATCH);
    store(5);
    check(TOPIC, "first frame, writable again", memory::read(one), 5);

    set(0, 0);
    x86::invalidate(SCRATCH);
    let caught = attempt!("mov {value}, [{at}]", value = out(reg) _, at = in(reg) SCRATCH);
    check_fault(TOPIC, "read of a page taken away", caught, 14, 0);
    set(two, rights);
    check(TOPIC, "second page, without invlpg", load(), 0x2222);
    set(0, 0);
    x86::invalidate(SCRATCH);
    memory::give(one);
    memory::give(two);
}

fn load() -> u64 {
    // SAFETY: the caller has mapped a frame of its own there.
    unsafe { core::ptr::read_volatile(SCRATCH as *const u64) }
}

fn store(value: u64) {
    // SAFETY: as in `load`.
    unsafe { core::ptr::write_volatile(SCRATCH as *mut u64, value) };
}
