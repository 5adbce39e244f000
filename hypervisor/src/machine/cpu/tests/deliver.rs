//! Events through the interrupt descriptor table.

use super::guest::*;
use super::{NONE, exception, gp, np, ss};
use crate::machine::cpu::registers::{RSP, flag};
use crate::machine::cpu::{Changes, Effect, Exception, Fatal, Refusal, Segment, Selector};

fn raise(guest: &mut Guest, exception: Exception) -> Result<Effect, Fatal> {
    guest
        .cpu
        .raise(&mut guest.regs, &mut guest.memory, exception)
}

fn interrupt(guest: &mut Guest, vector: u8) -> Result<Effect, Fatal> {
    guest
        .cpu
        .interrupt(&mut guest.regs, &mut guest.memory, vector)
}

fn int(guest: &mut Guest, vector: u8) -> Result<Effect, Refusal> {
    let next = guest.regs.rip + 2;
    guest
        .cpu
        .software_interrupt(&mut guest.regs, &mut guest.memory, vector, next)
}

fn set_gate(guest: &mut Guest, vector: u64, words: [u64; 2]) {
    guest.memory.put_words(IDT + vector * 16, &words);
}

/// The vector whose handler runs.
fn handler(guest: &Guest) -> u64 {
    (guest.regs.rip - HANDLERS) / 16
}

/// The error code of the handler's frame.
fn error(guest: &Guest) -> u64 {
    guest.stack::<1>()[0]
}

#[test]
fn a_fault_of_the_kernel_pushes_an_aligned_frame_with_its_code() {
    let mut guest = Guest::new();
    guest.regs.general[RSP] = STACK - 8;
    guest.regs.rflags |= flag::IF | flag::TF | flag::NT;
    let (rip, flags) = (guest.regs.rip, guest.regs.rflags);
    assert_eq!(raise(&mut guest, gp(0x18)), Ok(NONE));
    assert_eq!(handler(&guest), 13);
    assert_eq!(guest.regs.general[RSP], STACK - 16 - 48);
    let frame = [0x18, rip, 0x10, flags | flag::RF, STACK - 8, 0x18];
    assert_eq!(guest.stack(), frame);
    assert_eq!(guest.regs.rflags, flag::FIXED);
}

#[test]
fn a_fault_of_a_program_switches_to_the_kernels_stack() {
    let mut user = Guest::user();
    assert_eq!(
        raise(&mut user, Exception::plain(0)),
        Ok(Changes::LEVEL.into())
    );
    let frame = [
        USER_DATA,
        USER_CODE.into(),
        flag::FIXED | flag::IF | flag::RF,
        USER_STACK,
        USER_SS.into(),
    ];
    assert_eq!(user.regs.general[RSP], STACK_0 - 40);
    assert_eq!(user.stack(), frame);
    assert_eq!(user.cpu.cpl, 0);
    assert_eq!(user.cpu.ss, Segment::null(Selector(0)));
    assert_eq!(user.cpu.cs.selector, Selector(CODE));
    assert!(!user.regs.has(flag::IF));
}

#[test]
fn a_page_fault_sets_cr2() {
    let mut guest = Guest::user();
    raise(&mut guest, Exception::page_fault(6, 0xdead_b000)).unwrap();
    assert_eq!(
        (guest.cpu.cr2, error(&guest), handler(&guest)),
        (0xdead_b000, 6, 14)
    );
}

#[test]
fn an_interrupt_gate_clears_if_and_a_trap_gate_leaves_it() {
    let mut guest = Guest::new();
    guest.regs.rflags |= flag::IF;
    set_gate(&mut guest, 32, gate(32, CODE, 0x8f, 0));
    interrupt(&mut guest, 32).unwrap();
    assert!(guest.regs.has(flag::IF));
    interrupt(&mut guest, 33).unwrap();
    assert!(!guest.regs.has(flag::IF));
}

#[test]
fn an_interrupt_stack_is_taken_at_every_level() {
    for mut guest in [Guest::new(), Guest::user()] {
        set_gate(&mut guest, 8, gate(8, CODE, INTERRUPT, 1));
        raise(&mut guest, Exception::with_error(8, 0)).unwrap();
        assert_eq!(guest.regs.general[RSP], STACK_IST - 48);
    }
}

#[test]
fn a_conforming_handler_runs_at_the_programs_level() {
    let mut user = Guest::user();
    set_gate(&mut user, 0x80, gate(0x80, CONFORMING, USER_TRAP, 0));
    assert_eq!(int(&mut user, 0x80), Ok(NONE));
    assert_eq!(
        (user.cpu.cpl, user.cpu.cs.selector),
        (3, Selector(CONFORMING | 3))
    );
    assert_eq!(user.regs.general[RSP], USER_STACK - 40);
}

#[test]
fn an_instruction_needs_a_gate_of_its_level() {
    let mut user = Guest::user();
    let answer = user.unchanged(|user| int(user, 0x80));
    assert_eq!(exception(answer), gp(0x80 * 8 + 2));
    set_gate(&mut user, 0x80, gate(0x80, CODE, USER_TRAP, 0));
    let (next, flags) = (user.regs.rip + 2, user.regs.rflags);
    assert_eq!(int(&mut user, 0x80), Ok(Changes::LEVEL.into()));
    assert_eq!(user.stack::<3>(), [next, USER_CODE.into(), flags]);
    assert!(user.regs.has(flag::IF), "a trap gate");
    // An interrupt of that vector needs no such gate, nor does INT1.
    let mut user = Guest::user();
    assert!(interrupt(&mut user, 0x80).is_ok());
    let mut user = Guest::user();
    let Guest { cpu, regs, memory } = &mut user;
    assert!(cpu.debug_interrupt(regs, memory, 0x99).is_ok());
    assert_eq!(user.stack::<1>(), [0x99]);
}

#[test]
fn a_missing_gate_is_named_with_ext_for_events_and_without_for_instructions() {
    let mut guest = Guest::new();
    guest.cpu.idtr.limit = 0x20 * 16 - 1;
    let answer = guest.unchanged(|guest| int(guest, 0x40));
    assert_eq!(exception(answer), gp(0x202));
    interrupt(&mut guest, 0x40).unwrap();
    assert_eq!((handler(&guest), error(&guest)), (13, 0x203));

    let mut guest = Guest::new();
    set_gate(&mut guest, 0x40, gate(0x40, CODE, 0x0e, 0)); // not present
    let answer = guest.unchanged(|guest| int(guest, 0x40));
    assert_eq!(exception(answer), np(0x202));
    set_gate(&mut guest, 0x40, gate(0x40, CODE, 0x8c, 0)); // a call gate
    let answer = guest.unchanged(|guest| int(guest, 0x40));
    assert_eq!(exception(answer), gp(0x202));
}

#[test]
fn a_gates_code_segment_is_checked() {
    for (selector, expected) in [
        (0, gp(0)),
        (OUTSIDE, gp(OUTSIDE.into())),
        (STACK_SEGMENT, gp(0x18)),
        (USER_CODE, gp(0x30)), // less privileged than the kernel
        (CODE_32, gp(CODE_32.into())),
        (ABSENT_CODE, np(ABSENT_CODE.into())),
    ] {
        let mut guest = Guest::new();
        set_gate(&mut guest, 0x40, gate(0x40, selector, INTERRUPT, 0));
        let answer = guest.unchanged(|guest| int(guest, 0x40));
        assert_eq!(exception(answer), expected, "{selector:#x}");
    }
    let mut guest = Guest::new();
    let [low, _] = gate(0x40, CODE, INTERRUPT, 0);
    set_gate(&mut guest, 0x40, [low, 0x8000]);
    let before = guest.memory.clone();
    let answer = guest.unchanged(|guest| int(guest, 0x40));
    assert_eq!(exception(answer), gp(0));
    assert_eq!(
        guest.memory.words::<6>(STACK - 48),
        before.words::<6>(STACK - 48)
    );
}

#[test]
fn a_task_segment_that_is_too_short_is_invalid() {
    let mut user = Guest::user();
    user.cpu.tr.limit = 10;
    raise(&mut user, Exception::plain(0)).unwrap_err();
    set_gate(&mut user, 0x80, gate(0x80, CODE, USER_TRAP, 0));
    let answer = user.unchanged(|user| int(user, 0x80));
    let expected = Exception::with_error(Exception::INVALID_TSS, TASK.into());
    assert_eq!(exception(answer), expected);
}

#[test]
fn a_stack_that_is_not_canonical_is_a_stack_fault() {
    let mut user = Guest::user();
    user.memory.put_words(TSS + 4, &[0x8000_0000_1000]);
    set_gate(&mut user, 0x80, gate(0x80, CODE, USER_TRAP, 0));
    assert_eq!(exception(user.unchanged(|user| int(user, 0x80))), ss(0));
    // An event instead of an instruction: EXT, and #SS has a stack of its own to run on.
    set_gate(&mut user, 12, gate(12, CODE, INTERRUPT, 1));
    interrupt(&mut user, 0x20).unwrap();
    assert_eq!((handler(&user), error(&user)), (12, 1));
}

/// A guest whose gates of these vectors are missing.
fn without_gates(vectors: &[u64]) -> Guest {
    let mut guest = Guest::new();
    for vector in vectors {
        set_gate(&mut guest, *vector, [0, 0]);
    }
    guest
}

#[test]
fn a_fault_in_a_fault_is_a_double_fault() {
    // Contributory and contributory; page fault and contributory.
    for (first, vector) in [
        (Exception::plain(0), 0),
        (Exception::page_fault(0, 0x77), 14),
    ] {
        let mut guest = without_gates(&[vector]);
        raise(&mut guest, first).unwrap();
        assert_eq!((handler(&guest), error(&guest)), (8, 0), "{first:?}");
    }
    // Page fault and page fault: the handler's stack is not there. CR2 is the second's.
    let mut guest = Guest::new();
    guest.regs.general[RSP] = HOLE;
    set_gate(&mut guest, 8, gate(8, CODE, INTERRUPT, 1));
    raise(&mut guest, Exception::page_fault(2, 0x77)).unwrap();
    assert_eq!((handler(&guest), error(&guest)), (8, 0));
    assert_eq!(guest.cpu.cr2, HOLE - 8, "the first word that is pushed");
}

#[test]
fn a_page_fault_in_another_fault_is_delivered_in_its_place() {
    let mut guest = Guest::new();
    guest.regs.general[RSP] = HOLE;
    set_gate(&mut guest, 14, gate(14, CODE, INTERRUPT, 1));
    raise(&mut guest, gp(0)).unwrap();
    assert_eq!((handler(&guest), error(&guest)), (14, 2));
    assert_eq!(guest.cpu.cr2, HOLE - 8, "the first word that is pushed");
}

#[test]
fn a_fault_in_a_benign_event_is_delivered_in_its_place() {
    let mut guest = without_gates(&[6, 0x30]);
    let rip = guest.regs.rip;
    raise(&mut guest, Exception::invalid_opcode()).unwrap();
    assert_eq!((handler(&guest), error(&guest)), (13, 6 * 8 + 3));
    let mut guest = without_gates(&[0x30]);
    interrupt(&mut guest, 0x30).unwrap();
    assert_eq!((handler(&guest), error(&guest)), (13, 0x30 * 8 + 3));
    assert_eq!(guest.stack::<2>()[1], rip);
}

#[test]
fn a_fault_in_a_double_fault_is_the_end() {
    for first in [gp(0), Exception::page_fault(0, 0x77)] {
        let mut guest = without_gates(&[8, 13, 14]);
        assert_eq!(raise(&mut guest, first), Err(Fatal::TripleFault));
    }
    let mut guest = Guest::new();
    guest.cpu.idtr.limit = 0;
    assert_eq!(interrupt(&mut guest, 0x20), Err(Fatal::TripleFault));
}

#[test]
fn a_handler_at_a_level_that_this_machine_lacks_is_named() {
    let mut user = Guest::user();
    set_gate(&mut user, 6, gate(6, CODE_1, INTERRUPT, 0));
    let answer = raise(&mut user, Exception::invalid_opcode());
    assert_eq!(answer, Err(Fatal::Unsupported("a handler at CPL 1 or 2")));
    let verdict = Fatal::Unsupported("a handler at CPL 1 or 2").verdict(0x1234);
    assert_eq!(
        verdict.to_string(),
        "the delivery of an event at 0x1234 asks for a handler at CPL 1 or 2, which modes trap and \
         patch do not have"
    );
}

#[test]
fn traps_and_interrupts_keep_rf_clear_in_their_frame() {
    let mut guest = Guest::new();
    raise(&mut guest, Exception::plain(Exception::BREAKPOINT)).unwrap();
    assert_eq!(guest.stack::<3>()[2] & flag::RF, 0);
    interrupt(&mut guest, 0x20).unwrap();
    assert_eq!(guest.stack::<3>()[2] & flag::RF, 0);
}

#[test]
fn a_debug_exception_clears_general_detect() {
    let mut guest = Guest::new();
    guest.cpu.dr7 |= 1 << 13;
    let step = guest.cpu.single_step();
    raise(&mut guest, step).unwrap();
    assert_eq!(guest.cpu.dr7, 1 << 10);
    assert_eq!(guest.cpu.dr6, 0xffff_4ff0);
    assert_eq!(handler(&guest), 1);
}

#[test]
fn an_event_returns_to_where_it_was() {
    for guest in [Guest::new(), Guest::user(), Guest::user_32()] {
        let mut after = guest.clone();
        interrupt(&mut after, 0x20).unwrap();
        let Guest { cpu, regs, memory } = &mut after;
        cpu.iret(regs, memory, 8).unwrap();
        assert_eq!(after.cpu, guest.cpu);
        assert_eq!(after.regs, guest.regs);
    }
}
