//! Ports, one access and many.

use super::bus::NOBODY;
use super::{NONE, Run, changed};
use crate::doors::trap::Stop;
use crate::doors::trap::port::MOST_REPEATS;
use crate::error::GuestFault;
use crate::machine::cpu::registers::{RAX, RCX, RDI, RDX, RSI, flag};
use crate::machine::cpu::tests::fake::{Rights, USER};
use crate::machine::cpu::tests::gp;
use crate::machine::cpu::tests::guest::*;
use crate::machine::cpu::{Changes, Exception};

const REP_INSB: &[u8] = &[0xf3, 0x6c];
const REP_INSW: &[u8] = &[0x66, 0xf3, 0x6d];
const REP_OUTSD: &[u8] = &[0xf3, 0x6f];

fn at_port(port: u16) -> Run {
    let mut run = Run::kernel();
    run.set(RDX, 0xffff_0000 | u64::from(port));
    run
}

#[test]
fn reads_merge_into_the_accumulator_by_width() {
    for (bytes, width, port, expected) in [
        (&[0xe4, 0x60][..], 1, 0x60, 0xffff_ffff_ffff_ff00), // in al, 0x60
        (&[0x66, 0xed], 2, 0x1f0, 0xffff_ffff_ffff_0000),    // in ax, dx
        (&[0xed], 4, 0x1f0, 0x5a00_0000),                    // in eax, dx
    ] {
        let mut run = at_port(0x1f0);
        run.set(RAX, u64::MAX);
        assert_eq!(run.next(bytes), NONE);
        assert_eq!(run.get(RAX), expected, "{bytes:02x?}");
        assert_eq!(run.bus.log, [('r', port, width, 0x5a00_0000)]);
    }
}

#[test]
fn writes_carry_the_accumulators_width() {
    let mut run = at_port(0x3f8);
    run.set(RAX, 0x1122_3344_5566_7788);
    run.next(&[0xe6, 0x80]); // out 0x80, al
    run.next(&[0x66, 0xef]); // out dx, ax
    run.next(&[0xef]); // out dx, eax
    let expected = [
        ('w', 0x80, 1, 0x88),
        ('w', 0x3f8, 2, 0x7788),
        ('w', 0x3f8, 4, 0x5566_7788),
    ];
    assert_eq!(run.bus.log, expected);
}

#[test]
fn strings_walk_memory() {
    let mut run = at_port(0x1f0);
    run.set(RDI, DATA);
    run.set(RCX, 3);
    assert_eq!(run.next(REP_INSW), NONE);
    assert_eq!(run.guest.memory.word(DATA), 0x0002_0001_0000);
    assert_eq!((run.get(RDI), run.get(RCX)), (DATA + 6, 0));

    run.bus.log.clear();
    run.guest
        .memory
        .put_words(DATA, &[0x1111_1111_2222_2222, 0x3333_3333]);
    run.set(RSI, DATA);
    run.set(RCX, 3);
    run.next(REP_OUTSD);
    let written: Vec<u32> = run.bus.log.iter().map(|entry| entry.3).collect();
    assert_eq!(written, [0x2222_2222, 0x1111_1111, 0x3333_3333]);
    assert_eq!(run.get(RSI), DATA + 12);
}

#[test]
fn a_string_without_a_prefix_moves_one_element_and_no_count() {
    let mut run = at_port(0x1f0);
    run.set(RDI, DATA);
    run.set(RCX, 9);
    run.next(&[0x6c]); // insb
    assert_eq!(
        (run.get(RDI), run.get(RCX), run.bus.log.len()),
        (DATA + 1, 9, 1)
    );
    run.set(RSI, 8);
    run.guest.cpu.gs.base = DATA;
    run.guest.memory.put(DATA + 8, &[0x77]);
    run.next(&[0x65, 0x6e]); // outsb gs:[rsi]
    assert_eq!(run.bus.log[1], ('w', 0x1f0, 1, 0x77));
}

#[test]
fn the_direction_flag_turns_strings_around() {
    let mut run = at_port(0x1f0);
    run.guest.regs.rflags |= flag::DF;
    run.set(RDI, DATA + 8);
    run.set(RCX, 2);
    run.next(REP_INSW);
    assert_eq!(run.get(RDI), DATA + 4);
    assert_eq!(run.guest.memory.word(DATA + 6) & 0xffff_ffff, 1);
}

#[test]
fn a_count_of_zero_does_nothing() {
    let mut run = at_port(0x1f0);
    run.set(RDI, HOLE);
    run.next(REP_INSB);
    assert!(run.bus.log.is_empty());
}

#[test]
fn addresses_of_32_bits_use_ecx_and_edi_alone() {
    let mut run = at_port(0x1f0);
    run.set(RDI, 0xffff_ffff_0000_0000 | DATA);
    run.set(RCX, 0xffff_ffff_0000_0002);
    run.next(&[0x67, 0x66, 0xf3, 0x6d]); // rep insw, 32-bit addresses
    assert_eq!((run.get(RDI), run.get(RCX)), (DATA + 4, 0));
}

#[test]
fn one_exit_does_a_bounded_part_of_a_long_string() {
    let mut run = Run::user();
    run.guest.regs.rflags |= flag::IOPL;
    for page in 0..4 {
        run.guest.memory.map(0x10_0000 + page * 4096, USER);
    }
    run.set(RDI, 0x10_0000);
    run.set(RCX, MOST_REPEATS + 5);
    let rip = run.guest.regs.rip;
    assert_eq!(run.step(REP_INSB), Ok(changed(Changes::REPEATS)));
    assert_eq!((run.guest.regs.rip, run.get(RCX)), (rip, 5));
    assert_eq!(run.bus.log.len() as u64, MOST_REPEATS);
    assert_eq!(run.next(REP_INSB), NONE);
    assert_eq!(run.get(RDI), 0x10_0000 + MOST_REPEATS + 5);
    // Exactly as many leave nothing over.
    run.set(RDI, 0x10_0000);
    run.set(RCX, MOST_REPEATS);
    assert_eq!(run.next(REP_INSB), NONE);
}

#[test]
fn a_fault_in_a_string_keeps_what_was_done_and_loses_no_input() {
    let mut run = at_port(0x1f0);
    run.guest.memory.unmap(DATA + 0x1000);
    run.guest.memory.unmap(DATA + 0x1000 - 1 + 1);
    run.set(RDI, DATA + 0xffe);
    run.set(RCX, 4);
    run.guest.memory.map(
        DATA + 0x1000,
        Rights {
            user: false,
            write: false,
        },
    );
    let rip = run.guest.regs.rip;
    let fault = Exception::page_fault(3, DATA + 0x1000);
    assert_eq!(run.step(REP_INSB), Err(Stop::Exception(fault)));
    assert_eq!((run.get(RDI), run.get(RCX)), (DATA + 0x1000, 2));
    assert_eq!((run.guest.regs.rip, run.bus.log.len()), (rip, 2));
}

#[test]
fn a_step_trap_comes_after_each_element() {
    let mut run = at_port(0x1f0);
    run.guest.regs.rflags |= flag::TF;
    run.set(RDI, DATA);
    run.set(RCX, 2);
    let trap = Changes::SINGLE_STEP;
    assert_eq!(run.step(REP_INSB), Ok(changed(trap | Changes::REPEATS)));
    assert_eq!(run.next(REP_INSB), changed(trap));
}

#[test]
fn a_program_needs_the_map() {
    let mut run = Run::user();
    let port = 0x200_u16;
    run.set(RDX, port.into());
    run.set(RSI, USER_DATA);
    run.set(RDI, USER_DATA);
    run.guest
        .memory
        .put(TSS + 0x68 + u64::from(port) / 8, &[0xfe]);
    run.next(&[0xec]); // in al, dx
    run.next(&[0xee]); // out dx, al
    run.next(&[0x6e]); // outsb
    assert_eq!(run.bus.log.len(), 3);
    for bytes in [&[0xed][..], &[0xef], &[0x6d], &[0x6f]] {
        assert_eq!(run.refused(bytes), gp(0), "four bytes, {bytes:02x?}");
    }
    assert_eq!(run.bus.log.len(), 3);
}

#[test]
fn a_port_without_a_device_ends_the_guest() {
    let mut run = at_port(NOBODY);
    let (port, width, write) = (NOBODY, 4, false);
    let fault = GuestFault::Port { port, width, write };
    assert_eq!(run.step(&[0xed]), Err(Stop::Fault(fault)));
}
