//! The interrupt flag, PUSHF and POPF.

use super::guest::*;
use super::{NONE, exception, gp};
use crate::machine::cpu::Changes;
use crate::machine::cpu::registers::{RSP, flag};

fn push(guest: &mut Guest, size: usize) {
    let Guest { cpu, regs, memory } = guest;
    cpu.push_flags(regs, memory, size).unwrap();
}

/// Pop an image, and answer the flags.
fn pop(guest: &mut Guest, image: u64, size: usize) -> u64 {
    guest.frame(&[image]);
    let Guest { cpu, regs, memory } = guest;
    cpu.pop_flags(regs, memory, size).unwrap();
    regs.rflags
}

#[test]
fn sti_shadows_the_next_instruction_only_if_it_sets_the_flag() {
    let mut guest = Guest::new();
    let Guest { cpu, regs, .. } = &mut guest;
    assert_eq!(cpu.enable_interrupts(regs), Ok(Changes::SHADOW.into()));
    assert!(regs.has(flag::IF));
    assert_eq!(cpu.enable_interrupts(regs), Ok(NONE));
    assert_eq!(cpu.disable_interrupts(regs), Ok(NONE));
    assert!(!regs.has(flag::IF));
}

#[test]
fn a_program_needs_iopl_for_cli_and_sti() {
    let mut user = Guest::user();
    assert_eq!(
        user.unchanged(|user| user.cpu.disable_interrupts(&mut user.regs)),
        Err(gp(0))
    );
    assert_eq!(
        user.unchanged(|user| user.cpu.enable_interrupts(&mut user.regs)),
        Err(gp(0))
    );
    user.regs.rflags |= flag::IOPL;
    assert_eq!(user.cpu.disable_interrupts(&mut user.regs), Ok(NONE));
}

#[test]
fn pushf_shows_the_virtual_flags_without_rf() {
    let mut guest = Guest::new();
    guest.regs.rflags |= flag::IF | flag::RF | flag::IOPL;
    push(&mut guest, 8);
    assert_eq!(guest.stack(), [flag::FIXED | flag::IF | flag::IOPL]);
    assert_eq!(guest.regs.general[RSP], STACK - 8);
    push(&mut guest, 2);
    assert_eq!(guest.regs.general[RSP], STACK - 10);
}

#[test]
fn popf_of_the_kernel_loads_if_and_iopl() {
    let mut guest = Guest::new();
    let all = pop(&mut guest, u64::MAX, 8);
    let expected = flag::ANY_LEVEL | flag::IF | flag::IOPL | flag::FIXED;
    assert_eq!(all, expected, "neither RF nor VM nor reserved bits");
    assert_eq!(guest.regs.general[RSP], STACK);
    assert_eq!(pop(&mut guest, 0, 8), flag::FIXED);
}

#[test]
fn popf_of_a_program_silently_keeps_if_and_iopl() {
    let mut user = Guest::user();
    let flags = pop(&mut user, flag::IOPL | flag::ZF, 8);
    assert_eq!(flags, flag::FIXED | flag::IF | flag::ZF);
    user.regs.rflags |= flag::IOPL;
    assert_eq!(
        pop(&mut user, 0, 8),
        flag::FIXED | flag::IOPL,
        "IOPL 3 gives IF alone"
    );
}

#[test]
fn popf_of_two_bytes_keeps_the_upper_flags() {
    let mut guest = Guest::new();
    guest.regs.rflags |= flag::AC | flag::ID;
    assert_eq!(
        pop(&mut guest, flag::IF, 2),
        flag::FIXED | flag::AC | flag::ID | flag::IF
    );
    assert_eq!(guest.regs.general[RSP], STACK - 8 + 2);
}

#[test]
fn a_stack_that_is_not_mapped_faults() {
    let mut guest = Guest::new();
    guest.memory.unmap(STACK - 8);
    let answer = guest.unchanged(|guest| {
        let Guest { cpu, regs, memory } = guest;
        cpu.push_flags(regs, memory, 8)
    });
    assert_eq!(exception(answer).address, Some(STACK - 8));
    guest.regs.general[RSP] = HOLE;
    let answer = guest.unchanged(|guest| {
        let Guest { cpu, regs, memory } = guest;
        cpu.pop_flags(regs, memory, 8)
    });
    assert_eq!(exception(answer).address, Some(HOLE));
}
