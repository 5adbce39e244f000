//! Guests of a few instructions that access a drive's registers themselves.

use hypercall_abi::Mode;
use hypervisor::io::{Device, Disk};
use hypervisor::{Config, IoKind};
use tests::disk::{SECTORS, image};
use tests::{each_mode, need_kvm, run};

/// An access to a register: a byte written, or read.
#[derive(Clone, Copy, Debug)]
enum Access {
    Out(u16, u8),
    In(u16),
}
use Access::{In, Out};

/// A native guest of these accesses, which writes each byte that it read as two letters.
fn native(mode: Mode, accesses: &[Access]) -> Config {
    use iced_x86::code_asm::{ah, al, ax, dx, eax, ecx};
    tests::image::instructions(mode, |a| {
        for access in accesses {
            match *access {
                Out(port, value) => {
                    a.mov(dx, u32::from(port))?;
                    a.mov(al, u32::from(value))?;
                    a.out(dx, al)?;
                }
                In(port) => {
                    a.mov(dx, u32::from(port))?;
                    a.in_(al, dx)?;
                    a.mov(ah, al)?;
                    a.shr(al, 4)?;
                    a.and(ax, 0x0f0f)?;
                    a.or(ax, 0x4040)?;
                    a.mov(dx, 0x3f8)?;
                    a.out(dx, al)?;
                    a.mov(al, ah)?;
                    a.out(dx, al)?;
                }
            }
        }
        a.xor(ecx, ecx)?;
        a.mov(eax, ecx)?;
        a.out(0xf4, eax)
    })
}

/// What a guest in a mode reads in the course of these accesses to a machine with a drive.
fn reads(mode: Mode, accesses: &[Access]) -> Vec<u8> {
    let file = image();
    let mut config = match mode {
        Mode::Pv => {
            let statements = accesses.iter().map(|access| match access {
                Out(port, value) => format!("machine 51 {port:x} 1 {value:x}"),
                In(port) => format!("machine 50 {port:x} 1; say end"),
            });
            // Behind the last one comes what the machine says of its devices.
            tests::script(&(statements.collect::<Vec<_>>().join(";") + ";"))
        }
        _ => native(mode, accesses),
    };
    config.devices = vec![Device::Disk(Disk::new(file.path()))];
    config.io = IoKind::Trapped;
    let ran = run(config);
    assert_eq!(ran.status(), 0, "{}", ran.output);
    if mode != Mode::Pv {
        let letters: Vec<u8> = ran.output.bytes().map(|letter| letter & 0xf).collect();
        return letters
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect();
    }
    let lines: Vec<&str> = ran.output.lines().collect();
    let before = lines
        .windows(2)
        .filter(|pair| pair[1] == "end")
        .map(|pair| pair[0]);
    let value = |line: &str| {
        let digits = line.strip_prefix("Ok(")?.strip_suffix(')')?;
        u8::from_str_radix(digits, 16).ok()
    };
    before
        .map(|line| value(line).unwrap_or_else(|| panic!("{line}")))
        .collect()
}

/// Give a drive a command with 28 bits of address; then its status and its error register are read.
fn command(device: u8, [low, mid, high]: [u8; 3], count: u8, which: u8) -> Vec<Access> {
    vec![
        Out(0x1f6, device),
        Out(0x1f2, count),
        Out(0x1f3, low),
        Out(0x1f4, mid),
        Out(0x1f5, high),
        Out(0x1f7, which),
        In(0x1f7),
        In(0x1f1),
    ]
}

/// Status: ready, and with an error, and with data.
const READY: u8 = 0x50;
const FAILED: u8 = 0x51;
const DATA: u8 = 0x58;
/// Error: no such sector, and aborted.
const NOT_FOUND: u8 = 0x10;
const ABORTED: u8 = 0x04;

#[test]
fn commands_that_cannot_be_are_answered_as_the_standard_says() {
    let first = [0, 0, 0];
    let last = (SECTORS as u32 - 1).to_le_bytes();
    let last = [last[0], last[1], last[2]];
    let cases = [
        (
            "the last sector",
            command(0x40, last, 1, 0x20),
            vec![DATA, 0],
        ),
        (
            "one behind it",
            command(0x40, last, 2, 0x20),
            vec![FAILED, NOT_FOUND],
        ),
        (
            "one behind it, to be written",
            command(0x40, last, 2, 0x30),
            vec![FAILED, NOT_FOUND],
        ),
        (
            "as many as there are with 8 bits",
            command(0x40, [0xff; 3], 0, 0x20),
            vec![FAILED, NOT_FOUND],
        ),
        (
            "an unknown command",
            command(0x40, first, 1, 0xff),
            vec![FAILED, ABORTED],
        ),
        (
            "a packet device's",
            command(0x40, first, 1, 0xa1),
            vec![FAILED, ABORTED],
        ),
        ("DMA", command(0x40, first, 1, 0xc8), vec![FAILED, ABORTED]),
        (
            "a block before it has a size",
            command(0x40, first, 1, 0xc4),
            vec![FAILED, ABORTED],
        ),
        (
            "a block of three",
            command(0x40, first, 3, 0xc6),
            vec![FAILED, ABORTED],
        ),
        (
            "sector 0 of a track",
            command(0x00, first, 1, 0x20),
            vec![FAILED, ABORTED],
        ),
        (
            "the drive that is not there",
            command(0x50, first, 1, 0xec),
            vec![0, 1],
        ),
        (
            "data that nobody asked for",
            vec![In(0x1f0), In(0x1f7)],
            vec![0xff, READY],
        ),
        (
            "data for nobody",
            vec![Out(0x1f0, 7), Out(0x1f6, 0x40), In(0x1f7), In(0x1f0)],
            vec![READY, 0xff],
        ),
        (
            "a reset in a command",
            [
                command(0x40, first, 1, 0x20),
                vec![
                    Out(0x3f6, 4),
                    In(0x3f6),
                    Out(0x3f6, 0),
                    In(0x1f7),
                    In(0x1f0),
                ],
            ]
            .concat(),
            vec![DATA, 0, 0x80, READY, 0xff],
        ),
    ];
    each_mode(|mode| {
        for (what, accesses, expected) in &cases {
            assert_eq!(&reads(mode, accesses), expected, "{what}");
        }
    });
}

#[test]
fn a_call_for_a_port_that_is_not_there_is_an_error() {
    need_kvm!();
    let file = image();
    // Absent, a width of 3, a page and a word, outside of memory; then a call that is good.
    let mut config = tests::script(
        "machine 50 666 1; machine 51 666 1 0; machine 50 1f7 3; machine 52 1f0 2 900000 801; \
         machine 52 1f0 2 ffffffffffff 1; machine 53 1f0 2 ffffffffffff 1; machine 52 1f0 2 900000 0; \
         machine 50 1f7 1",
    );
    config.devices = vec![Device::Disk(Disk::new(file.path()))];
    config.io = IoKind::Trapped;
    let ran = run(config);
    let lines = ran.lines();
    let (argument, range) = ("Err(BadArgument)", "Err(BadRange)");
    let expected = [
        argument, argument, argument, argument, range, range, argument, "Ok(50)",
    ];
    assert_eq!(lines, expected);
}
