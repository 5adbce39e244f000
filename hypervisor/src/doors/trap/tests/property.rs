//! No bytes, registers and memory make the emulator panic, hang, or half-do an instruction.

use iced_x86::{Decoder, DecoderOptions};
use proptest::prelude::*;

use super::{Run, cpuid};
use crate::audit::tests::encodings::{PRIVILEGED, SENSITIVE};
use crate::doors::trap::port::MOST_REPEATS;
use crate::doors::trap::{Stop, emulate};
use crate::machine::cpu::registers::flag;
use crate::machine::cpu::tests::guest::*;
use crate::machine::cpu::{Attributes, Changes, is_canonical};

/// Numbers that matter somewhere: addresses of the guest's, selectors, bits of registers.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..0x1_0000_u64,
        0..0x200_u64,
        (0..64_u32).prop_map(|bit| 1 << bit),
        (0..64_u32).prop_map(|bit| u64::MAX << bit),
        Just(STACK - 64),
        Just(USER_STACK - 64),
        Just(HOLE - 3),
        Just(0x7fff_ffff_fffc),
        Just(0xc000_0080),
        Just(0x8005_0033),
    ]
}

/// Prefixes, an instruction of the tables or any bytes, and what its operand may need.
fn code() -> impl Strategy<Value = Vec<u8>> {
    let table: Vec<&'static [u8]> = PRIVILEGED
        .iter()
        .chain(SENSITIVE)
        .map(|(_, bytes)| *bytes)
        .collect();
    let known = prop::sample::select(table).prop_map(<[u8]>::to_vec);
    let opcode = prop_oneof![
        4 => known,
        1 => prop::collection::vec(any::<u8>(), 1..4),
        // The groups of 0f 00 and 0f 01, and segment moves, with every operand.
        2 => (prop::sample::select(vec![0x00_u8, 0x01, 0xae, 0xc7, 0x20, 0x22]), any::<u8>())
            .prop_map(|(second, operand)| vec![0x0f, second, operand]),
        1 => (prop::sample::select(vec![0x8c_u8, 0x8e, 0xff]), any::<u8>())
            .prop_map(|(first, operand)| vec![first, operand]),
    ];
    let prefix = prop::sample::select(vec![0x66_u8, 0x67, 0xf2, 0xf3, 0x48, 0x64, 0x65, 0xf0]);
    let prefixes = prop::collection::vec(prefix, 0..3);
    let operand = prop::collection::vec(any::<u8>(), 8);
    (prefixes, opcode, operand)
        .prop_map(|(prefixes, opcode, operand)| [prefixes, opcode, operand].concat())
}

/// Machines of these kinds: 0 a kernel, 3 a program, 32 a program of 32-bit code.
fn guest(kinds: &'static [u8]) -> impl Strategy<Value = Guest> {
    let kind = prop::sample::select(kinds);
    let tables = prop::collection::vec((0..24_u64, number()), 0..4);
    let stack = prop::collection::vec(number(), 8);
    let registers = prop::collection::vec(number(), 16);
    let control = (any::<u64>(), any::<u64>(), number(), number(), any::<u16>());
    (kind, registers, any::<u32>(), tables, stack, control).prop_map(
        |(kind, registers, flags, tables, stack, control)| {
            let mut guest = match kind {
                0 => Guest::new(),
                3 => Guest::user(),
                _ => Guest::user_32(),
            };
            let top = guest.regs.general[4] - 64;
            for (to, from) in guest.regs.general.iter_mut().zip(registers) {
                *to = from;
            }
            if flags & 1 == 0 {
                guest.regs.general[4] = top;
            }
            guest.regs.rflags = u64::from(flags) & 0x3d_7fd7 | flag::FIXED;
            guest.memory.put_words(top, &stack);
            for (entry, word) in tables {
                guest.memory.put_words(GDT + 8 * entry, &[word]);
            }
            let (cr4, dr7, table, base, rights) = control;
            guest.cpu.cr4 |= cr4 & guest.cpu.limits.cr4;
            guest.cpu.dr7 |= dr7 & 0x2000;
            guest.cpu.gs.base = if is_canonical(base) { base } else { 0 };
            if table & 7 == 0 {
                guest.cpu.tr.attributes = Attributes(rights);
                guest.cpu.gdtr.limit = rights;
            }
            guest
        },
    )
}

/// Four times the usual number of cases, so that PROPTEST_CASES still counts.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig {
        cases: usual.cases * 4,
        ..usual
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_makes_the_emulator_panic_or_leave_the_architecture(
        guest in guest(&[0, 0, 3, 32]),
        bytes in code(),
    ) {
        let mut run = Run::new(guest);
        let bits = if run.guest.cpu.is_64_bit() { 64 } else { 32 };
        let rip = run.guest.regs.rip;
        let instruction = Decoder::with_ip(bits, &bytes, rip, DecoderOptions::NONE).decode();
        let before = run.guest.clone();
        let Guest { cpu, regs, memory } = &mut run.guest;
        let answer = emulate(&instruction, cpu, regs, memory, &mut run.bus, &cpuid);
        prop_assert!(run.bus.log.len() as u64 <= MOST_REPEATS);
        let name = instruction.to_string();
        match answer {
            Ok(effect) => {
                let still = run.guest.regs.rip == rip;
                prop_assert!(!effect.changes.contains(Changes::REPEATS) || still, "{name}");
                let level = run.guest.cpu.cpl != before.cpu.cpl;
                prop_assert_eq!(effect.changes.contains(Changes::LEVEL), level, "{}", name);
            }
            Err(stop) => {
                prop_assert_eq!(run.guest.regs.rip, rip);
                // But for DR6.BD, which goes with its #DB, and the elements of a string.
                run.guest.cpu.dr6 = before.cpu.dr6;
                prop_assert_eq!(&run.guest.cpu, &before.cpu, "{}", name);
                if !instruction.is_string_instruction() {
                    prop_assert_eq!(&run.guest.regs, &before.regs, "{}", name);
                }
                if let Stop::Exception(exception) = stop {
                    let Guest { cpu, regs, memory } = &mut run.guest;
                    let _ = cpu.raise(regs, memory, exception);
                }
            }
        }
        let cpu = &run.guest.cpu;
        let regs = &run.guest.regs;
        prop_assert!(matches!(cpu.cpl, 0 | 3), "{name}");
        prop_assert!(cpu.is_64_bit() || cpu.cpl == 3, "{name}");
        prop_assert!(!cpu.is_64_bit() || is_canonical(regs.rip), "{name} {:#x}", regs.rip);
        prop_assert_eq!(regs.rflags & (flag::FIXED | flag::VM), flag::FIXED, "{}", name);
        prop_assert_eq!(cpu.cr4 & !cpu.limits.cr4, 0, "{}", name);
        prop_assert_eq!(cpu.cr0 & 0x8000_0001, 0x8000_0001, "{}", name);
    }

    /// A program without IOPL changes no system state, whatever it executes; entering its kernel's
    /// handlers is all it can do.
    #[test]
    fn a_program_changes_no_system_state(
        guest in guest(&[3, 32]),
        bytes in code(),
    ) {
        let mut run = Run::new(guest);
        run.guest.regs.rflags &= !flag::IOPL;
        let before = run.guest.clone();
        let answer = run.step(&bytes);
        let cpu = &run.guest.cpu;
        let keeps = |cpu: &crate::machine::cpu::Cpu| {
            (cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer, cpu.gdtr, cpu.idtr, cpu.ldtr, cpu.tr, cpu.lstar)
        };
        prop_assert_eq!(keeps(cpu), keeps(&before.cpu));
        prop_assert_eq!(cpu.kernel_gs_base, before.cpu.kernel_gs_base);
        if cpu.cpl == 3 {
            let interrupts = flag::IF | flag::IOPL;
            let kept = run.guest.regs.rflags & interrupts == before.regs.rflags & interrupts;
            // A conforming handler of level 3 is reached with IF clear.
            prop_assert!(kept || cpu.cs != before.cpu.cs, "{answer:?}");
        }
    }
}
