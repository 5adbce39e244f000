//! LAR, LSL, VERR and VERW.

use super::exception;
use super::guest::*;
use crate::machine::cpu::Inspection::{self, Limit, Read, Rights, Write};
use crate::machine::cpu::Selector;

fn ask(guest: &mut Guest, inspection: Inspection, selector: u16) -> Option<u64> {
    guest
        .cpu
        .inspect(&mut guest.memory, inspection, Selector(selector))
        .unwrap()
}

#[test]
fn rights_and_limits_are_the_descriptors() {
    let mut guest = Guest::new();
    assert_eq!(ask(&mut guest, Rights, CODE), Some(0xa0_9b00));
    assert_eq!(ask(&mut guest, Rights, USER_SS), Some(0xc0_f300));
    assert_eq!(ask(&mut guest, Rights, TASK), Some(0x00_8900));
    assert_eq!(ask(&mut guest, Rights, CALL_GATE), Some(0x00_ec00));
    assert_eq!(ask(&mut guest, Limit, CODE), Some(0xffff_ffff));
    assert_eq!(ask(&mut guest, Limit, FRESH), Some(0xfff));
    assert_eq!(ask(&mut guest, Limit, TASK), Some(0x2067));
    assert_eq!(
        ask(&mut guest, Limit, CALL_GATE),
        None,
        "a gate has no limit"
    );
}

#[test]
fn what_is_not_there_or_not_visible_has_no_answer() {
    let mut guest = Guest::new();
    let mut user = Guest::user();
    for inspection in [Rights, Limit, Read, Write] {
        for selector in [0, 3, OUTSIDE, STACK_SEGMENT | 3] {
            assert_eq!(ask(&mut guest, inspection, selector), None, "{selector:#x}");
        }
        assert_eq!(ask(&mut user, inspection, STACK_SEGMENT), None);
    }
    // Conforming code is visible from every level.
    assert!(ask(&mut user, Rights, CONFORMING).is_some());
}

#[test]
fn readable_and_writable_are_told_apart() {
    let mut guest = Guest::new();
    for (selector, read, write) in [
        (STACK_SEGMENT, true, true),
        (READ_ONLY, true, false),
        (CODE, true, false),
        (EXECUTE_ONLY, false, false),
        (TASK, false, false),
    ] {
        assert_eq!(
            ask(&mut guest, Read, selector).is_some(),
            read,
            "{selector:#x}"
        );
        assert_eq!(
            ask(&mut guest, Write, selector).is_some(),
            write,
            "{selector:#x}"
        );
    }
}

#[test]
fn a_table_that_is_not_mapped_faults() {
    let mut guest = Guest::new();
    guest.cpu.gdtr.base = HOLE;
    let answer = guest.cpu.inspect(&mut guest.memory, Rights, Selector(CODE));
    assert_eq!(exception(answer).address, Some(HOLE + 0x10));
}
