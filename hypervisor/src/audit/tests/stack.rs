//! Stores below the stack pointer, by assembled code.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::audit_code;
use crate::audit::Class;

/// How many stores below the stack `program` holds.
fn stores_below(program: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> u64 {
    let mut assembler = CodeAssembler::new(64).unwrap();
    program(&mut assembler).unwrap();
    let report = audit_code(&assembler.assemble(super::elf::TEXT).unwrap());
    assert_eq!(
        report.of(Class::BelowStack).count() as u64,
        report.counts.below_stack
    );
    report.counts.below_stack
}

#[test]
fn a_store_below_rsp_is_found() {
    assert_eq!(stores_below(|a| a.mov(qword_ptr(rsp - 8), rax)), 1);
    assert_eq!(stores_below(|a| a.mov(byte_ptr(rsp - 0x200), 1)), 1);
    assert_eq!(stores_below(|a| a.inc(dword_ptr(rsp - 4))), 1);
    assert_eq!(
        stores_below(|a| a.lock().cmpxchg(qword_ptr(rsp - 8), rcx)),
        1
    );
    assert_eq!(stores_below(|a| a.pop(qword_ptr(rsp - 8))), 1);
    assert_eq!(stores_below(|a| a.sete(byte_ptr(rsp - 1))), 1);
}

#[test]
fn what_does_not_store_or_not_below_is_not_found() {
    assert_eq!(stores_below(|a| a.mov(rax, qword_ptr(rsp - 8))), 0);
    assert_eq!(stores_below(|a| a.lea(rax, qword_ptr(rsp - 8))), 0);
    assert_eq!(stores_below(|a| a.cmp(qword_ptr(rsp - 8), rax)), 0);
    assert_eq!(stores_below(|a| a.mov(qword_ptr(rsp), rax)), 0);
    assert_eq!(stores_below(|a| a.mov(qword_ptr(rsp + 8), rax)), 0);
    assert_eq!(stores_below(|a| a.mov(qword_ptr(rbx - 8), rax)), 0);
    assert_eq!(stores_below(|a| a.push(rax)), 0);
    assert_eq!(stores_below(|a| a.push(qword_ptr(rsp - 8))), 0);
    assert_eq!(stores_below(|a| a.call(qword_ptr(rsp - 8))), 0);
    assert_eq!(stores_below(|a| a.enter(16, 0)), 0);
}

#[test]
fn an_indexed_store_cannot_be_judged() {
    assert_eq!(
        stores_below(|a| a.mov(qword_ptr(rsp + rcx * 8 - 8), rax)),
        0
    );
}

#[test]
fn a_store_into_the_frame_is_not_below() {
    let program = |a: &mut CodeAssembler| {
        a.push(rbp)?;
        a.mov(rbp, rsp)?;
        a.push(rbx)?;
        a.sub(rsp, 24)?;
        a.mov(qword_ptr(rbp - 8), rax)?;
        a.mov(qword_ptr(rbp - 32), rax)?;
        a.add(rsp, 24)?;
        a.pop(rbx)?;
        a.pop(rbp)?;
        a.ret()
    };
    assert_eq!(stores_below(program), 0);
}

#[test]
fn a_red_zone_addressed_through_the_frame_pointer_is_found() {
    let program = |a: &mut CodeAssembler| {
        a.push(rbp)?;
        a.mov(rbp, rsp)?;
        a.mov(dword_ptr(rbp - 4), edi)?;
        a.sub(rsp, 16)?;
        a.mov(dword_ptr(rbp - 16), edi)?;
        a.mov(dword_ptr(rbp - 20), edi)?;
        a.lea(rsp, qword_ptr(rbp - 24))?;
        a.mov(dword_ptr(rbp - 20), edi)?;
        a.add(rsp, 24)?;
        a.mov(dword_ptr(rbp - 4), edi)?;
        a.pop(rbp)?;
        a.ret()
    };
    assert_eq!(stores_below(program), 3);
}

#[test]
fn a_frame_whose_size_is_in_doubt_is_not_judged() {
    let in_doubt = |change: fn(&mut CodeAssembler) -> Result<(), IcedError>| {
        stores_below(|a| {
            a.mov(rbp, rsp)?;
            change(a)?;
            a.mov(qword_ptr(rbp - 64), rax)
        })
    };
    assert_eq!(in_doubt(|a| a.nop()), 1);
    assert_eq!(in_doubt(|a| a.call(rax)), 1);
    assert_eq!(in_doubt(|a| a.mov(rdi, rsp)), 1);
    assert_eq!(in_doubt(|a| a.sub(rsp, rax)), 0);
    assert_eq!(in_doubt(|a| a.and(rsp, -64)), 0);
    assert_eq!(in_doubt(|a| a.mov(rsp, rax)), 0);
    assert_eq!(in_doubt(|a| a.mov(rbp, rax)), 0);
    assert_eq!(in_doubt(|a| a.mov(ebp, eax)), 0);
    assert_eq!(in_doubt(|a| a.xchg(rax, rbp)), 0);
    assert_eq!(in_doubt(|a| a.pop(rbp)), 0);
    assert_eq!(in_doubt(|a| a.leave()), 0);
    assert_eq!(in_doubt(|a| a.ret()), 0);
    assert_eq!(in_doubt(|a| a.syscall()), 0);
}

#[test]
fn a_loop_that_probes_the_stack_is_in_doubt() {
    let program = |a: &mut CodeAssembler| {
        a.push(rbp)?;
        a.mov(rbp, rsp)?;
        a.lea(r11, qword_ptr(rsp - 0x3000))?;
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.sub(rsp, 0x1000)?;
        a.mov(qword_ptr(rsp), 0)?;
        a.cmp(rsp, r11)?;
        a.jne(again)?;
        a.mov(qword_ptr(rbp - 0x2000), rax)
    };
    assert_eq!(stores_below(program), 0);
}
