//! A guest without a processor: what faults leave in its copies.

use std::sync::Arc;

use iced_x86::Mnemonic;
use kvm_bindings::CpuId;
use proptest::prelude::*;

use super::memory::GuestLinear;
use super::page_fault::NEW_COPIES;
use super::patching::Patching;
use super::{Deprivileged, Knowledge, Own, Start, Text};
use crate::machine::cpu::{Linear as _, Refusal};
use crate::machine::paging::PageFault;
use crate::memory::Memory;
use crate::monitor::gates::KvmKind;
use crate::patch::Policy;
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
    machine_with(&CODES[0], has_devices, None)
}

/// As [`machine`], of other code, and patched or not.
fn machine_with(code: &[u8], has_devices: bool, patch: Option<Policy>) -> (Memory, Deprivileged) {
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
    memory.put(CODE, code).unwrap();
    let text = Text {
        frames: CODE..CODE + 0x1000,
        linear: CODE,
    };
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
        patch,
        text: vec![text],
        image: CODE..CODE + 0x1000,
        source: None,
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

#[test]
fn code_that_is_found_while_the_guest_runs_gets_no_more_copies_than_the_monitor_can_map() {
    const PAGES: u64 = 40;
    let (memory, mut guest) = machine(false);
    let chain = CODE + 0x2000;
    let frames = (chain..).step_by(4096).take(PAGES as usize);
    for (frame, entry) in frames.zip((ENTRY + 16..).step_by(8)) {
        memory.put(entry, &(frame | LINK).to_le_bytes()).unwrap();
        // `jmp` to the next page.
        memory.put(frame, &[0xe9, 0xfb, 0x0f, 0, 0]).unwrap();
    }
    guest.text.push(chain..chain + PAGES * 4096);
    // The guest reads them first: they are mapped.
    guest.page_fault(&memory, chain, 0).unwrap();
    assert!(guest.shadow.take_edits().unwrap().list.is_empty());
    let before = guest.copies.counts().copies;
    execute(&memory, &mut guest, chain);
    guest.regs.rip = chain;
    guest.discover(&memory).unwrap();
    // One for the fetch.
    assert_eq!(guest.copies.counts().copies - before, 1 + NEW_COPIES as u64);
    let edits = guest
        .shadow
        .take_edits()
        .expect("as many as the monitor can make");
    assert!(edits.list.len() > NEW_COPIES);
    // The rest comes when the guest is there.
    let next = chain + (1 + NEW_COPIES as u64) * 4096;
    assert!(!guest.is_known(&memory, next));
    guest.regs.rip = next;
    execute(&memory, &mut guest, next);
    assert!(guest.is_known(&memory, next));
}

#[test]
fn code_that_trapped_is_decoded_anew_once_it_may_be_other() {
    let (memory, mut guest) = machine(false);
    let decode = |guest: &mut Deprivileged| guest.decode(&memory).expect("it is there").mnemonic();
    assert_eq!(decode(&mut guest), Mnemonic::Nop);
    // Behind the guest's back, which cannot be as long as there is a copy: what is known is not compared.
    memory.put(CODE, &CODES[1]).unwrap();
    assert_eq!(decode(&mut guest), Mnemonic::Nop);
    // The guest stores there.
    guest.written(&memory, CODE);
    assert_eq!(decode(&mut guest), Mnemonic::Cld);
    // Without a copy anybody may write it.
    memory.put(CODE, &CODES[0]).unwrap();
    assert_eq!(decode(&mut guest), Mnemonic::Nop);
    // All copies go.
    execute(&memory, &mut guest, CODE);
    assert_eq!(decode(&mut guest), Mnemonic::Nop);
    memory.put(CODE, &CODES[1]).unwrap();
    assert_eq!(decode(&mut guest), Mnemonic::Nop);
    guest.copies.clear();
    assert_eq!(decode(&mut guest), Mnemonic::Cld);
    // The page leads to another frame.
    let other = CODE + 0x2000;
    memory.put(other, &CODES[0]).unwrap();
    memory.put(ENTRY, &(other | LINK).to_le_bytes()).unwrap();
    guest.shadow.flush_all();
    assert_eq!(decode(&mut guest), Mnemonic::Nop);
}

#[test]
fn an_instruction_translates_a_page_once_for_each_kind_of_access() {
    let (memory, guest) = machine(false);
    let cpu = &guest.cpu;
    let data = CODE + 0x1000;
    memory.put(data, &[1, 2]).unwrap();
    memory.put(CODE, &[3, 4]).unwrap();
    let read = |linear: &mut GuestLinear<'_>, at| {
        let mut byte = [0];
        linear.read(cpu, at, &mut byte, false).map(|()| byte[0])
    };
    let mut linear = GuestLinear::new(&memory, &guest.copies);
    assert_eq!(read(&mut linear, data), Ok(1));
    // The guest's entry leads elsewhere now, and nothing may be written there.
    let entry = CODE | LINK & !2;
    memory.put(ENTRY + 8, &entry.to_le_bytes()).unwrap();
    assert_eq!(read(&mut linear, data + 1), Ok(2));
    let fault = linear.write(cpu, data, &[9], false);
    assert!(matches!(fault, Err(Refusal::Exception(fault)) if fault.address == Some(data)));
    // Another instruction.
    let mut linear = GuestLinear::new(&memory, &guest.copies);
    assert_eq!(read(&mut linear, data), Ok(3));
    // From one page to the next and back.
    assert_eq!(read(&mut linear, CODE + 1), Ok(4));
    assert_eq!(read(&mut linear, data + 1), Ok(4));
}

/// `pushf; cli; nop..; popf; ret`.
const FLAGS: [u8; 13] = [
    0x9c, 0xfa, 0x0f, 0x1f, 0x44, 0, 0, 0x0f, 0x1f, 0x40, 0, 0x9d, 0xc3,
];

#[test]
fn a_cli_that_stands_alone_is_patched_when_it_traps_for_the_first_time() {
    // cli; nop..; ret
    let code = [0xfa, 0x0f, 0x1f, 0x44, 0, 0, 0xc3];
    let (memory, mut guest) = machine_with(&code, false, Some(Policy::default()));
    let is_patched = |guest: &Deprivileged| {
        let patching = guest.patching.as_ref().expect("mode patch");
        patching.live.of(CODE).is_some()
    };
    assert!(!is_patched(&guest));
    let cli = guest.decode(&memory).expect("an instruction");
    assert!(guest.patch_late(&memory, CODE, &cli).unwrap());
    assert!(is_patched(&guest));
    assert_eq!(executed(&memory, &guest)[0], 0xe9);
    // From now on a trap of it is one of a site that is known.
    assert!(!guest.patch_late(&memory, CODE, &cli).unwrap());
    let (memory, mut guest) = machine_with(&code, false, Some(Policy::Never));
    assert!(!guest.patch_late(&memory, CODE, &cli).unwrap());
}

/// What a machine knows of [`FLAGS`], all patched; and the page that it is of.
fn knowledge() -> (Knowledge, [u8; 4096]) {
    let (_, guest) = machine_with(&FLAGS, false, Some(Policy::Eager));
    let known = guest.knowledge().expect("it has followed code");
    let mut page = [0; 4096];
    page[..FLAGS.len()].copy_from_slice(&FLAGS);
    (known, page)
}

fn revived(bytes: &[u8], page: &[u8; 4096]) -> Option<Knowledge> {
    let own = |frame| (frame == CODE).then(|| Own::Kept(Arc::new(*page)));
    Knowledge::from_bytes(bytes, own)
}

#[test]
fn what_is_known_comes_back_from_bytes() {
    let (known, page) = knowledge();
    let bytes = known.to_bytes().expect("it is little");
    let again = revived(&bytes, &page).expect("they are whole");
    assert_eq!(again.text, known.text);
    for (again, known) in again.copies.originals().zip(known.copies.originals()) {
        assert_eq!(again, known);
    }
    let executed = |known: &Knowledge| {
        let (memory, mut guest) = machine_with(&FLAGS, false, Some(Policy::Eager));
        guest.copies.recall(known.copies.clone());
        guest.copies.write_back(&memory).unwrap();
        let mut bytes = [0; 4096];
        assert!(memory.get(guest.copies.page_of(CODE).expect("a copy"), &mut bytes));
        bytes
    };
    assert_eq!(executed(&again), executed(&known));
    assert_ne!(executed(&again)[..FLAGS.len()], FLAGS);
    let patches = |known: &Knowledge| {
        let patching = known.patching.as_ref().expect("mode patch");
        format!(
            "{:?} {:?}",
            patching.live.iter().collect::<Vec<_>>(),
            patching.sites
        )
    };
    assert_eq!(patches(&again), patches(&known));
    assert!(patches(&known).contains("Popf"));
}

#[test]
fn what_is_known_is_put_into_memory_once() {
    let (mut known, _) = knowledge();
    let memory = Memory::new(16 << 20, Mode::Patch).unwrap();
    let copy = known.copies.page_of(CODE).expect("a copy");
    let area = |known: &Knowledge| {
        let patching = known.patching.as_ref().expect("mode patch");
        let patch = patching.live.of(CODE).expect("a patch");
        (
            patching.area.phys(patch.at).expect("in the area"),
            patch.code.clone(),
        )
    };
    let byte = |at: u64| {
        let mut byte = [0];
        assert!(memory.get(at, &mut byte));
        byte[0]
    };
    let (place, code) = area(&known);
    known.put(&memory).unwrap();
    assert_eq!((byte(copy), byte(place)), (0xe9, code[0]));
    // The machine that begins with it finds it there.
    for at in [copy, place] {
        memory.put(at, &[0x90]).unwrap();
    }
    known.put(&memory).unwrap();
    assert_eq!((byte(copy), byte(place)), (0x90, 0x90));
}

#[test]
fn of_other_bytes_nothing_is_known() {
    let (known, mut page) = knowledge();
    let bytes = known.to_bytes().expect("it is little");
    page[4095] = 1;
    assert!(revived(&bytes, &page).is_none());
    assert!(Knowledge::from_bytes(&bytes, |_| None).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn damaged_bytes_are_refused_or_used(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        len in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let (known, page) = knowledge();
        let mut bytes = known.to_bytes().expect("it is little");
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(len.index(bytes.len()));
        }
        // What is not refused can be used: put into a machine, executed, patched further and forgotten.
        let Some(known) = revived(&bytes, &page) else {
            return Ok(());
        };
        let policy = known.patching.as_ref().map(Patching::policy);
        let (memory, mut guest) = machine_with(&FLAGS, true, policy);
        guest.learned = Some(known);
        guest.recall(&memory).unwrap();
        for at in CODE..CODE + FLAGS.len() as u64 {
            guest.regs.rip = at;
            let _ = guest.leave_area(&memory);
            let _ = guest.enter_area(&memory);
            execute(&memory, &mut guest, at);
            guest.count_arrival(&memory, at).unwrap();
        }
        guest.written(&memory, CODE);
        prop_assert!(guest.copies.page_of(CODE).is_none());
    }
}
