//! The I/O map, and what CPUID shows.

use super::guest::*;
use super::{exception, gp};
use crate::machine::cpu::registers::flag;
use crate::machine::cpu::{Limits, Refusal, cr4};

fn check(guest: &mut Guest, port: u16, width: u8) -> Result<(), Refusal> {
    guest
        .cpu
        .check_port(&guest.regs, &mut guest.memory, port, width)
}

#[test]
fn the_kernel_and_iopl_need_no_map() {
    let mut guest = Guest::new();
    guest.cpu.tr.limit = 0;
    assert_eq!(check(&mut guest, 0x3f8, 1), Ok(()));
    let mut user = Guest::user();
    user.cpu.tr.limit = 0;
    assert_eq!(exception(check(&mut user, 0x3f8, 1)), gp(0));
    user.regs.rflags |= flag::IOPL;
    assert_eq!(check(&mut user, 0x3f8, 1), Ok(()));
}

#[test]
fn a_clear_bit_of_the_map_permits_its_port() {
    let mut user = Guest::user();
    user.memory
        .put(TSS + 0x68 + 0x3f8 / 8, &[0b1111_0000, 0xff]);
    assert_eq!(check(&mut user, 0x3f8, 1), Ok(()));
    assert_eq!(check(&mut user, 0x3f8, 4), Ok(()));
    assert_eq!(
        exception(check(&mut user, 0x3f9, 4)),
        gp(0),
        "every byte's bit counts"
    );
    assert_eq!(exception(check(&mut user, 0x3fc, 1)), gp(0));
    // An access over the end of the map's byte looks at the next one.
    user.memory.put(TSS + 0x68 + 0x3f8 / 8, &[0, 1]);
    assert_eq!(exception(check(&mut user, 0x3ff, 2)), gp(0));
}

#[test]
fn a_map_behind_the_limit_permits_nothing() {
    let mut user = Guest::user();
    user.cpu.tr.limit = 0x68;
    assert_eq!(exception(check(&mut user, 0, 1)), gp(0));
    user.cpu.tr.limit = 0x69;
    assert_eq!(check(&mut user, 0, 1), Ok(()));
    user.memory.put(TSS + 0x66, &0xffff_u16.to_le_bytes());
    assert_eq!(exception(check(&mut user, 0xffff, 1)), gp(0));
}

/// A processor that has everything.
fn everything(leaf: u32, subleaf: u32) -> [u32; 4] {
    match (leaf, subleaf) {
        (0xd, 0) => [0xff, 0x240, 0x340, 0],
        (0x8000_0008, _) => [0x3028, u32::MAX, 0, 0],
        _ => [u32::MAX; 4],
    }
}

#[test]
fn limits_are_what_the_machine_below_has_and_the_verbs_know() {
    let limits = Limits::new(&everything);
    assert_eq!(limits.cr4, cr4::BASIC | cr4::FSGSBASE | cr4::OSXSAVE);
    assert_eq!((limits.xcr0, limits.physical_bits), (7, 0x28));
    assert_eq!(Limits::new(&|_, _| [0; 4]), Limits::default());
}

#[test]
fn cpuid_shows_no_feature_that_cr4_refuses() {
    let mut guest = Guest::new();
    guest.cpu.limits = Limits::new(&everything);
    let ask = |guest: &Guest, leaf, subleaf| guest.cpu.identify(&everything, leaf, subleaf);
    let [_, _, ecx, edx] = ask(&guest, 1, 0);
    // VMX, SMX, PCID; VME.
    assert_eq!(ecx & (1 << 5 | 1 << 6 | 1 << 17), 0);
    assert_eq!(edx & 1 << 1, 0);
    let [_, ebx, ecx, _] = ask(&guest, 7, 0);
    // SMEP, SMAP; UMIP, PKU, LA57, PKS.
    assert_eq!(ebx & (1 << 7 | 1 << 20), 0);
    assert_eq!(ecx & (1 << 2 | 1 << 3 | 1 << 16 | 1 << 31), 0);
    assert_ne!(ebx & 1, 0, "FSGSBASE stays");
    assert_eq!(ask(&guest, 0xd, 0), [7, 0x240, 0x340, 0]);
    assert_eq!(ask(&guest, 0xd, 9), [0; 4]);
}

#[test]
fn cpuid_follows_osxsave_and_the_apics_switch() {
    let mut guest = Guest::new();
    let ask = |guest: &Guest| guest.cpu.identify(&everything, 1, 0);
    let [_, _, ecx, edx] = ask(&guest);
    assert_eq!((ecx >> 27 & 1, edx >> 9 & 1), (0, 1));
    guest.cpu.cr4 |= cr4::OSXSAVE;
    guest.cpu.apic_base &= !(1 << 11);
    let [_, _, ecx, edx] = ask(&guest);
    assert_eq!((ecx >> 27 & 1, edx >> 9 & 1), (1, 0));
}
