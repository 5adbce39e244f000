//! Loads of segment registers.

use super::guest::*;
use super::{NONE, exception, gp, np, ss, ud};
use crate::machine::cpu::registers::RSP;
use crate::machine::cpu::{Changes, Effect, Exception, Refusal, Segment, SegmentName, Selector};

fn load(guest: &mut Guest, name: SegmentName, selector: u16) -> Result<Effect, Refusal> {
    guest
        .cpu
        .load_segment(&mut guest.memory, name, Selector(selector))
}

/// The exception of a load that changes nothing.
fn refused(guest: &mut Guest, name: SegmentName, selector: u16) -> Exception {
    exception(guest.unchanged(|guest| load(guest, name, selector)))
}

#[test]
fn a_data_segment_is_loaded_with_base_limit_and_rights() {
    let mut guest = Guest::new();
    assert_eq!(load(&mut guest, SegmentName::Ds, FRESH), Ok(NONE));
    let ds = guest.cpu.ds;
    assert_eq!(
        (ds.selector.0, ds.base, ds.limit),
        (FRESH, 0x1234_5000, 0xfff)
    );
    assert_eq!(ds.attributes.0, 0x493);
    assert_eq!(load(&mut guest, SegmentName::Es, STACK_SEGMENT), Ok(NONE));
    assert_eq!(guest.cpu.es.limit, u32::MAX);
}

#[test]
fn a_load_sets_the_accessed_bit_once() {
    let mut guest = Guest::new();
    assert_eq!(guest.kind_of(FRESH), 2);
    load(&mut guest, SegmentName::Ds, FRESH).unwrap();
    assert_eq!(guest.kind_of(FRESH), 3);
    let reads = guest.memory.accesses;
    load(&mut guest, SegmentName::Ds, FRESH).unwrap();
    assert_eq!(guest.memory.accesses, reads + 1, "a read and no write");
}

#[test]
fn fs_and_gs_tell_of_their_bases_and_null_clears_them() {
    let mut guest = Guest::new();
    guest.cpu.gs.base = 0xffff_8000_0000_0000;
    let bases = Ok(Changes::BASES.into());
    assert_eq!(load(&mut guest, SegmentName::Gs, 3), bases);
    assert_eq!(guest.cpu.gs, Segment::null(Selector(3)));
    assert_eq!(load(&mut guest, SegmentName::Fs, FRESH), bases);
    assert_eq!(guest.cpu.fs.base, 0x1234_5000);
}

#[test]
fn a_data_segment_must_exist_be_readable_and_of_the_level() {
    let mut guest = Guest::new();
    for (selector, expected) in [
        (OUTSIDE, gp(OUTSIDE.into())),
        (TASK, gp(TASK.into())),
        (EXECUTE_ONLY, gp(EXECUTE_ONLY.into())),
        (STACK_SEGMENT | 3, gp(STACK_SEGMENT.into())), // RPL above DPL
        (ABSENT_DATA, np(ABSENT_DATA.into())),
        (0xc, gp(0xc)), // no local table
    ] {
        assert_eq!(
            refused(&mut guest, SegmentName::Ds, selector),
            expected,
            "{selector:#x}"
        );
    }
    let mut user = Guest::user();
    assert_eq!(
        refused(&mut user, SegmentName::Es, STACK_SEGMENT),
        gp(STACK_SEGMENT.into())
    );
    // Conforming code may be read from any level.
    assert_eq!(load(&mut user, SegmentName::Es, CONFORMING | 3), Ok(NONE));
}

#[test]
fn a_selector_may_name_the_local_table() {
    let mut guest = Guest::user();
    guest.cpu.ldtr = Segment {
        selector: Selector(LOCAL),
        base: LDT,
        limit: 0xf,
        attributes: crate::machine::cpu::Attributes(0x82),
    };
    assert_eq!(load(&mut guest, SegmentName::Ds, 0xf), Ok(NONE));
    assert_eq!(guest.cpu.ds.selector, Selector(0xf));
    assert_eq!(refused(&mut guest, SegmentName::Ds, 0x17), gp(0x14));
}

#[test]
fn a_stack_segment_must_be_writable_data_of_the_level() {
    let mut guest = Guest::new();
    let shadow = Ok(Changes::SHADOW.into());
    assert_eq!(load(&mut guest, SegmentName::Ss, STACK_SEGMENT), shadow);
    for (selector, expected) in [
        (READ_ONLY, gp(READ_ONLY.into())),
        (STACK_SEGMENT | 1, gp(STACK_SEGMENT.into())),
        (USER_SS, gp(0x28)),
        (CODE, gp(CODE.into())),
        (ABSENT_DATA, ss(ABSENT_DATA.into())),
        (OUTSIDE, gp(OUTSIDE.into())),
    ] {
        assert_eq!(
            refused(&mut guest, SegmentName::Ss, selector),
            expected,
            "{selector:#x}"
        );
    }
}

#[test]
fn a_null_stack_segment_is_for_64_bit_code_below_cpl_3() {
    let mut guest = Guest::new();
    assert!(load(&mut guest, SegmentName::Ss, 0).is_ok());
    assert_eq!(refused(&mut guest, SegmentName::Ss, 1), gp(0));
    assert_eq!(refused(&mut Guest::user(), SegmentName::Ss, 3), gp(0));
    assert_eq!(refused(&mut Guest::user_32(), SegmentName::Ss, 0), gp(0));
}

#[test]
fn cs_cannot_be_loaded() {
    assert_eq!(refused(&mut Guest::new(), SegmentName::Cs, CODE), ud());
}

#[test]
fn a_table_that_is_not_mapped_is_a_page_fault_of_the_kernels_rights() {
    let mut user = Guest::user();
    user.cpu.gdtr.base = HOLE;
    assert_eq!(
        refused(&mut user, SegmentName::Ds, USER_SS),
        Exception::page_fault(0, HOLE + 0x28)
    );
}

#[test]
fn a_pop_moves_the_stack_only_when_it_loads() {
    let mut guest = Guest::new();
    guest.frame(&[FRESH.into()]);
    let Guest { cpu, regs, memory } = &mut guest;
    let effect = cpu.pop_segment(regs, memory, SegmentName::Fs, 8);
    assert_eq!(effect, Ok(Changes::BASES.into()));
    assert_eq!(regs.general[RSP], STACK);

    guest.frame(&[OUTSIDE.into()]);
    let answer = guest.unchanged(|guest| {
        guest
            .cpu
            .pop_segment(&mut guest.regs, &mut guest.memory, SegmentName::Fs, 8)
    });
    assert_eq!(exception(answer), gp(OUTSIDE.into()));
}
