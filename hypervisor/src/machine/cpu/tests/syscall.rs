//! SYSCALL and its like.

use super::guest::*;
use super::{NONE, gp, ud};
use crate::machine::cpu::registers::{R11, RCX, RDX, RSP, flag};
use crate::machine::cpu::{Changes, Effect, Segment, Selector, efer};

const LSTAR: u64 = HANDLERS + 0x8000;

fn with_syscall(mut guest: Guest) -> Guest {
    guest.cpu.star = 0x0023_0010_0000_0000;
    guest.cpu.lstar = LSTAR;
    guest.cpu.sfmask = 0x4_7700;
    guest
}

#[test]
fn syscall_enters_the_kernel_and_sysret_returns() {
    let mut user = with_syscall(Guest::user());
    user.regs.rflags |= flag::ZF;
    let before = user.clone();
    let level = Ok(Changes::LEVEL.into());
    assert_eq!(user.cpu.syscall(&mut user.regs, USER_DATA + 2), level);
    assert_eq!(user.regs.rip, LSTAR);
    assert_eq!(user.regs.rflags, flag::FIXED | flag::ZF);
    assert_eq!(user.regs.general[RCX], USER_DATA + 2);
    assert_eq!(user.regs.general[R11], before.regs.rflags);
    assert_eq!(
        user.regs.general[RSP], USER_STACK,
        "the stack is the program's"
    );
    assert_eq!(user.cpu.cs, Segment::flat_code(Selector(0x10), 0));
    assert_eq!(user.cpu.ss, Segment::flat_data(Selector(0x18), 0));

    assert_eq!(user.cpu.sysret(&mut user.regs, true), level);
    assert_eq!(user.regs.rip, USER_DATA + 2);
    assert_eq!(user.regs.rflags, before.regs.rflags);
    assert_eq!(
        (user.cpu.cs, user.cpu.ss, user.cpu.cpl),
        (before.cpu.cs, before.cpu.ss, 3)
    );
}

#[test]
fn sysret_may_lead_to_32_bit_code() {
    let mut guest = with_syscall(Guest::new());
    guest.regs.general[RCX] = 0xffff_ffff_1234_5678;
    guest.regs.general[R11] = u64::MAX;
    guest.cpu.sysret(&mut guest.regs, false).unwrap();
    assert_eq!(guest.regs.rip, 0x1234_5678);
    assert_eq!(guest.regs.rflags, 0x3c_7fd7, "neither RF nor VM");
    assert_eq!(guest.cpu.cs, Segment::flat_code_32(Selector(0x23), 3));
}

#[test]
fn syscall_and_sysret_need_sce_and_sysret_the_kernel() {
    let mut guest = with_syscall(Guest::new());
    guest.regs.general[RCX] = 0x8000_0000_0000;
    let answer = guest.unchanged(|guest| guest.cpu.sysret(&mut guest.regs, true));
    assert_eq!(answer, Err(gp(0)));
    let mut user = with_syscall(Guest::user());
    let answer = user.unchanged(|user| user.cpu.sysret(&mut user.regs, true));
    assert_eq!(answer, Err(gp(0)));
    let mut user = with_syscall(Guest::user_32());
    assert_eq!(
        user.unchanged(|user| user.cpu.syscall(&mut user.regs, 0)),
        Err(ud())
    );
    guest.cpu.efer &= !efer::SCE;
    assert_eq!(
        guest.unchanged(|guest| guest.cpu.sysret(&mut guest.regs, true)),
        Err(ud())
    );
    assert_eq!(
        guest.unchanged(|guest| guest.cpu.syscall(&mut guest.regs, 0)),
        Err(ud())
    );
}

#[test]
fn syscall_of_the_kernel_stays_in_the_kernel() {
    let mut guest = with_syscall(Guest::new());
    assert_eq!(guest.cpu.syscall(&mut guest.regs, 0x99), Ok(NONE));
    assert_eq!(guest.regs.general[RCX], 0x99);
}

#[test]
fn sysenter_and_sysexit_use_their_own_registers() {
    let mut user = Guest::user();
    assert_eq!(
        user.unchanged(|user| user.cpu.sysenter(&mut user.regs)),
        Err(gp(0))
    );
    user.cpu.sysenter_cs = 0x10;
    user.cpu.sysenter_eip = LSTAR;
    user.cpu.sysenter_esp = STACK;
    let answer = user.unchanged(|user| user.cpu.sysexit(&mut user.regs, true));
    assert_eq!(answer, Err(gp(0)));
    assert_eq!(user.cpu.sysenter(&mut user.regs), Ok(Changes::LEVEL.into()));
    assert_eq!((user.regs.rip, user.regs.general[RSP]), (LSTAR, STACK));
    assert!(!user.regs.has(flag::IF));
    assert_eq!(user.cpu.ss.selector, Selector(0x18));

    (user.regs.general[RDX], user.regs.general[RCX]) = (USER_DATA, USER_STACK);
    assert_eq!(
        user.cpu.sysexit(&mut user.regs, true),
        Ok(Changes::LEVEL.into())
    );
    let selectors = (user.cpu.cs.selector.0, user.cpu.ss.selector.0);
    assert_eq!(selectors, (0x33, 0x3b));
    user.cpu.cpl = 0;
    user.cpu.sysexit(&mut user.regs, false).unwrap();
    let selectors = (user.cpu.cs.selector.0, user.cpu.ss.selector.0);
    assert_eq!(selectors, (0x23, 0x2b));
}

#[test]
fn swapgs_swaps_for_the_kernel_alone() {
    let mut guest = Guest::new();
    (guest.cpu.gs.base, guest.cpu.kernel_gs_base) = (1, 2);
    assert_eq!(guest.cpu.swap_gs(), Ok(Changes::BASES.into()));
    assert_eq!((guest.cpu.gs.base, guest.cpu.kernel_gs_base), (2, 1));
    let mut user = Guest::user();
    assert_eq!(user.unchanged(|user| user.cpu.swap_gs()), Err(gp(0)));
    let mut user = Guest::user_32();
    assert_eq!(user.unchanged(|user| user.cpu.swap_gs()), Err(ud()));
}

#[test]
fn syscall_and_sysret_are_single_stepped_by_the_flag_that_they_leave() {
    let stepped =
        |answer: Result<Effect, _>| answer.unwrap().changes.contains(Changes::SINGLE_STEP);
    for (masked, is_stepped) in [(0x4_7700, false), (0x4_7600, true)] {
        let mut user = with_syscall(Guest::user());
        user.cpu.sfmask = masked;
        user.regs.rflags |= flag::TF;
        assert_eq!(
            stepped(user.cpu.syscall(&mut user.regs, USER_DATA)),
            is_stepped
        );
        assert_ne!(user.regs.general[R11] & flag::TF, 0);
        // Back at the program, the step that was put off is due, whatever the kernel's TF.
        assert!(stepped(user.cpu.sysret(&mut user.regs, true)));
    }
    let mut guest = with_syscall(Guest::new());
    guest.regs.rflags |= flag::TF;
    guest.regs.general[R11] = flag::FIXED;
    guest.regs.general[RCX] = USER_DATA;
    assert!(!stepped(guest.cpu.sysret(&mut guest.regs, true)));
}
