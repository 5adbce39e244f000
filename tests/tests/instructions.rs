//! Sensitive instructions that do not fault at CPL 3: each means in a deprivileged native guest what
//! it means at CPL 0. The expected values are the SDM's; `hvm` must agree where it is a reference.

use hypercall_abi::{Mode, layout};
use hypervisor::doctor::Platform;
use hypervisor::patch::Policy;
use iced_x86::IcedError;
use iced_x86::code_asm::registers::*;
use iced_x86::code_asm::{CodeAssembler, dword_ptr, qword_ptr, word_ptr};
use tests::{image, need_kvm, run};

/// A page of data in the direct map: the guest's GDT, and room for results.
const DATA: u64 = layout::DIRECT_MAP + 0x20_0000;
/// The top of the guest's stack.
const STACK: u64 = layout::DIRECT_MAP + 0x30_0000;
/// The selectors of the GDT that `with_gdt` loads: code and data of CPL 0, data of CPL 3, a TSS.
const CODE: u16 = 0x10;
const KERNEL_DATA: u16 = 0x18;
const USER_DATA: u16 = 0x23;
const TSS: u16 = 0x28;
/// The vector of #UD.
const UNDEFINED: u8 = 6;
const GDT: [u64; 7] = [
    0,
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_f300_0000_ffff,
    // Available TSS of 0x68 bytes at DATA + 0x400.
    0x67 | ((DATA + 0x400) & 0xff_ffff) << 16 | 0x89 << 40 | ((DATA + 0x400) >> 24 & 0xff) << 56,
    (DATA + 0x400) >> 32,
];

type Assembled = Result<(), IcedError>;

/// End with the low byte of EAX for a status.
fn end(a: &mut CodeAssembler) -> Assembled {
    a.mov(dx, i32::from(layout::POWER_PORT))?;
    a.out(dx, eax)
}

/// End with IF of the two values of flags on the stack: bit 0 the first one's, bit 1 the last one's.
fn end_with_two_flags(a: &mut CodeAssembler) -> Assembled {
    a.pop(rcx)?;
    a.pop(rax)?;
    for register in [rax, rcx] {
        a.shr(register, 9)?;
        a.and(register, 1)?;
    }
    a.lea(rax, qword_ptr(rax + rcx * 2))?;
    end(a)
}

/// Have a stack.
fn start(a: &mut CodeAssembler) -> Assembled {
    a.mov(rsp, STACK)
}

/// Have a stack and a GDT.
fn with_gdt(a: &mut CodeAssembler) -> Assembled {
    start(a)?;
    a.mov(rbx, DATA)?;
    for (index, word) in GDT.iter().enumerate() {
        a.mov(rax, *word)?;
        a.mov(qword_ptr(rbx + index * 8), rax)?;
    }
    a.mov(word_ptr(rbx + 0x800), (GDT.len() * 8 - 1) as i32)?;
    a.mov(qword_ptr(rbx + 0x802), rbx)?;
    a.lgdt(qword_ptr(rbx + 0x800))
}

/// Have a stack, a GDT, and CS and SS of that GDT.
fn with_segments(a: &mut CodeAssembler) -> Assembled {
    with_gdt(a)?;
    a.mov(eax, i32::from(KERNEL_DATA))?;
    a.mov(ss, eax)?;
    let mut here = a.create_label();
    a.push(i32::from(CODE))?;
    a.lea(rcx, qword_ptr(here))?;
    a.push(rcx)?;
    a.db(&[0x48, 0xcb])?; // retfq
    a.set_label(&mut here)
}

/// The status with which the instructions end in every mode that runs the native image; `hvm` on
/// kvm_pvm is no reference for what looks at `segments`.
#[track_caller]
fn expect(status: u8, segments: bool, write: impl Fn(&mut CodeAssembler) -> Assembled) {
    need_kvm!();
    let is_reference = hypervisor::doctor::platform() != Platform::KvmPvm;
    for mode in [Mode::Hvm, Mode::Trap, Mode::Patch] {
        if mode == Mode::Hvm && segments && !is_reference {
            continue;
        }
        let mut config = image::instructions(mode, |a| write(a));
        config.patch = Policy::Eager;
        let ran = run(config);
        assert_eq!(ran.status(), status, "in mode {}", mode.name());
    }
}

#[test]
fn pushf_shows_the_interrupt_flag() {
    expect(0b01, false, |a| {
        start(a)?;
        a.sti()?;
        a.pushfq()?;
        a.cli()?;
        a.pushfq()?;
        end_with_two_flags(a)
    });
}

#[test]
fn popf_changes_the_interrupt_flag() {
    expect(0b01, false, |a| {
        start(a)?;
        a.push(0x202)?;
        a.popfq()?;
        a.pushfq()?;
        a.push(0x002)?;
        a.popfq()?;
        a.pushfq()?;
        end_with_two_flags(a)
    });
}

#[test]
fn a_selector_reads_as_the_guest_loaded_it() {
    expect(0x10 + 0x18, true, |a| {
        with_gdt(a)?;
        a.mov(ecx, u32::from(KERNEL_DATA))?;
        a.mov(ds, ecx)?;
        a.mov(eax, cs)?;
        a.mov(ecx, ds)?;
        a.add(eax, ecx)?;
        end(a)
    });
}

#[test]
fn a_stack_segment_of_the_kernel_can_be_loaded() {
    expect(KERNEL_DATA as u8, true, |a| {
        with_gdt(a)?;
        a.mov(ecx, u32::from(KERNEL_DATA))?;
        a.mov(ss, ecx)?;
        a.mov(eax, ss)?;
        end(a)
    });
}

#[test]
fn fs_and_gs_are_pushed_and_popped() {
    expect(USER_DATA as u8 * 2, true, |a| {
        with_gdt(a)?;
        a.push(i32::from(USER_DATA))?;
        a.pop(fs)?;
        a.push(fs)?;
        a.pop(gs)?;
        a.push(gs)?;
        a.pop(rax)?;
        a.mov(ecx, fs)?;
        a.add(eax, ecx)?;
        end(a)
    });
}

#[test]
fn sgdt_and_sidt_store_what_was_loaded() {
    expect(GDT.len() as u8 * 8 - 1 + 0x7f, true, |a| {
        with_gdt(a)?;
        a.mov(word_ptr(rbx + 0x820), 0x7f)?;
        a.mov(qword_ptr(rbx + 0x822), rbx)?;
        a.lidt(qword_ptr(rbx + 0x820))?;
        a.sgdt(qword_ptr(rbx + 0x840))?;
        a.sidt(qword_ptr(rbx + 0x860))?;
        a.movzx(eax, word_ptr(rbx + 0x840))?;
        a.movzx(ecx, word_ptr(rbx + 0x860))?;
        a.add(eax, ecx)?;
        // The bases, too.
        a.cmp(rbx, qword_ptr(rbx + 0x842))?;
        let mut wrong = a.create_label();
        a.jne(wrong)?;
        a.cmp(rbx, qword_ptr(rbx + 0x862))?;
        a.jne(wrong)?;
        end(a)?;
        a.set_label(&mut wrong)?;
        a.mov(eax, 1)?;
        end(a)
    });
}

#[test]
fn str_and_sldt_show_the_guest_s_own_tables() {
    expect(TSS as u8, true, |a| {
        with_gdt(a)?;
        a.xor(eax, eax)?;
        a.lldt(ax)?;
        a.mov(ecx, u32::from(TSS))?;
        a.ltr(cx)?;
        a.str(eax)?;
        a.sldt(ecx)?;
        a.add(eax, ecx)?;
        end(a)
    });
}

#[test]
fn smsw_shows_the_guest_s_cr0_and_lmsw_changes_it() {
    // PE, MP, ET, NE as at the start; then TS by LMSW, and CLTS takes it back.
    expect(0x33, false, |a| {
        start(a)?;
        a.smsw(ecx)?;
        a.mov(eax, ecx)?;
        a.or(eax, 8)?;
        a.lmsw(ax)?;
        a.smsw(edx)?;
        a.mov(eax, 1)?;
        a.test(edx, 8)?;
        let mut wrong = a.create_label();
        a.je(wrong)?;
        a.clts()?;
        a.smsw(eax)?;
        a.and(eax, 0xff)?;
        a.set_label(&mut wrong)?;
        end(a)
    });
}

#[test]
fn lar_lsl_verr_and_verw_answer_from_the_guest_s_gdt() {
    // Access rights of data at CPL 3 (0xf3); its limit's low byte; readable, and writable.
    expect(0xf3 - 1 + 2 + 4, true, |a| {
        with_gdt(a)?;
        a.mov(ecx, u32::from(USER_DATA))?;
        a.lar(eax, ecx)?;
        a.shr(eax, 8)?;
        a.and(eax, 0xff)?;
        a.lsl(edx, ecx)?;
        a.and(edx, 0xff)?; // 0xff: -1
        a.add(al, dl)?;
        let mut unreadable = a.create_label();
        a.verr(cx)?;
        a.jne(unreadable)?;
        a.add(eax, 2)?;
        a.set_label(&mut unreadable)?;
        let mut unwritable = a.create_label();
        a.verw(cx)?;
        a.jne(unwritable)?;
        a.add(eax, 4)?;
        a.set_label(&mut unwritable)?;
        end(a)
    });
}

#[test]
fn iretq_returns_to_the_same_level_with_the_frame_s_flags() {
    expect(1, true, |a| {
        with_gdt(a)?;
        let mut there = a.create_label();
        a.mov(rax, STACK - 0x100)?;
        a.push(i32::from(KERNEL_DATA))?;
        a.push(rax)?;
        a.push(0x202)?;
        a.push(i32::from(CODE))?;
        a.lea(rcx, qword_ptr(there))?;
        a.push(rcx)?;
        a.iretq()?;
        a.set_label(&mut there)?;
        a.sub(rax, rsp)?; // 0
        a.pushfq()?;
        a.pop(rcx)?;
        a.shr(rcx, 9)?;
        a.and(rcx, 1)?;
        a.add(rax, rcx)?;
        end(a)
    });
}

#[test]
fn retfq_and_a_far_jump_through_memory_load_the_code_segment() {
    expect(CODE as u8, true, |a| {
        with_gdt(a)?;
        let (mut first, mut second) = (a.create_label(), a.create_label());
        a.push(i32::from(CODE))?;
        a.lea(rcx, qword_ptr(first))?;
        a.push(rcx)?;
        a.db(&[0x48, 0xcb])?; // retfq
        a.set_label(&mut first)?;
        a.lea(rcx, qword_ptr(second))?;
        a.mov(dword_ptr(rbx + 0x900), ecx)?;
        // A 32-bit offset cannot name the kernel's half: go through a 64-bit pointer.
        a.mov(qword_ptr(rbx + 0x900), rcx)?;
        a.mov(word_ptr(rbx + 0x908), i32::from(CODE))?;
        a.db(&[0x48, 0xff, 0xab, 0x00, 0x09, 0x00, 0x00])?; // jmp far qword ptr [rbx + 0x900]
        a.mov(eax, 1)?;
        end(a)?;
        a.set_label(&mut second)?;
        a.mov(eax, cs)?;
        end(a)
    });
}

#[test]
fn a_far_call_through_memory_pushes_the_code_segment_and_returns() {
    expect(CODE as u8 | 1, true, |a| {
        with_segments(a)?;
        let (mut there, mut back) = (a.create_label(), a.create_label());
        a.lea(rcx, qword_ptr(there))?;
        a.mov(qword_ptr(rbx + 0x900), rcx)?;
        a.mov(word_ptr(rbx + 0x908), i32::from(CODE))?;
        a.xor(esi, esi)?;
        a.db(&[0x48, 0xff, 0x9b, 0x00, 0x09, 0x00, 0x00])?; // call far qword ptr [rbx + 0x900]
        a.set_label(&mut back)?;
        a.or(eax, esi)?;
        end(a)?;
        a.set_label(&mut there)?;
        a.lea(rdx, qword_ptr(back))?;
        a.xor(eax, eax)?;
        a.cmp(qword_ptr(rsp), rdx)?;
        a.cmove(rax, qword_ptr(rsp + 8))?;
        a.mov(esi, 1)?;
        a.db(&[0x48, 0xcb]) // retfq
    });
}

#[test]
fn rdpid_shows_what_the_guest_wrote_to_tsc_aux() {
    need_kvm!();
    // `hvm` is no reference: its processor may not have the instruction.
    for mode in [Mode::Trap, Mode::Patch] {
        let ran = run(image::instructions(mode, |a| {
            a.mov(ecx, 0xc000_0103u32)?;
            a.mov(eax, 77)?;
            a.xor(edx, edx)?;
            a.wrmsr()?;
            a.xor(eax, eax)?;
            a.rdpid(rax)?;
            end(a)
        }));
        assert_eq!(ran.status(), 77, "in mode {}", mode.name());
    }
}

#[test]
fn fs_and_gs_bases_cannot_be_written_while_cr4_does_not_allow_it() {
    expect(2, true, |a| {
        with_segments(a)?;
        let mut handler = a.create_label();
        image::load_idt(a, UNDEFINED, CODE, handler)?;
        a.xor(esi, esi)?;
        a.mov(edi, 0x1234)?;
        a.wrfsbase(rdi)?;
        a.wrgsbase(rdi)?;
        a.mov(eax, esi)?;
        end(a)?;
        // Go on behind the instruction, whose length is 5.
        a.set_label(&mut handler)?;
        a.inc(esi)?;
        a.add(qword_ptr(rsp), 5)?;
        a.iretq()
    });
}

#[test]
fn cpuid_hides_what_a_deprivileged_processor_does_not_have() {
    need_kvm!();
    // x2APIC, which hvm guests have.
    for (mode, status) in [(Mode::Hvm, 1), (Mode::Trap, 0), (Mode::Patch, 0)] {
        let ran = run(image::instructions(mode, |a| {
            a.mov(eax, 1)?;
            a.cpuid()?;
            a.shr(ecx, 21)?;
            a.and(ecx, 1)?;
            a.mov(eax, ecx)?;
            end(a)
        }));
        assert_eq!(ran.status(), status, "in mode {}", mode.name());
    }
}
