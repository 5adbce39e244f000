//! Flags, far transfers, returns and interrupts.

use super::{NONE, Run, changed};
use crate::doors::trap::Stop;
use crate::error::GuestFault;
use crate::machine::cpu::registers::{R11, RAX, RBX, RCX, RDI, RSP, flag};
use crate::machine::cpu::tests::guest::*;
use crate::machine::cpu::tests::{gp, ud};
use crate::machine::cpu::{Changes, Selector};

const TARGET: u64 = HANDLERS + 0x42;

/// A far pointer of `size` bytes of offset at DATA, and RDI at it.
fn far_pointer(run: &mut Run, offset: u64, size: usize, selector: u16) {
    run.guest.memory.put(DATA, &offset.to_le_bytes()[..size]);
    run.guest
        .memory
        .put(DATA + size as u64, &selector.to_le_bytes());
    run.set(RDI, DATA);
}

#[test]
fn flags_are_pushed_and_popped_in_both_widths() {
    let mut run = Run::kernel();
    assert_eq!(run.next(&[0xfb]), changed(Changes::SHADOW)); // sti
    assert_eq!(run.next(&[0x9c]), NONE); // pushfq
    assert_eq!(run.next(&[0xfa]), NONE); // cli
    assert!(!run.guest.regs.has(flag::IF));
    run.next(&[0x9d]); // popfq
    assert!(run.guest.regs.has(flag::IF));
    run.next(&[0x66, 0x9c]); // pushf
    assert_eq!(run.get(RSP), STACK - 2);
    run.next(&[0x66, 0x9d]); // popf
    assert_eq!(run.get(RSP), STACK);
    let mut user = Run::user();
    assert_eq!(user.refused(&[0xfa]), gp(0));
    assert_eq!(user.refused(&[0xfb]), gp(0));
}

#[test]
fn returns_read_words_of_their_width() {
    for (bytes, size) in [
        (&[0x48, 0xcf][..], 8), // iretq
        (&[0xcf], 4),           // iretd
        (&[0x48, 0xcb], 8),     // retfq
        (&[0xcb], 4),           // retf
        (&[0x66, 0xcb], 2),     // retfw
    ] {
        let mut run = Run::kernel();
        let target = if size == 8 { TARGET } else { 0x1234 };
        let rsp = STACK - 5 * size as u64;
        let frame = [target, CODE.into(), 2, STACK, STACK_SEGMENT.into()];
        for (n, word) in frame.iter().enumerate() {
            let at = rsp + (n * size) as u64;
            run.guest.memory.put(at, &word.to_le_bytes()[..size]);
        }
        run.set(RSP, rsp);
        assert_eq!(run.step(bytes), Ok(NONE), "{bytes:02x?}");
        assert_eq!(run.guest.regs.rip, target);
        let is_iret = bytes.last() == Some(&0xcf);
        let rsp = if is_iret {
            STACK
        } else {
            rsp + 2 * size as u64
        };
        assert_eq!(run.get(RSP), rsp, "{bytes:02x?}");
    }
}

#[test]
fn far_returns_release_arguments() {
    let mut run = Run::kernel();
    run.guest.frame(&[TARGET, CODE.into(), 0, 0]);
    assert_eq!(run.step(&[0x48, 0xca, 0x10, 0x00]), Ok(NONE)); // retfq 0x10
    assert_eq!((run.guest.regs.rip, run.get(RSP)), (TARGET, STACK));
}

#[test]
fn far_jumps_and_calls_read_a_pointer_of_their_width() {
    let mut run = Run::kernel();
    far_pointer(&mut run, TARGET, 8, CODE);
    assert_eq!(run.step(&[0x48, 0xff, 0x2f]), Ok(NONE)); // jmp m16:64
    assert_eq!(run.guest.regs.rip, TARGET);
    far_pointer(&mut run, 0x1234_5678, 4, CODE);
    assert_eq!(run.step(&[0xff, 0x2f]), Ok(NONE)); // jmp m16:32
    assert_eq!(run.guest.regs.rip, 0x1234_5678);
    far_pointer(&mut run, TARGET, 8, CODE);
    assert_eq!(run.step(&[0x48, 0xff, 0x1f]), Ok(NONE)); // call m16:64
    assert_eq!(run.guest.stack(), [0x1234_567b, u64::from(CODE)]);
    far_pointer(&mut run, 0x1234, 2, CODE);
    assert_eq!(run.step(&[0x66, 0xff, 0x1f]), Ok(NONE)); // call m16:16
    assert_eq!(run.get(RSP), STACK - 16 - 4);
}

#[test]
fn a_far_transfer_to_what_this_machine_lacks_names_the_instruction() {
    let mut run = Run::kernel();
    far_pointer(&mut run, 0x1000, 4, CODE_32);
    let before = run.guest.clone();
    let Err(Stop::Fault(fault @ GuestFault::Unsupported { .. })) = run.step(&[0xff, 0x2f]) else {
        panic!("it jumped");
    };
    assert_eq!((run.guest.cpu, run.guest.regs), (before.cpu, before.regs));
    let text = fault.to_string();
    assert!(
        text.contains("jmp") && text.contains("code at CPL 0 that is not 64-bit"),
        "{text}"
    );
}

#[test]
fn far_pointers_load_a_segment_and_a_register() {
    let mut run = Run::kernel();
    far_pointer(&mut run, STACK - 0x100, 8, STACK_SEGMENT);
    assert_eq!(
        run.next(&[0x48, 0x0f, 0xb2, 0x27]),
        changed(Changes::SHADOW)
    ); // lss rsp, [rdi]
    assert_eq!(run.get(RSP), STACK - 0x100);
    run.set(RAX, u64::MAX);
    far_pointer(&mut run, 0x8765_4321, 4, FRESH);
    assert_eq!(run.next(&[0x0f, 0xb4, 0x07]), changed(Changes::BASES)); // lfs eax, [rdi]
    assert_eq!(
        (run.get(RAX), run.guest.cpu.fs.selector),
        (0x8765_4321, Selector(FRESH))
    );
    far_pointer(&mut run, 0xabcd, 2, FRESH);
    run.set(RAX, u64::MAX);
    run.next(&[0x66, 0x0f, 0xb5, 0x07]); // lgs ax, [rdi]
    assert_eq!(run.get(RAX), !0xffff | 0xabcd);
    far_pointer(&mut run, 1, 4, OUTSIDE);
    assert_eq!(run.refused(&[0x0f, 0xb4, 0x07]), gp(OUTSIDE.into()));
}

#[test]
fn interrupts_return_behind_their_instruction() {
    for bytes in [&[0xcd, 0x80][..], &[0xcc], &[0xf1]] {
        let mut run = Run::kernel();
        let next = run.guest.regs.rip + bytes.len() as u64;
        assert_eq!(run.step(bytes), Ok(NONE));
        assert_eq!(run.guest.stack::<1>(), [next], "{bytes:02x?}");
        let vector = match bytes {
            [0xcd, vector] => u64::from(*vector),
            [0xcc] => 3,
            _ => 1,
        };
        assert_eq!(run.guest.regs.rip, HANDLERS + 16 * vector);
    }
    let mut user = Run::user();
    assert_eq!(user.refused(&[0xcd, 0x80]), gp(0x80 * 8 + 2));
    assert_eq!(user.refused(&[0xcc]), gp(3 * 8 + 2));
}

#[test]
fn into_asks_the_overflow_flag() {
    let mut run = Run::new(Guest::user_32());
    assert_eq!(run.next(&[0xce]), NONE);
    run.guest.regs.rflags |= flag::OF;
    run.guest
        .memory
        .put_words(IDT + 4 * 16, &gate(4, CODE, USER_TRAP, 0));
    assert_eq!(run.step(&[0xce]), Ok(changed(Changes::LEVEL)));
    assert_eq!(run.guest.regs.rip, HANDLERS + 4 * 16);
}

#[test]
fn system_calls_enter_and_return() {
    let mut run = Run::user();
    run.guest.cpu.star = 0x0023_0010_0000_0000;
    run.guest.cpu.lstar = TARGET;
    assert_eq!(run.step(&[0x0f, 0x05]), Ok(changed(Changes::LEVEL))); // syscall
    assert_eq!((run.guest.regs.rip, run.get(RCX)), (TARGET, USER_DATA + 2));
    assert_eq!(run.step(&[0x48, 0x0f, 0x07]), Ok(changed(Changes::LEVEL))); // sysretq
    assert_eq!((run.guest.regs.rip, run.guest.cpu.cpl), (USER_DATA + 2, 3));
    run.guest.cpu.cpl = 0;
    run.set(R11, 2);
    assert_eq!(run.step(&[0x0f, 0x07]), Ok(changed(Changes::LEVEL))); // sysretd
    assert!(!run.guest.cpu.is_64_bit());
}

#[test]
fn sysenter_and_sysexit_find_their_registers() {
    let mut run = Run::user();
    assert_eq!(run.refused(&[0x0f, 0x34]), gp(0)); // sysenter
    (run.guest.cpu.sysenter_cs, run.guest.cpu.sysenter_eip) = (0x10, TARGET);
    assert_eq!(run.step(&[0x0f, 0x34]), Ok(changed(Changes::LEVEL)));
    run.set(2, USER_DATA);
    assert_eq!(run.step(&[0x48, 0x0f, 0x35]), Ok(changed(Changes::LEVEL))); // sysexitq
    assert_eq!(run.guest.regs.rip, USER_DATA);
}

#[test]
fn swapgs_swaps() {
    let mut run = Run::kernel();
    run.guest.cpu.kernel_gs_base = 5;
    assert_eq!(run.next(&[0x0f, 0x01, 0xf8]), changed(Changes::BASES));
    assert_eq!(run.guest.cpu.gs.base, 5);
    assert_eq!(Run::user().refused(&[0x0f, 0x01, 0xf8]), gp(0));
}

#[test]
fn a_near_transfer_is_not_emulated() {
    let mut run = Run::kernel();
    for bytes in [
        &[0xff, 0xe0][..],
        &[0xff, 0xd0],
        &[0x53],
        &[0x5b],
        &[0x89, 0xd8],
    ] {
        assert!(
            matches!(run.step(bytes), Err(Stop::Fault(_))),
            "{bytes:02x?}"
        );
    }
    assert_eq!(run.get(RBX), 0);
}

#[test]
fn thirty_two_bit_code_wraps_its_instruction_pointer() {
    let mut run = Run::new(Guest::user_32());
    run.guest.regs.rip = 0xffff_fffe;
    run.step(&[0x0f, 0xa2]).unwrap(); // cpuid
    assert_eq!(run.guest.regs.rip, 0);
    assert_eq!(run.refused(&[0x0f, 0x05]), ud()); // syscall
}
