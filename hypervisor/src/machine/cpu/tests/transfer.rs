//! Far returns, jumps and calls.

use super::guest::*;
use super::{NONE, exception, gp, np, ss, unsupported};
use crate::machine::cpu::registers::RSP;
use crate::machine::cpu::{Attributes, Changes, Effect, Far, Refusal, Selector};

const TARGET: u64 = HANDLERS + 0x42;
const NOT_CANONICAL: u64 = 0x8000_0000_0000;

fn far_return(guest: &mut Guest, release: u16) -> Result<Effect, Refusal> {
    guest
        .cpu
        .far_return(&mut guest.regs, &mut guest.memory, 8, release)
}

fn jump(guest: &mut Guest, selector: u16, offset: u64) -> Result<Effect, Refusal> {
    let to = Far {
        selector: Selector(selector),
        offset,
    };
    guest.cpu.far_jump(&mut guest.regs, &mut guest.memory, to)
}

fn return_to(words: &[u64]) -> (Guest, Result<Effect, Refusal>) {
    let mut guest = Guest::new();
    guest.frame(words);
    let answer = far_return(&mut guest, 0);
    (guest, answer)
}

fn refused_return(words: &[u64]) -> Result<Effect, Refusal> {
    let mut guest = Guest::new();
    guest.frame(words);
    guest.unchanged(|guest| far_return(guest, 0))
}

#[test]
fn a_far_return_to_the_same_level_pops_two_words_and_the_arguments() {
    let mut guest = Guest::new();
    guest.frame(&[TARGET, CODE.into(), 0, 0]);
    assert_eq!(far_return(&mut guest, 16), Ok(NONE));
    assert_eq!(guest.regs.rip, TARGET);
    assert_eq!(guest.regs.general[RSP], STACK);
    assert_eq!(guest.cpu.cs.selector, Selector(CODE));
}

#[test]
fn a_far_return_to_an_outer_level_takes_its_stack_and_drops_inner_segments() {
    let (guest, answer) = return_to(&[USER_DATA, USER_CODE.into(), USER_STACK, USER_SS.into()]);
    assert_eq!(answer, Ok(Changes::LEVEL.into()));
    let cpu = &guest.cpu;
    assert_eq!(
        (cpu.cpl, cpu.cs.selector.0, cpu.ss.selector.0),
        (3, USER_CODE, USER_SS)
    );
    assert_eq!(
        (guest.regs.rip, guest.regs.general[RSP]),
        (USER_DATA, USER_STACK)
    );
    for segment in [cpu.ds, cpu.es, cpu.fs, cpu.gs] {
        assert_eq!(
            (segment.selector, segment.attributes),
            (Selector(0), Attributes(0))
        );
    }
}

#[test]
fn a_far_return_keeps_segments_of_the_outer_level() {
    let mut guest = Guest::new();
    guest.cpu.ds = Guest::user().cpu.ds;
    guest.frame(&[USER_DATA, USER_CODE.into(), USER_STACK, USER_SS.into()]);
    far_return(&mut guest, 0).unwrap();
    assert_eq!(guest.cpu.ds.selector, Selector(USER_SS));
}

#[test]
fn a_far_return_checks_its_code_segment() {
    let user = [USER_STACK, u64::from(USER_SS)];
    for (selector, expected) in [
        (0, gp(0)),
        (3, gp(0)),
        (OUTSIDE, gp(OUTSIDE.into())),
        (STACK_SEGMENT, gp(STACK_SEGMENT.into())),
        (TASK, gp(TASK.into())),
        (CODE | 3, gp(CODE.into())), // DPL is not RPL
        (LONG_AND_32, gp(LONG_AND_32.into())),
        (ABSENT_CODE, np(ABSENT_CODE.into())),
    ] {
        let answer = refused_return(&[TARGET, selector.into(), user[0], user[1]]);
        assert_eq!(exception(answer), expected, "{selector:#x}");
    }
    let answer = refused_return(&[NOT_CANONICAL, CODE.into()]);
    assert_eq!(exception(answer), gp(0));
}

#[test]
fn a_far_return_checks_its_stack_segment() {
    for (selector, expected) in [
        (0, gp(0)),
        (3, gp(0)),
        (STACK_SEGMENT | 3, gp(STACK_SEGMENT.into())),
        (USER_SS & !3, gp(0x28)),
        (USER_CODE, gp(0x30)),
        (OUTSIDE | 3, gp(OUTSIDE.into())),
    ] {
        let answer = refused_return(&[USER_DATA, USER_CODE.into(), USER_STACK, selector.into()]);
        assert_eq!(exception(answer), expected, "{selector:#x}");
    }
    let mut guest = Guest::new();
    guest.descriptor(USER_SS, 0x00cf_7300_0000_ffff);
    guest.frame(&[USER_DATA, USER_CODE.into(), USER_STACK, USER_SS.into()]);
    let answer = guest.unchanged(|guest| far_return(guest, 0));
    assert_eq!(exception(answer), ss(0x28));
}

#[test]
fn no_far_return_leads_inward() {
    let mut user = Guest::user();
    user.frame(&[TARGET, CODE.into()]);
    let answer = user.unchanged(|guest| far_return(guest, 0));
    assert_eq!(exception(answer), gp(CODE.into()));
}

#[test]
fn a_program_may_switch_between_64_and_32_bits() {
    let mut user = Guest::user();
    user.frame(&[0x40_0000, USER_CODE_32.into()]);
    assert_eq!(far_return(&mut user, 0), Ok(NONE));
    assert!(!user.cpu.is_64_bit());
    assert_eq!(jump(&mut user, USER_CODE, USER_DATA), Ok(NONE));
    assert!(user.cpu.is_64_bit());
}

#[test]
fn levels_and_widths_that_this_machine_lacks_are_named() {
    let mut guest = Guest::new();
    let answer = guest.unchanged(|guest| jump(guest, CODE_32, 0x1000));
    assert_eq!(unsupported(answer), "code at CPL 0 that is not 64-bit");
    let answer = refused_return(&[0x1000, u64::from(CODE_1 | 1), USER_STACK, 0]);
    assert_eq!(unsupported(answer), "code at CPL 1 or 2");
    let answer = refused_return(&[0x1000, CODE_16.into(), USER_STACK, USER_SS.into()]);
    assert_eq!(unsupported(answer), "16-bit code");
    let answer = guest.unchanged(|guest| jump(guest, CALL_GATE, 0));
    assert_eq!(unsupported(answer), "a call gate");
}

#[test]
fn a_far_jump_keeps_the_level() {
    let mut user = Guest::user();
    assert_eq!(jump(&mut user, CONFORMING, TARGET), Ok(NONE));
    assert_eq!(
        (user.cpu.cpl, user.cpu.cs.selector),
        (3, Selector(CONFORMING | 3))
    );
    assert_eq!(user.regs.rip, TARGET);
}

#[test]
fn a_far_jump_checks_its_code_segment() {
    let mut guest = Guest::new();
    for (selector, offset, expected) in [
        (0, TARGET, gp(0)),
        (OUTSIDE, TARGET, gp(OUTSIDE.into())),
        (STACK_SEGMENT, TARGET, gp(STACK_SEGMENT.into())),
        (TASK, TARGET, gp(TASK.into())),
        (USER_CODE, TARGET, gp(0x30)),
        (CODE | 3, TARGET, gp(CODE.into())),
        (LONG_AND_32, TARGET, gp(LONG_AND_32.into())),
        (ABSENT_CODE, TARGET, np(ABSENT_CODE.into())),
        (CODE, NOT_CANONICAL, gp(0)),
    ] {
        let answer = guest.unchanged(|guest| jump(guest, selector, offset));
        assert_eq!(exception(answer), expected, "{selector:#x}");
    }
}

#[test]
fn a_far_call_pushes_its_return_address() {
    let mut guest = Guest::new();
    let to = Far {
        selector: Selector(CODE),
        offset: TARGET,
    };
    let Guest { cpu, regs, memory } = &mut guest;
    assert_eq!(cpu.far_call(regs, memory, to, 8, 0x77), Ok(NONE));
    assert_eq!(guest.stack(), [0x77, u64::from(CODE)]);
    assert_eq!(guest.regs.general[RSP], STACK - 16);
    assert_eq!(far_return(&mut guest, 0), Ok(NONE));
    assert_eq!((guest.regs.rip, guest.regs.general[RSP]), (0x77, STACK));

    guest.regs.general[RSP] = HOLE;
    let answer = guest.unchanged(|guest| {
        let Guest { cpu, regs, memory } = guest;
        cpu.far_call(regs, memory, to, 4, 0x77)
    });
    assert_eq!(exception(answer).address, Some(HOLE - 8));
}
