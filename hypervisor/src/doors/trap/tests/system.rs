//! Control registers, tables, model-specific registers, and what any program may ask.

use super::bus::MSR;
use super::{NONE, Run, changed};
use crate::doors::trap::Stop;
use crate::error::GuestFault;
use crate::machine::cpu::registers::{RAX, RBX, RCX, RDI, RDX, RSP, flag};
use crate::machine::cpu::tests::guest::*;
use crate::machine::cpu::tests::{gp, ud};
use crate::machine::cpu::{Changes, Effect, SegmentName, Table, cr4};

const R9: usize = 9;
const R10: usize = 10;

#[test]
fn control_and_debug_registers_move() {
    let mut run = Run::kernel();
    run.set(RAX, 0x5000);
    assert_eq!(run.next(&[0x0f, 0x22, 0xd8]), changed(Changes::ROOT)); // mov cr3, rax
    assert_eq!(run.next(&[0x0f, 0x20, 0xdb]), NONE); // mov rbx, cr3
    assert_eq!((run.guest.cpu.cr3, run.get(RBX)), (0x5000, 0x5000));
    run.set(R9, 7);
    assert_eq!(
        run.next(&[0x45, 0x0f, 0x22, 0xc1]),
        changed(Changes::PRIORITY)
    ); // mov cr8, r9
    assert_eq!(run.guest.cpu.cr8, 7);
    run.next(&[0x41, 0x0f, 0x20, 0xc2]); // mov r10, cr0
    assert_eq!(run.get(R10), 0x8005_0033);
    run.set(RCX, 0x455);
    assert_eq!(run.next(&[0x0f, 0x23, 0xf9]), changed(Changes::DEBUG)); // mov dr7, rcx
    run.next(&[0x0f, 0x21, 0xf2]); // mov rdx, dr6
    assert_eq!((run.guest.cpu.dr7, run.get(RDX)), (0x455, 0xffff_0ff0));
}

#[test]
fn an_operands_address_has_base_index_scale_and_displacement() {
    let mut run = Run::kernel();
    // lgdt [rip+0x10]: relative to the next instruction.
    run.guest.regs.rip = DATA;
    run.guest.memory.put(DATA + 7 + 0x10, &[0xff, 1, 0, 0x70]);
    run.next(&[0x0f, 0x01, 0x15, 0x10, 0, 0, 0]);
    assert_eq!(
        run.guest.cpu.gdtr,
        Table {
            base: 0x7000,
            limit: 0x1ff
        }
    );
    // lidt [rbx+rcx*4-0x20]
    run.set(RBX, DATA);
    run.set(RCX, 0x10);
    run.guest.memory.put(DATA + 0x20, &[0xff, 3, 0, 0x80]);
    run.next(&[0x0f, 0x01, 0x5c, 0x8b, 0xe0]);
    assert_eq!(
        run.guest.cpu.idtr,
        Table {
            base: 0x8000,
            limit: 0x3ff
        }
    );
    // sgdt gs:[rax]
    run.guest.cpu.gs.base = DATA;
    run.set(RAX, 0x80);
    run.next(&[0x65, 0x0f, 0x01, 0x00]);
    assert_eq!(
        run.guest.memory.word(DATA + 0x80) & 0xffff_ffff,
        0x7000_01ff
    );
    // sidt [eax+8]: 32 bits of the address count.
    run.set(RAX, 0xffff_ffff_0000_0000 | DATA);
    run.next(&[0x67, 0x0f, 0x01, 0x48, 0x08]);
    assert_eq!(run.guest.memory.word(DATA + 8) & 0xffff_ffff, 0x8000_03ff);
}

#[test]
fn an_address_off_the_stack_pointer_is_in_the_stack_segment() {
    let mut run = Run::kernel();
    run.set(RSP, 0x8000_0000_0000);
    let fault = crate::machine::cpu::tests::ss(0);
    assert_eq!(run.refused(&[0x0f, 0x01, 0x04, 0x24]), fault); // sgdt [rsp]
    run.set(RAX, 0x8000_0000_0000);
    assert_eq!(run.refused(&[0x0f, 0x01, 0x00]), gp(0)); // sgdt [rax]
}

#[test]
fn selectors_are_stored_as_wide_as_their_operand() {
    let mut run = Run::user();
    let ones = u64::MAX;
    for (bytes, number, expected) in [
        (&[0x66, 0x0f, 0x00, 0xc0][..], RAX, ones & !0xffff), // sldt ax
        (&[0x0f, 0x00, 0xc0], RAX, 0),                        // sldt eax
        (&[0x41, 0x0f, 0x00, 0xc9], R9, TASK.into()),         // str r9d
        (&[0x66, 0x0f, 0x01, 0xe0], RAX, ones & !0xffff | 0x33), // smsw ax
        (&[0x0f, 0x01, 0xe0], RAX, 0x8005_0033),              // smsw eax
        (&[0x48, 0x0f, 0x01, 0xe0], RAX, 0x8005_0033),        // smsw rax
        (&[0x8c, 0xd8], RAX, USER_SS.into()),                 // mov eax, ds
        (
            &[0x66, 0x8c, 0xc8],
            RAX,
            ones & !0xffff | u64::from(USER_CODE),
        ), // mov ax, cs
    ] {
        run.set(number, ones);
        assert_eq!(run.next(bytes), NONE);
        assert_eq!(run.get(number), expected, "{bytes:02x?}");
    }
    run.set(RDI, USER_DATA);
    for (bytes, expected) in [
        (&[0x0f, 0x00, 0x07][..], 0), // sldt [rdi]
        (&[0x0f, 0x00, 0x0f], TASK),  // str [rdi]
        (&[0x0f, 0x01, 0x27], 0x33),  // smsw [rdi]
        (&[0x8c, 0x07], USER_SS),     // mov [rdi], es
    ] {
        run.guest.memory.put_words(USER_DATA, &[ones]);
        run.next(bytes);
        let word = run.guest.memory.word(USER_DATA);
        assert_eq!(word, ones & !0xffff | u64::from(expected), "{bytes:02x?}");
    }
}

#[test]
fn segments_are_loaded_moved_pushed_and_popped() {
    let mut run = Run::kernel();
    run.set(RAX, 0xabcd_0000 | u64::from(FRESH));
    assert_eq!(run.next(&[0x8e, 0xd8]), NONE); // mov ds, eax
    assert_eq!(run.guest.cpu.ds.base, 0x1234_5000);
    run.set(RDI, DATA);
    run.guest.memory.put(DATA, &[STACK_SEGMENT as u8]);
    assert_eq!(run.next(&[0x8e, 0x17]), changed(Changes::SHADOW)); // mov ss, [rdi]
    assert_eq!(run.refused(&[0x8e, 0xc8]), ud()); // mov cs, eax

    run.next(&[0x0f, 0xa0]); // push fs
    assert_eq!(run.guest.stack(), [u64::from(STACK_SEGMENT)]);
    assert_eq!(run.next(&[0x0f, 0xa9]), changed(Changes::BASES)); // pop gs
    assert_eq!(run.get(RSP), STACK);
    run.next(&[0x66, 0x0f, 0xa0]); // push fs, two bytes
    assert_eq!(run.get(RSP), STACK - 2);
    run.next(&[0x66, 0x0f, 0xa9]); // pop gs
    assert_eq!(run.get(RSP), STACK);
    let gs = run.guest.cpu.segment(SegmentName::Gs);
    assert_eq!(gs.selector.0, STACK_SEGMENT);
}

#[test]
fn tables_and_tasks_are_loaded_by_selector() {
    let mut run = Run::kernel();
    run.set(RCX, TASK.into());
    run.next(&[0x0f, 0x00, 0xd9]); // ltr cx
    assert_eq!(run.guest.kind_of(TASK), 11);
    run.set(RAX, LOCAL.into());
    run.next(&[0x0f, 0x00, 0xd0]); // lldt ax
    assert_eq!(run.guest.cpu.ldtr.base, LDT);
    run.set(RDI, HOLE);
    let fault = run.refused(&[0x0f, 0x00, 0x1f]); // ltr [rdi]
    assert_eq!(fault.address, Some(HOLE));
    // Privilege comes before the operand.
    let mut user = Run::user();
    user.set(RDI, HOLE);
    for bytes in [[0x0f, 0x00, 0x1f], [0x0f, 0x01, 0x37], [0x0f, 0x01, 0x17]] {
        assert_eq!(user.refused(&bytes), gp(0)); // ltr, lmsw, lgdt [rdi]
    }
}

#[test]
fn the_status_word_is_loaded() {
    let mut run = Run::kernel();
    run.set(RAX, 0x9);
    assert_eq!(run.next(&[0x0f, 0x01, 0xf0]), changed(Changes::CONTROL)); // lmsw ax
    assert_eq!(run.guest.cpu.cr0 & 15, 9);
    assert_eq!(run.next(&[0x0f, 0x06]), changed(Changes::CONTROL)); // clts
    assert_eq!(run.guest.cpu.cr0 & 15, 1);
}

#[test]
fn model_specific_registers_are_the_processors_or_the_buss() {
    let mut run = Run::kernel();
    let wrmsr = [0x0f, 0x30];
    let rdmsr = [0x0f, 0x32];
    run.set(RCX, 0xffff_ffff_c000_0101); // GS_BASE
    run.set(RDX, 0xffff_ffff);
    run.set(RAX, 0x1234_5678_8000_1000);
    assert_eq!(run.next(&wrmsr), changed(Changes::BASES));
    assert_eq!(run.guest.cpu.gs.base, 0xffff_ffff_8000_1000);
    run.set(RAX, u64::MAX);
    run.set(RDX, u64::MAX);
    run.next(&rdmsr);
    assert_eq!((run.get(RAX), run.get(RDX)), (0x8000_1000, 0xffff_ffff));

    run.set(RCX, MSR.into());
    run.next(&wrmsr);
    assert_eq!(run.bus.msr, 0xffff_ffff_8000_1000);
    run.bus.msr = 5;
    run.next(&rdmsr);
    assert_eq!((run.get(RAX), run.get(RDX)), (5, 0));

    run.set(RCX, 0x1234);
    assert_eq!(run.refused(&wrmsr), gp(0));
    assert_eq!(run.refused(&rdmsr), gp(0));
    let mut user = Run::user();
    user.set(RCX, MSR.into());
    assert_eq!(user.refused(&rdmsr), gp(0));
}

#[test]
fn the_clock_is_the_buss() {
    let mut run = Run::user();
    run.bus.msr = 0x1_0000_0002;
    run.guest.cpu.tsc_aux = 9;
    run.next(&[0x0f, 0x01, 0xf9]); // rdtscp
    assert_eq!((run.get(RAX), run.get(RDX), run.get(RCX)), (2, 1, 9));
    run.next(&[0xf3, 0x0f, 0xc7, 0xf8]); // rdpid rax
    assert_eq!(run.get(RAX), 9);
    run.guest.cpu.cr4 |= cr4::TSD;
    assert_eq!(run.refused(&[0x0f, 0x31]), gp(0)); // rdtsc
}

#[test]
fn translations_are_forgotten() {
    let mut run = Run::kernel();
    run.set(RDI, 0x1234);
    assert_eq!(run.next(&[0x0f, 0x01, 0x3f]), Effect::page(0x1234)); // invlpg [rdi]
    run.guest.cpu.gs.base = 0x1_0000;
    assert_eq!(run.next(&[0x65, 0x0f, 0x01, 0x3f]), Effect::page(0x1_1234));
    run.set(RDI, DATA);
    run.set(RAX, 2);
    let all = changed(Changes::ALL_PAGES);
    assert_eq!(run.next(&[0x66, 0x0f, 0x38, 0x82, 0x07]), all); // invpcid rax, [rdi]
}

#[test]
fn caches_are_the_kernels_to_flush() {
    for bytes in [&[0x0f, 0x08][..], &[0x0f, 0x09], &[0xf3, 0x0f, 0x09]] {
        assert_eq!(Run::kernel().next(bytes), NONE);
        assert_eq!(Run::user().refused(bytes), gp(0));
    }
}

#[test]
fn bases_are_read_and_written_in_both_widths() {
    let mut run = Run::kernel();
    run.guest.cpu.cr4 |= cr4::FSGSBASE;
    run.set(RCX, 0xffff_8000_0000_1000);
    let bases = changed(Changes::BASES);
    assert_eq!(run.next(&[0xf3, 0x48, 0x0f, 0xae, 0xd9]), bases); // wrgsbase rcx
    assert_eq!(run.guest.cpu.gs.base, 0xffff_8000_0000_1000);
    run.next(&[0xf3, 0x0f, 0xae, 0xca]); // rdgsbase edx
    assert_eq!(run.get(RDX), 0x1000);
    assert_eq!(run.next(&[0xf3, 0x0f, 0xae, 0xd9]), bases); // wrgsbase ecx
    assert_eq!(run.guest.cpu.gs.base, 0x1000);
    run.guest.cpu.fs.base = 0x77;
    run.next(&[0xf3, 0x48, 0x0f, 0xae, 0xc0]); // rdfsbase rax
    assert_eq!(run.get(RAX), 0x77);
}

#[test]
fn descriptors_are_inspected_by_programs_too() {
    let mut run = Run::user();
    run.set(RCX, USER_SS.into());
    run.set(RAX, u64::MAX);
    run.next(&[0x66, 0x0f, 0x02, 0xc1]); // lar ax, cx
    assert_eq!(run.get(RAX), !0xffff | 0xf300);
    run.next(&[0x0f, 0x02, 0xc1]); // lar eax, ecx
    assert_eq!(run.get(RAX), 0xc0_f300);
    assert!(run.guest.regs.has(flag::ZF));
    run.set(RDI, USER_DATA);
    run.guest.memory.put(USER_DATA, &USER_SS.to_le_bytes());
    run.next(&[0x0f, 0x03, 0x07]); // lsl eax, [rdi]
    assert_eq!(run.get(RAX), 0xffff_ffff);
    run.next(&[0x0f, 0x00, 0x2f]); // verw [rdi]
    assert!(run.guest.regs.has(flag::ZF));
    run.set(RCX, STACK_SEGMENT.into());
    run.next(&[0x0f, 0x00, 0xe1]); // verr cx
    assert!(!run.guest.regs.has(flag::ZF));
    run.set(RAX, 0x99);
    run.next(&[0x48, 0x0f, 0x02, 0xc1]); // lar rax, rcx
    assert_eq!(run.get(RAX), 0x99, "no answer leaves the register");
}

#[test]
fn cpuid_is_the_machines_and_clears_upper_halves() {
    let mut run = Run::user();
    run.set(RAX, 0xffff_ffff_0000_0002);
    run.set(RCX, 3);
    run.next(&[0x0f, 0xa2]);
    let found = (run.get(RAX), run.get(RBX), run.get(RCX), run.get(RDX));
    assert_eq!(found, (2, 3, 0x1111_1111, 0x2222_2222));
}

#[test]
fn extended_control_follows_osxsave() {
    let mut run = Run::kernel();
    let (xgetbv, xsetbv) = ([0x0f, 0x01, 0xd0], [0x0f, 0x01, 0xd1]);
    assert_eq!(run.refused(&xsetbv), ud());
    run.guest.cpu.cr4 |= cr4::OSXSAVE;
    run.set(RAX, 7);
    assert_eq!(run.next(&xsetbv), changed(Changes::XCR0));
    run.set(RAX, 0);
    run.next(&xgetbv);
    assert_eq!(run.get(RAX), 7);
}

#[test]
fn halting_says_so_and_moves_on() {
    let mut run = Run::kernel();
    assert_eq!(run.next(&[0xf4]), changed(Changes::HALTED));
    assert_eq!(Run::user().refused(&[0xf4]), gp(0));
    assert_eq!(run.refused(&[0x0f, 0x33]), gp(0)); // rdpmc
}

#[test]
fn what_is_no_instruction_or_locked_is_an_invalid_opcode() {
    let mut run = Run::kernel();
    assert_eq!(run.refused(&[0x06]), ud());
    assert_eq!(run.refused(&[0xf0, 0xf4]), ud()); // lock hlt
    // CPUID shows neither VMX nor SMAP.
    assert_eq!(run.refused(&[0x0f, 0x01, 0xc1]), ud()); // vmcall
    assert_eq!(run.refused(&[0x0f, 0x01, 0xcb]), ud()); // stac
}

#[test]
fn an_ordinary_instruction_is_not_emulated_and_is_named() {
    let mut run = Run::kernel();
    let at = run.guest.regs.rip;
    let Err(Stop::Fault(fault)) = run.step(&[0x01, 0xd8]) else {
        panic!("add was emulated");
    };
    assert!(matches!(fault, GuestFault::Unsupported { at: place, .. } if place == at));
    let text = fault.to_string();
    assert!(
        text.starts_with(&format!("`add eax,ebx` at {at:#x} asks for")),
        "{text}"
    );
}

#[test]
fn a_single_step_is_due_after_an_instruction_that_began_with_tf() {
    let mut run = Run::kernel();
    run.guest.regs.rflags |= flag::TF | flag::RF;
    let step = Changes::SINGLE_STEP;
    assert_eq!(run.next(&[0xfa]), changed(step)); // cli
    assert!(
        !run.guest.regs.has(flag::RF),
        "RF lasts for one instruction"
    );
    assert_eq!(run.next(&[0xfb]), changed(step | Changes::SHADOW)); // sti
    run.set(RAX, STACK_SEGMENT.into());
    assert_eq!(run.next(&[0x8e, 0xd0]), changed(Changes::SHADOW)); // mov ss, eax
    // POPF that clears TF still traps; one that sets it does not yet.
    run.guest.frame(&[2]);
    assert_eq!(run.next(&[0x9d]), changed(step));
    run.guest.frame(&[flag::TF]);
    assert_eq!(run.next(&[0x9d]), NONE);
    // Handlers do not inherit TF.
    assert_eq!(run.step(&[0xcd, 0x20]), Ok(NONE));
    assert!(!run.guest.regs.has(flag::TF));
}
