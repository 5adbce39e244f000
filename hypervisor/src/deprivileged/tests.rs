//! A guest without a processor: what faults leave in its copies.

use kvm_bindings::CpuId;

use super::{Deprivileged, Start};
use crate::machine::paging::PageFault;
use crate::memory::Memory;
use crate::monitor::gates::KvmKind;
use hypercall_abi::Mode;

const ROOT: u64 = 0x1000;
const CODE: u64 = 0x20_0000;
/// Present, writable, accessed and dirty.
const LINK: u64 = 0x63;
/// The guest's entry for [`CODE`], and where it is. The next page is mapped, too.
const PAGE: u64 = CODE | LINK;
const ENTRY: u64 = 0x5000;
/// `nop; ret`, and `cld; ret`.
const CODES: [[u8; 2]; 2] = [[0x90, 0xc3], [0xfc, 0xc3]];

/// A machine whose kernel is about to execute [`CODE`], at the same linear address.
fn machine(has_devices: bool) -> (Memory, Deprivileged) {
    let memory = Memory::new(16 << 20, Mode::Trap).unwrap();
    for (at, entry) in [
        (ROOT, 0x2000 | LINK),
        (0x2000, 0x3000 | LINK),
        (0x3008, 0x5000 | LINK),
        (ENTRY, PAGE),
        (ENTRY + 8, PAGE + 0x1000),
    ] {
        memory.put(at, &entry.to_le_bytes()).unwrap();
    }
    memory.put(CODE, &CODES[0]).unwrap();
    let start = Start {
        entry: CODE,
        argument: 0,
        root: ROOT,
        shared: 0x4000,
        devices: [0..0, 0..0],
        has_devices,
        cpuid: CpuId::new(0).unwrap(),
        kind: KvmKind::Hardware,
        fast_traps: false,
        patch: None,
        text: Vec::new(),
        image: 0..0,
        built_in: None,
        learned: None,
    };
    let mut guest = Deprivileged::new(&memory, start).unwrap();
    guest.first_root(&memory).unwrap();
    (memory, guest)
}

/// What the kernel executes.
fn executed(memory: &Memory, guest: &Deprivileged) -> [u8; 2] {
    let mut bytes = [0; 2];
    let copy = guest.copies.page_of(CODE).expect("it has a copy");
    assert!(memory.get(copy, &mut bytes));
    bytes
}

/// The guest unmaps the page, and maps it again.
fn remap(memory: &Memory, guest: &mut Deprivileged) {
    for entry in [0, PAGE] {
        memory.put(ENTRY, &entry.to_le_bytes()).unwrap();
        let paging = super::paging(&guest.cpu);
        guest.shadow.invalidate(memory, &paging, CODE);
        guest.shadow.flush_all();
        guest.root = guest.select(memory).expect("room");
    }
}

/// The kernel executes something at an address.
fn execute(memory: &Memory, guest: &mut Deprivileged, at: u64) {
    guest.page_fault(memory, at, PageFault::FETCH).unwrap();
}

/// Whether the processor executes at an address without a fault.
fn is_executable(memory: &Memory, guest: &mut Deprivileged, at: u64) -> bool {
    let mut table = guest.select(memory).expect("room");
    // As the monitor does before the guest goes on.
    for edit in guest.shadow.take_edits().unwrap().list {
        memory.put(edit.entry, &edit.value.to_le_bytes()).unwrap();
    }
    for level in (1..=4).rev() {
        let mut bytes = [0; 8];
        assert!(memory.get(table + (at >> (9 * level) & 0xff8), &mut bytes));
        let entry = u64::from_le_bytes(bytes);
        if entry & 1 == 0 || entry >> 63 == 1 {
            return false;
        }
        table = entry & 0xf_ffff_ffff_f000;
    }
    true
}

#[test]
fn code_that_a_device_has_loaded_is_copied_anew_once_its_page_is_mapped_again() {
    let (memory, mut guest) = machine(true);
    assert_eq!(executed(&memory, &guest), CODES[0]);
    assert!(is_executable(&memory, &mut guest, CODE));
    memory.put(CODE, &CODES[1]).unwrap();
    assert!(guest.copies.is_stale(&memory, CODE));
    remap(&memory, &mut guest);
    execute(&memory, &mut guest, CODE);
    assert!(is_executable(&memory, &mut guest, CODE));
    assert_eq!(executed(&memory, &guest), CODES[1]);
    assert!(!guest.copies.is_stale(&memory, CODE));
}

#[test]
fn another_pages_fault_does_not_let_a_stale_copy_be_executed() {
    for is_stale in [false, true] {
        let (memory, mut guest) = machine(true);
        memory.put(CODE, &CODES[usize::from(is_stale)]).unwrap();
        remap(&memory, &mut guest);
        assert!(!is_executable(&memory, &mut guest, CODE));
        execute(&memory, &mut guest, CODE + 0x1000);
        assert_eq!(is_executable(&memory, &mut guest, CODE), !is_stale);
    }
}

#[test]
fn without_devices_nothing_is_compared() {
    let (memory, mut guest) = machine(false);
    memory.put(CODE, &CODES[1]).unwrap();
    assert!(!guest.copies.is_stale(&memory, CODE));
    remap(&memory, &mut guest);
    execute(&memory, &mut guest, CODE);
    assert_eq!(executed(&memory, &guest), CODES[0]);
}
