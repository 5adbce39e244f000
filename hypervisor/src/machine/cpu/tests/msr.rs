//! Model-specific registers.

use super::guest::*;
use super::{NONE, gp};
use crate::machine::cpu::msr::index::*;
use crate::machine::cpu::{Changes, Effect, Exception};

const NOT_CANONICAL: u64 = 0x8000_0000_0000;

fn write(guest: &mut Guest, number: u32, value: u64) -> Result<Option<Effect>, Exception> {
    guest.cpu.write_msr(number, value)
}

#[test]
fn a_register_reads_back_what_was_written() {
    let mut guest = Guest::new();
    let high = 0xffff_ffff_8000_1000;
    for (number, value, changes) in [
        (SYSENTER_CS, 0x10, Changes::empty()),
        (SYSENTER_ESP, high, Changes::empty()),
        (SYSENTER_EIP, high, Changes::empty()),
        (PAT, 0x0107_0406_0005_0406, Changes::ALL_PAGES),
        (STAR, 0x0023_0010_1234_5678, Changes::empty()),
        (LSTAR, high, Changes::empty()),
        (CSTAR, high, Changes::empty()),
        (SFMASK, 0x4_7700, Changes::empty()),
        (FS_BASE, 0x7000, Changes::BASES),
        (GS_BASE, high, Changes::BASES),
        (KERNEL_GS_BASE, high, Changes::empty()),
        (TSC_AUX, 3, Changes::TSC_AUX),
        (MISC_ENABLE, 0, Changes::empty()),
        (APIC_BASE, 0xfee0_0d00, Changes::APIC),
        (EFER, 0xd00, Changes::CONTROL),
    ] {
        assert_eq!(
            write(&mut guest, number, value),
            Ok(Some(changes.into())),
            "{number:#x}"
        );
        assert_eq!(guest.cpu.read_msr(number), Ok(Some(value)), "{number:#x}");
    }
    assert_eq!(
        guest.cpu.gs.base, high,
        "the segment's base is the register"
    );
}

#[test]
fn what_a_register_cannot_hold_is_refused() {
    let mut guest = Guest::new();
    for (number, value) in [
        (SYSENTER_ESP, NOT_CANONICAL),
        (SYSENTER_EIP, NOT_CANONICAL),
        (LSTAR, NOT_CANONICAL),
        (CSTAR, NOT_CANONICAL),
        (FS_BASE, NOT_CANONICAL),
        (GS_BASE, NOT_CANONICAL),
        (KERNEL_GS_BASE, NOT_CANONICAL),
        (SFMASK, 1 << 32),
        (TSC_AUX, 1 << 32),
        (PAT, 2),
        (PAT, 3 << 56),
        (PAT, 8),
        (MISC_ENABLE, 1 << 22),
        (DEBUGCTL, 1),
        (MCG_CAP, 0),
        (MCG_STATUS, 1),
        (EFER, 0xd01 | 1 << 12),
        (EFER, 0xc01), // LME while paging is on
        (APIC_BASE, 0xfee0_0901),
        (APIC_BASE, 1 << 40),
        (APIC_BASE, 0xfee0_0500), // x2APIC that is off
    ] {
        let answer = guest.unchanged(|guest| write(guest, number, value));
        assert_eq!(answer, Err(gp(0)), "{number:#x} {value:#x}");
    }
}

#[test]
fn efer_ignores_lma_and_tells_of_nxe() {
    let mut guest = Guest::new();
    assert_eq!(write(&mut guest, EFER, 0x901), Ok(Some(NONE)));
    assert_eq!(guest.cpu.efer, 0xd01);
    assert_eq!(
        write(&mut guest, EFER, 0x501),
        Ok(Some(Changes::RIGHTS.into()))
    );
}

#[test]
fn the_apic_leaves_x2apic_through_off_alone() {
    let mut guest = Guest::new();
    write(&mut guest, APIC_BASE, 0xfee0_0d00).unwrap();
    assert_eq!(write(&mut guest, APIC_BASE, 0xfee0_0900), Err(gp(0)));
    write(&mut guest, APIC_BASE, 0xfee0_0100).unwrap();
    assert_eq!(write(&mut guest, APIC_BASE, 0xfee0_0d00), Err(gp(0)));
    assert!(write(&mut guest, APIC_BASE, 0xfee0_0900).is_ok());
}

#[test]
fn there_are_no_machine_checks_of_the_pentiums_kind() {
    let mut guest = Guest::new();
    for number in [0, 1] {
        assert!(matches!(write(&mut guest, number, 5), Ok(Some(_))));
        assert_eq!(guest.cpu.read_msr(number), Ok(Some(0)));
    }
}

#[test]
fn what_is_not_the_processors_own_is_left_to_the_bus() {
    let mut guest = Guest::new();
    for number in [0x10, 0x6e0, 0x800, 0x4b56_4d00] {
        assert_eq!(guest.cpu.read_msr(number), Ok(None));
        assert_eq!(write(&mut guest, number, 0), Ok(None));
    }
}

#[test]
fn a_program_reads_and_writes_none() {
    let mut user = Guest::user();
    for number in [EFER, 0x10] {
        assert_eq!(user.cpu.read_msr(number), Err(gp(0)));
        assert_eq!(write(&mut user, number, 0), Err(gp(0)));
    }
}
