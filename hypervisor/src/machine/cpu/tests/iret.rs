//! Returns from events.

use super::guest::*;
use super::{NONE, exception, gp, ss};
use crate::machine::cpu::registers::{RSP, flag};
use crate::machine::cpu::{Changes, Effect, Exception, Refusal, Segment, Selector};

const TARGET: u64 = HANDLERS + 0x42;

fn iret(guest: &mut Guest) -> Result<Effect, Refusal> {
    guest.cpu.iret(&mut guest.regs, &mut guest.memory, 8)
}

fn refused(guest: &mut Guest, words: &[u64; 5]) -> Exception {
    guest.frame(words);
    exception(guest.unchanged(iret))
}

#[test]
fn an_iret_to_the_same_level_takes_flags_and_stack_from_the_frame() {
    let mut guest = Guest::new();
    let flags = flag::FIXED | flag::IF | flag::IOPL | flag::ZF;
    guest.frame(&[
        TARGET,
        CODE.into(),
        flags,
        STACK - 0x100,
        STACK_SEGMENT.into(),
    ]);
    assert_eq!(iret(&mut guest), Ok(NONE));
    assert_eq!((guest.regs.rip, guest.regs.rflags), (TARGET, flags));
    assert_eq!(guest.regs.general[RSP], STACK - 0x100);
    assert_eq!(guest.cpu.cpl, 0);
}

#[test]
fn an_iret_to_a_program_changes_level_and_drops_inner_segments() {
    let mut guest = Guest::new();
    let flags = flag::FIXED | flag::IF;
    guest.frame(&[
        USER_DATA,
        USER_CODE.into(),
        flags,
        USER_STACK,
        USER_SS.into(),
    ]);
    assert_eq!(iret(&mut guest), Ok(Changes::LEVEL.into()));
    let cpu = &guest.cpu;
    assert_eq!(
        (cpu.cpl, cpu.cs.selector.0, cpu.ss.selector.0),
        (3, USER_CODE, USER_SS)
    );
    assert_eq!(cpu.ds.attributes.0, 0);
    assert!(guest.regs.has(flag::IF));
}

#[test]
fn an_iret_may_lead_to_32_bit_code_of_a_program() {
    let mut guest = Guest::new();
    let frame = [
        0x40_0000,
        USER_CODE_32.into(),
        2,
        USER_STACK,
        USER_SS.into(),
    ];
    guest.frame(&frame);
    iret(&mut guest).unwrap();
    assert!(!guest.cpu.is_64_bit() && guest.cpu.is_user());
    assert_eq!(guest.regs.rip, 0x40_0000);
}

#[test]
fn an_iret_of_32_bit_code_at_one_level_pops_three_words() {
    let mut user = Guest::user_32();
    let rsp = USER_STACK - 12;
    user.regs.general[RSP] = rsp;
    for (n, word) in [0x1234_u32, USER_CODE_32.into(), 2].iter().enumerate() {
        user.memory.put(rsp + 4 * n as u64, &word.to_le_bytes());
    }
    let Guest { cpu, regs, memory } = &mut user;
    assert_eq!(cpu.iret(regs, memory, 4), Ok(NONE));
    assert_eq!(
        (user.regs.rip, user.regs.general[RSP]),
        (0x1234, USER_STACK)
    );
    assert_eq!(user.cpu.ss.selector, Selector(USER_SS));
}

#[test]
fn a_program_can_change_neither_if_nor_iopl_by_iret() {
    let mut user = Guest::user();
    let flags = flag::FIXED | flag::IOPL | flag::TF;
    user.frame(&[
        USER_DATA,
        USER_CODE.into(),
        flags,
        USER_STACK,
        USER_SS.into(),
    ]);
    assert_eq!(iret(&mut user), Ok(NONE));
    assert_eq!(user.regs.rflags, flag::FIXED | flag::IF | flag::TF);
}

#[test]
fn iopl_lets_a_program_change_if_alone() {
    let mut user = Guest::user();
    user.regs.rflags |= flag::IOPL;
    user.frame(&[
        USER_DATA,
        USER_CODE.into(),
        flag::FIXED,
        USER_STACK,
        USER_SS.into(),
    ]);
    iret(&mut user).unwrap();
    assert_eq!(user.regs.rflags, flag::FIXED | flag::IOPL);
}

#[test]
fn an_iret_never_sets_vm() {
    let mut guest = Guest::new();
    let flags = flag::VM | flag::RF | flag::FIXED;
    guest.frame(&[TARGET, CODE.into(), flags, STACK, STACK_SEGMENT.into()]);
    iret(&mut guest).unwrap();
    assert_eq!(guest.regs.rflags, flag::RF | flag::FIXED);
}

#[test]
fn nt_forbids_an_iret() {
    let mut guest = Guest::new();
    guest.regs.rflags |= flag::NT;
    let frame = [TARGET, CODE.into(), 2, STACK, STACK_SEGMENT.into()];
    assert_eq!(refused(&mut guest, &frame), gp(0));
}

#[test]
fn a_bad_frame_changes_nothing() {
    let user = u64::from(USER_CODE);
    for (frame, expected) in [
        ([TARGET, 0, 2, STACK, 0], gp(0)),
        ([0x8000_0000_0000, CODE.into(), 2, STACK, 0], gp(0)),
        ([TARGET, OUTSIDE.into(), 2, STACK, 0], gp(OUTSIDE.into())),
        ([TARGET, STACK_SEGMENT.into(), 2, STACK, 0], gp(0x18)),
        ([USER_DATA, user, 2, USER_STACK, 0], gp(0)),
        ([USER_DATA, user, 2, USER_STACK, 0x18], gp(0x18)),
        ([USER_DATA, user, 2, USER_STACK, 0x28], gp(0x28)),
        (
            [TARGET, CODE.into(), 2, STACK, ABSENT_DATA.into()],
            ss(0x60),
        ),
    ] {
        assert_eq!(refused(&mut Guest::new(), &frame), expected, "{frame:x?}");
    }
    let inward = [TARGET, CODE.into(), 2, STACK, STACK_SEGMENT.into()];
    assert_eq!(refused(&mut Guest::user(), &inward), gp(CODE.into()));
}

#[test]
fn the_kernel_may_return_to_itself_with_a_null_stack_segment() {
    let mut guest = Guest::new();
    guest.frame(&[TARGET, CODE.into(), 2, STACK, 0]);
    assert_eq!(iret(&mut guest), Ok(NONE));
    assert_eq!(guest.cpu.ss, Segment::null(Selector(0)));
}

#[test]
fn a_stack_that_is_not_mapped_is_a_page_fault() {
    let mut guest = Guest::new();
    guest.regs.general[RSP] = HOLE;
    let answer = guest.unchanged(iret);
    assert_eq!(exception(answer), Exception::page_fault(0, HOLE));
    let mut user = Guest::user();
    user.regs.general[RSP] = DATA;
    let answer = user.unchanged(iret);
    assert_eq!(exception(answer), Exception::page_fault(5, DATA));
}
