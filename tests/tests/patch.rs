//! Mode `patch`: instructions that were replaced do what they did, at no exit, and what surrounds them
//! sees no difference: branches into moved code, faults in it, code that changes, code that is executed
//! at two addresses.

use hypercall_abi::{Mode, layout};
use hypervisor::Config;
use hypervisor::patch::Policy;
use iced_x86::IcedError;
use iced_x86::code_asm::registers::*;
use iced_x86::code_asm::{CodeAssembler, CodeLabel, byte_ptr, dword_ptr, qword_ptr};
use tests::{image, need_kvm, run};

/// The top of the guest's stack.
const STACK: u64 = layout::DIRECT_MAP + 0x30_0000;
/// A page of data.
const DATA: u64 = layout::DIRECT_MAP + 0x20_0000;
/// The direct map of the address that the code is loaded at.
const CODE_ALIAS: u64 = layout::DIRECT_MAP + 0x10_0000;

type Assembled = Result<(), IcedError>;

/// Every policy that patches.
const POLICIES: [Policy; 2] = [Policy::Adaptive { after: 1 }, Policy::Eager];

fn guest(policy: Policy, write: impl FnOnce(&mut CodeAssembler) -> Assembled) -> Config {
    let mut config = image::instructions(Mode::Patch, |a| {
        a.mov(rsp, STACK)?;
        write(a)
    });
    config.patch = policy;
    config
}

/// End with the low byte of EAX for a status.
fn end(a: &mut CodeAssembler) -> Assembled {
    a.mov(dx, i32::from(layout::POWER_PORT))?;
    a.out(dx, eax)
}

/// Run it with each policy, and expect a status.
#[track_caller]
fn expect(status: u8, write: impl Fn(&mut CodeAssembler) -> Assembled) {
    need_kvm!();
    for policy in [Policy::Never].into_iter().chain(POLICIES) {
        let ran = run(guest(policy, |a| write(a)));
        assert_eq!(ran.status(), status, "{policy:?}: {}", ran.output);
    }
}

/// Do something `rounds` times, and count in R15.
fn rounds(
    a: &mut CodeAssembler,
    rounds: u32,
    body: impl FnOnce(&mut CodeAssembler) -> Assembled,
) -> Assembled {
    let mut again = a.create_label();
    a.xor(r15d, r15d)?;
    a.set_label(&mut again)?;
    body(a)?;
    a.inc(r15d)?;
    a.cmp(r15d, rounds)?;
    a.jne(again)
}

/// The exits of so many rounds of something.
fn exits(policy: Policy, count: u32, body: fn(&mut CodeAssembler) -> Assembled) -> u64 {
    let ran = run(guest(policy, |a| {
        rounds(a, count, body)?;
        a.mov(eax, 7)?;
        end(a)
    }));
    assert_eq!(ran.status(), 7, "{}", ran.output);
    ran.exits()
}

#[test]
fn instructions_that_would_trap_one_after_another_share_an_exit() {
    need_kvm!();
    let body: fn(&mut CodeAssembler) -> Assembled = |a| {
        for _ in 0..8 {
            a.mov(rax, cr0)?;
        }
        Ok(())
    };
    let alone = exits(Policy::Never, 64, body);
    let together = exits(POLICIES[0], 64, body);
    assert!(alone >= 8 * 64, "{alone}");
    assert!((64..2 * 64).contains(&together), "{together}");
}

#[test]
fn a_machine_that_is_off_does_nothing_more() {
    expect(9, |a| {
        a.mov(eax, 9)?;
        end(a)?;
        a.cli()?;
        a.hlt()
    });
}

#[test]
fn each_replaced_instruction_makes_no_exit() {
    need_kvm!();
    let bodies: [fn(&mut CodeAssembler) -> Assembled; 4] = [
        |a| {
            a.cli()?;
            a.mov(eax, 5)
        },
        |a| {
            a.sti()?;
            a.mov(eax, 5)
        },
        |a| {
            a.pushfq()?;
            a.add(rsp, 8)
        },
        |a| {
            a.push(0x202)?;
            a.popfq()?;
            a.mov(eax, 5)
        },
    ];
    for (number, body) in bodies.into_iter().enumerate() {
        for policy in POLICIES {
            let [few, many] = [10, 1000].map(|count| exits(policy, count, body));
            assert_eq!(few, many, "number {number}, {policy:?}");
        }
        let [few, many] = [10, 1000].map(|count| exits(Policy::Never, count, body));
        assert_eq!(many - few, 990, "number {number}, each traps");
    }
}

#[test]
fn flags_come_out_of_pushf_as_they_went_into_popf() {
    // All values of the low twelve bits, but for TF; each in both ways. The sum of what differs.
    const MASK: u32 = 0xed5;
    expect(0, |a| {
        let mut same = a.create_label();
        let mut skip = a.create_label();
        a.xor(ebp, ebp)?;
        rounds(a, 0x1000, |a| {
            a.mov(ebx, r15d)?;
            a.test(ebx, 0x100)?;
            a.jne(skip)?;
            a.and(ebx, MASK)?;
            a.or(ebx, 2)?;
            a.push(rbx)?;
            a.popfq()?;
            a.pushfq()?;
            a.pop(rcx)?;
            a.cmp(rcx, rbx)?;
            a.je(same)?;
            a.mov(ebp, 1)?;
            a.set_label(&mut same)?;
            a.nop()?;
            a.set_label(&mut skip)?;
            a.nop()
        })?;
        a.mov(eax, ebp)?;
        end(a)
    });
}

#[test]
fn no_register_and_no_flag_changes() {
    // Arithmetic flags survive cli, sti and pushf; RCX, which the code uses for a moment, too.
    expect(0, |a| {
        let mut bad = a.create_label();
        let mut done = a.create_label();
        rounds(a, 8, |a| {
            a.mov(rcx, 0x1122_3344_5566_7788u64)?;
            a.stc()?;
            a.cli()?;
            a.jnc(bad)?;
            a.sti()?;
            a.jnc(bad)?;
            a.pushfq()?;
            a.jnc(bad)?;
            a.popfq()?;
            a.jnc(bad)?;
            a.mov(rax, 0x1122_3344_5566_7788u64)?;
            a.cmp(rcx, rax)?;
            a.jne(bad)?;
            a.mov(rax, STACK)?;
            a.cmp(rax, rsp)?;
            a.jne(bad)
        })?;
        a.xor(eax, eax)?;
        a.jmp(done)?;
        a.set_label(&mut bad)?;
        a.mov(eax, 1)?;
        a.set_label(&mut done)?;
        end(a)
    });
}

#[test]
fn an_indirect_branch_into_the_middle_of_a_moved_range_arrives() {
    // cli and four increments: patched at cli, and entered at it and at three of them, by address.
    expect(4 + 4 + 3 + 2, |a| {
        let mut begin = a.create_label();
        let mut inner: [CodeLabel; 3] = [(); 3].map(|()| a.create_label());
        let mut warm = a.create_label();
        let mut after = a.create_label();
        let mut out = a.create_label();
        a.xor(ebx, ebx)?;
        a.lea(rbp, qword_ptr(warm))?;
        // Warm up, which does not count.
        a.set_label(&mut begin)?;
        a.cli()?;
        a.set_label(&mut inner[0])?;
        a.inc(ebx)?;
        a.set_label(&mut inner[1])?;
        a.inc(ebx)?;
        a.set_label(&mut inner[2])?;
        a.inc(ebx)?;
        a.inc(ebx)?;
        a.jmp(rbp)?;
        a.set_label(&mut warm)?;
        a.inc(r14d)?;
        a.cmp(r14d, 6)?;
        a.jb(begin)?;
        a.xor(ebx, ebx)?;
        a.lea(rbp, qword_ptr(after))?;
        a.xor(r13d, r13d)?;
        a.set_label(&mut after)?;
        a.inc(r13d)?;
        // The addresses are computed, so that nothing can know them.
        a.lea(rax, qword_ptr(begin))?;
        a.cmp(r13d, 5)?;
        a.je(out)?;
        // Round 1 at cli, which has one byte; then 1, 3 and 5 bytes further.
        a.mov(ecx, r13d)?;
        a.lea(rcx, qword_ptr(rcx * 2 - 3))?;
        a.mov(edx, 0)?;
        a.test(ecx, ecx)?;
        a.cmovs(ecx, edx)?;
        a.add(rax, rcx)?;
        a.jmp(rax)?;
        a.set_label(&mut out)?;
        a.mov(eax, ebx)?;
        end(a)
    });
}

#[test]
fn a_fault_in_moved_code_shows_the_guest_s_address() {
    // cli; div ecx with ECX = 0, in a loop whose first rounds divide by one.
    expect(1, |a| {
        let mut again = a.create_label();
        let mut at = a.create_label();
        let mut handler = a.create_label();
        let mut bad = a.create_label();
        interrupt_gate(a, 0, handler)?;
        a.xor(r15d, r15d)?;
        a.set_label(&mut again)?;
        a.mov(eax, 6)?;
        a.xor(edx, edx)?;
        a.mov(ecx, 1)?;
        a.cmp(r15d, 5)?;
        a.mov(ebx, 0)?;
        a.cmove(ecx, ebx)?;
        a.cli()?;
        a.set_label(&mut at)?;
        a.div(ecx)?;
        a.mov(ebx, 5)?;
        a.inc(r15d)?;
        a.jmp(again)?;
        a.set_label(&mut handler)?;
        a.lea(rax, qword_ptr(at))?;
        a.cmp(qword_ptr(rsp), rax)?;
        a.jne(bad)?;
        a.cmp(r15d, 5)?;
        a.jne(bad)?;
        a.mov(eax, 1)?;
        end(a)?;
        a.set_label(&mut bad)?;
        a.mov(eax, 2)?;
        end(a)
    });
}

#[test]
fn code_that_the_guest_changes_is_executed_as_it_is() {
    // `cli` becomes `nop`: with interrupts let in before, PUSHF shows them then.
    expect(0b10, |a| {
        let mut body = a.create_label();
        let mut again = a.create_label();
        a.xor(r15d, r15d)?;
        a.xor(r14d, r14d)?;
        a.set_label(&mut again)?;
        a.sti()?;
        a.set_label(&mut body)?;
        a.cli()?;
        a.mov(eax, 5)?;
        a.pushfq()?;
        a.pop(rax)?;
        a.shr(eax, 9)?;
        a.and(eax, 1)?;
        // Round 4 leaves its answer in bit 0, the round after the change in bit 1.
        a.inc(r15d)?;
        a.cmp(r15d, 5)?;
        let mut change = a.create_label();
        let mut out = a.create_label();
        a.je(change)?;
        a.cmp(r15d, 10)?;
        a.je(out)?;
        a.jmp(again)?;
        a.set_label(&mut change)?;
        a.mov(r14d, eax)?;
        a.lea(rax, qword_ptr(body))?;
        a.mov(rbx, layout::KERNEL_BASE + 0x10_0000)?;
        a.sub(rax, rbx)?;
        a.mov(rbx, CODE_ALIAS)?;
        a.add(rbx, rax)?;
        a.mov(byte_ptr(rbx), 0x90)?;
        a.jmp(again)?;
        a.set_label(&mut out)?;
        a.lea(rax, qword_ptr(r14 + rax * 2))?;
        end(a)
    });
}

#[test]
fn single_steps_of_the_kernel_are_one_for_each_instruction() {
    // TF from a popf: cli, sti, pushf and popf are a step each, patched before or not.
    expect(6, |a| {
        let mut handler = a.create_label();
        let mut body = a.create_label();
        let mut first = a.create_label();
        let mut second = a.create_label();
        interrupt_gate(a, 1, handler)?;
        a.xor(r13d, r13d)?;
        a.xor(r15d, r15d)?;
        a.lea(rbp, qword_ptr(first))?;
        a.set_label(&mut body)?;
        a.cli()?;
        a.sti()?;
        a.cli()?;
        a.pushfq()?;
        a.add(rsp, 8)?;
        a.jmp(rbp)?;
        a.set_label(&mut first)?;
        a.inc(r15d)?;
        a.cmp(r15d, 6)?;
        a.jb(body)?;
        a.lea(rbp, qword_ptr(second))?;
        a.lea(rax, qword_ptr(body))?;
        a.push(0x102)?;
        a.popfq()?;
        a.jmp(rax)?;
        a.set_label(&mut second)?;
        // The popf that ends it is a step, too; the jump that begins it is the first.
        a.push(0x2)?;
        a.popfq()?;
        a.mov(eax, r13d)?;
        end(a)?;
        a.set_label(&mut handler)?;
        // Steps between the body's first instruction and `second` count.
        a.lea(rax, qword_ptr(body))?;
        a.lea(rcx, qword_ptr(second))?;
        let mut no = a.create_label();
        a.mov(rdx, qword_ptr(rsp))?;
        a.cmp(rdx, rax)?;
        a.jbe(no)?;
        a.cmp(rdx, rcx)?;
        a.ja(no)?;
        a.inc(r13d)?;
        a.set_label(&mut no)?;
        a.iretq()
    });
}

/// The selector of the GDT's code segment.
const CODE: u16 = 0x10;

/// Load a GDT, and an IDT with one gate, on the page of data.
fn interrupt_gate(a: &mut CodeAssembler, vector: u8, handler: CodeLabel) -> Assembled {
    a.mov(rbx, DATA)?;
    // Code of CPL 0 at both selectors that CS may have.
    a.mov(rax, 0x00af_9b00_0000_ffffu64)?;
    for entry in [1, 2] {
        a.mov(qword_ptr(rbx + (0xc00 + entry * 8)), rax)?;
    }
    a.mov(dword_ptr(rbx + 0xd00), 0x001f_0000)?;
    a.lea(rcx, qword_ptr(rbx + 0xc00))?;
    a.mov(qword_ptr(rbx + 0xd04), rcx)?;
    a.lgdt(qword_ptr(rbx + 0xd02))?;
    a.xor(eax, eax)?;
    a.mov(ss, eax)?;
    image::load_idt(a, vector, CODE, handler)
}
