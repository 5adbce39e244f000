//! From an operand to a linear address.

use super::guest::*;
use super::{exception, gp, ss};
use crate::machine::cpu::{Place, SegmentName, is_canonical};

fn at(
    guest: &Guest,
    segment: SegmentName,
    offset: u64,
    len: usize,
) -> Result<u64, super::Exception> {
    guest.cpu.linear(Place { segment, offset }, len, true)
}

#[test]
fn canonical_addresses_have_48_bits() {
    for good in [0, 0x7fff_ffff_ffff, 0xffff_8000_0000_0000, u64::MAX] {
        assert!(is_canonical(good), "{good:#x}");
    }
    for bad in [0x8000_0000_0000, 0xffff_7fff_ffff_ffff, 1 << 63] {
        assert!(!is_canonical(bad), "{bad:#x}");
    }
}

#[test]
fn sixty_four_bit_code_adds_the_bases_of_fs_and_gs_alone() {
    let mut guest = Guest::new();
    for name in [SegmentName::Ds, SegmentName::Gs] {
        guest.cpu.segment_mut(name).base = 0x1000;
    }
    assert_eq!(at(&guest, SegmentName::Ds, 8, 8), Ok(8));
    assert_eq!(at(&guest, SegmentName::Gs, 8, 8), Ok(0x1008));
}

#[test]
fn every_byte_must_be_canonical() {
    let guest = Guest::new();
    let last = 0x7fff_ffff_fff9;
    assert_eq!(at(&guest, SegmentName::Ds, last - 1, 8), Ok(last - 1));
    assert_eq!(at(&guest, SegmentName::Ds, last, 8), Err(gp(0)));
    assert_eq!(at(&guest, SegmentName::Ss, last, 8), Err(ss(0)));
    // Around the end of the address space both ends are canonical.
    assert_eq!(at(&guest, SegmentName::Ds, u64::MAX, 2), Ok(u64::MAX));
}

#[test]
fn thirty_two_bit_code_obeys_limits_and_rights() {
    let mut user = Guest::user_32();
    user.cpu.ds.limit = 0xfff;
    user.cpu.ds.base = 0x1000;
    assert_eq!(at(&user, SegmentName::Ds, 0xffc, 4), Ok(0x1ffc));
    assert_eq!(at(&user, SegmentName::Ds, 0xffd, 4), Err(gp(0)));
    user.cpu.ss.limit = 0xfff;
    assert_eq!(at(&user, SegmentName::Ss, 0x1000, 1), Err(ss(0)));
    assert_eq!(at(&user, SegmentName::Fs, 0, 1), Err(gp(0)), "null");
    assert_eq!(at(&user, SegmentName::Cs, 0, 1), Err(gp(0)), "code");
    // Data that grows down: offsets above the limit.
    user.cpu.ds.attributes.0 |= 4;
    assert_eq!(at(&user, SegmentName::Ds, 0xfff, 1), Err(gp(0)));
    assert_eq!(at(&user, SegmentName::Ds, 0x1000, 1), Ok(0x2000));
}

#[test]
fn a_program_has_a_programs_rights() {
    let mut user = Guest::user();
    let place = Place {
        segment: SegmentName::Ds,
        offset: DATA,
    };
    let answer = user.cpu.read(&mut user.memory, place, 8);
    assert_eq!(exception(answer).error, Some(5));
    let mut kernel = Guest::new();
    assert_eq!(kernel.cpu.read(&mut kernel.memory, place, 8), Ok(0));
}
