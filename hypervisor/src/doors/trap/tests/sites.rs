//! From an address to an instruction.

use std::hint::black_box;
use std::time::Instant;

use iced_x86::Mnemonic;

use crate::doors::trap::{Sites, emulate};
use crate::machine::cpu::registers::RDI;
use crate::machine::cpu::tests::fake::{KERNEL, Plain};
use crate::machine::cpu::tests::guest::*;
use crate::machine::cpu::tests::{exception, gp};
use crate::machine::cpu::{Cpu, Exception, Linear, Refusal};

/// A kernel whose page of code holds these bytes at the end or the start.
fn with_code(at: u64, bytes: &[u8]) -> Guest {
    let mut guest = Guest::new();
    guest.memory.map(at, KERNEL);
    guest.memory.map(at + bytes.len() as u64 - 1, KERNEL);
    guest.memory.put(at, bytes);
    guest.regs.rip = at;
    guest
}

fn decode(sites: &mut Sites, guest: &mut Guest) -> Mnemonic {
    let instruction = sites
        .decode(&guest.cpu, &mut guest.memory, guest.regs.rip)
        .unwrap();
    instruction.mnemonic()
}

#[test]
fn a_known_site_is_one_access_and_changed_bytes_are_decoded_anew() {
    let mut sites = Sites::new();
    let mut guest = with_code(HOLE, &[0x0f, 0x22, 0xd8, 0x90]);
    assert_eq!(decode(&mut sites, &mut guest), Mnemonic::Mov);
    let before = guest.memory.accesses;
    assert_eq!(decode(&mut sites, &mut guest), Mnemonic::Mov);
    assert_eq!(guest.memory.accesses, before + 1);
    guest.memory.put(HOLE, &[0xfa]);
    assert_eq!(decode(&mut sites, &mut guest), Mnemonic::Cli);
    guest.memory.put(HOLE, &[0x06]);
    assert_eq!(decode(&mut sites, &mut guest), Mnemonic::INVALID);
}

#[test]
fn what_is_held_is_known_without_an_access_until_the_code_is_older() {
    let mut sites = Sites::new();
    let mut guest = with_code(HOLE, &[0xfa]);
    assert_eq!(sites.held(HOLE, 1), None);
    decode(&mut sites, &mut guest);
    // Nobody has said so yet.
    assert_eq!(sites.held(HOLE, 1), None);
    sites.hold(HOLE, 1);
    assert_eq!(sites.held(HOLE, 1).unwrap().mnemonic(), Mnemonic::Cli);
    // Not of what shares its slot, nor once the code is older.
    assert_eq!(sites.held(HOLE ^ 0x40_0000 ^ 0x1000 ^ 4, 1), None);
    assert_eq!(sites.held(HOLE, 2), None);
    guest.memory.put(HOLE, &[0xfb]);
    assert_eq!(decode(&mut sites, &mut guest), Mnemonic::Sti);
    assert_eq!(sites.held(HOLE, 1), None);
    // No instruction: it is looked at each time.
    guest.memory.put(HOLE, &[0x06]);
    assert_eq!(decode(&mut sites, &mut guest), Mnemonic::INVALID);
    sites.hold(HOLE, 2);
    assert_eq!(sites.held(HOLE, 2), None);
}

#[test]
fn a_site_knows_its_address_for_relative_operands() {
    let mut sites = Sites::new();
    let lgdt = [0x0f, 0x01, 0x15, 0x10, 0, 0, 0];
    // Two sites of one slot: they differ in what the slot's number leaves out.
    for at in [HOLE, HOLE ^ 0x40_0000 ^ 0x1000 ^ 4] {
        let mut guest = with_code(at, &lgdt);
        let instruction = sites.decode(&guest.cpu, &mut guest.memory, at).unwrap();
        assert_eq!(instruction.memory_displacement64(), at + 7 + 0x10);
    }
}

#[test]
fn the_next_page_is_touched_only_by_an_instruction_that_reaches_it() {
    let mut sites = Sites::new();
    let mut guest = with_code(HOLE + 0xfff, &[0xfa]);
    assert_eq!(decode(&mut sites, &mut guest), Mnemonic::Cli);
    let mut guest = with_code(HOLE + 0xffe, &[0x0f, 0x22, 0xd8]);
    assert_eq!(decode(&mut sites, &mut guest), Mnemonic::Mov);
    guest.memory.unmap(HOLE + 0x1000);
    let answer = sites.decode(&guest.cpu, &mut guest.memory, HOLE + 0xffe);
    assert_eq!(
        exception(answer),
        Exception::page_fault(0x10, HOLE + 0x1000)
    );
}

#[test]
fn an_instruction_of_more_than_15_bytes_is_refused() {
    let mut guest = with_code(HOLE, &[0x66; 16]);
    guest.memory.put(HOLE + 15, &[0x90]);
    let mut sites = Sites::new();
    let answer = sites.decode(&guest.cpu, &mut guest.memory, HOLE);
    assert_eq!(exception(answer), gp(0));
}

#[test]
fn code_of_32_and_64_bits_is_told_apart() {
    let mut sites = Sites::new();
    let mut guest = Guest::user();
    guest.memory.put(USER_DATA, &[0x48, 0x0f, 0xa2]);
    assert_eq!(decode(&mut sites, &mut guest), Mnemonic::Cpuid);
    guest.cpu.cs = Guest::user_32().cpu.cs;
    assert_eq!(decode(&mut sites, &mut guest), Mnemonic::Dec);
}

#[test]
fn a_program_cannot_execute_the_kernels_pages() {
    let mut guest = Guest::user();
    let mut sites = Sites::new();
    let answer = sites.decode(&guest.cpu, &mut guest.memory, DATA);
    assert_eq!(exception(answer), Exception::page_fault(0x15, DATA));
}

/// Memory that costs nothing, so that the rest can be measured.
struct Flat(Box<[u8]>);

impl Flat {
    fn at(&mut self, at: u64, len: usize) -> &mut [u8] {
        &mut self.0[at as usize..][..len]
    }
}

impl Linear for Flat {
    fn read(&mut self, _: &Cpu, at: u64, into: &mut [u8], _: bool) -> Result<(), Refusal> {
        into.copy_from_slice(self.at(at, into.len()));
        Ok(())
    }

    fn write(&mut self, _: &Cpu, at: u64, from: &[u8], _: bool) -> Result<(), Refusal> {
        self.at(at, from.len()).copy_from_slice(from);
        Ok(())
    }

    fn check_write(&mut self, _: &Cpu, _: u64, _: usize, _: bool) -> Result<(), Refusal> {
        Ok(())
    }

    fn fetch(&mut self, cpu: &Cpu, at: u64, into: &mut [u8], user: bool) -> Result<(), Refusal> {
        self.read(cpu, at, into, user)
    }
}

fn flat(guest: &Guest) -> Flat {
    let mut memory = vec![0; 0x1_0000].into_boxed_slice();
    let copy = |plain: &Plain, at: u64| plain.byte(at);
    for at in GDT..GDT + 0x1000 {
        memory[at as usize] = copy(&guest.memory, at);
    }
    Flat(memory)
}

/// Nanoseconds each, the least of several rounds.
fn measure(mut work: impl FnMut()) -> f64 {
    const TIMES: u32 = 10_000;
    let round = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..TIMES).for_each(|_| work());
        start.elapsed().as_nanos() as f64 / f64::from(TIMES)
    };
    (0..10).map(|_| round(&mut work)).fold(f64::MAX, f64::min)
}

/// Prints what an emulation costs without its exit and without page walks. Meaningful with
/// `cargo test --release -- --nocapture` alone; asserts that each site did its work.
#[test]
fn the_cost_of_a_site_is_printed() {
    let sites = &mut Sites::new();
    let mut guest = Guest::new();
    let mut memory = flat(&guest);
    let mut bus = super::Bus::default();
    for (name, bytes) in [
        ("cli", &[0xfa][..]),
        ("pushfq", &[0x9c]),
        ("mov cr3, rax", &[0x0f, 0x22, 0xd8]),
        ("mov ds, eax", &[0x8e, 0xd8]),
        ("invlpg [rdi]", &[0x0f, 0x01, 0x3f]),
        ("iretq", &[0x48, 0xcf]),
    ] {
        let at = DATA + 0x100;
        memory.at(at, bytes.len()).copy_from_slice(bytes);
        let frame = [at, CODE.into(), 2, STACK, STACK_SEGMENT.into()];
        for (n, word) in frame.iter().enumerate() {
            let place = memory.at(STACK - 40 + 8 * n as u64, 8);
            place.copy_from_slice(&word.to_le_bytes());
        }
        let hit = measure(|| {
            let found = sites.decode(&guest.cpu, &mut memory, at);
            assert!(black_box(found).is_ok());
        });
        let whole = measure(|| {
            guest.regs.rip = at;
            guest.regs.general = [0; 16];
            guest.regs.general[4] = STACK - 40;
            guest.regs.general[RDI] = DATA;
            let found = sites.decode(&guest.cpu, &mut memory, at).unwrap();
            let (cpu, regs) = (&mut guest.cpu, &mut guest.regs);
            let effect = emulate(&found, cpu, regs, &mut memory, &mut bus, &super::cpuid);
            assert!(black_box(effect).is_ok());
        });
        println!("{name:14} decoded {hit:6.1} ns, decoded and emulated {whole:6.1} ns");
    }
}
