//! Which instructions trap by themselves, and which must be made to; and that each is emulated.

use iced_x86::{Decoder, DecoderOptions};

use super::Run;
use crate::audit::tests::encodings::{ORDINARY, PRIVILEGED, Row, SENSITIVE, SIMD};
use crate::doors::trap::{Class, Stop, classify};

fn class(bytes: &[u8]) -> Class {
    classify(&Decoder::new(64, bytes, DecoderOptions::NONE).decode())
}

#[test]
fn privileged_instructions_trap_by_themselves() {
    for (mnemonic, bytes) in PRIVILEGED {
        assert_eq!(class(bytes), Class::Privileged, "{mnemonic} {bytes:02x?}");
    }
}

#[test]
fn sensitive_instructions_are_silent_unless_they_show_the_guests_own() {
    let own = ["rdtsc", "rdtscp", "xgetbv", "rdpkru", "wrpkru"];
    for (mnemonic, bytes) in SENSITIVE {
        let expected = if own.contains(mnemonic) {
            Class::Innocuous
        } else {
            Class::Silent
        };
        assert_eq!(class(bytes), expected, "{mnemonic} {bytes:02x?}");
    }
}

#[test]
fn other_instructions_are_innocuous() {
    for (mnemonic, bytes) in ORDINARY.iter().chain(SIMD) {
        assert_eq!(class(bytes), Class::Innocuous, "{mnemonic} {bytes:02x?}");
    }
}

/// Instructions that this processor has; the others of the tables are #UD by CPUID.
const HAS: &[&str] = &[
    "hlt", "cli", "sti", "in", "out", "insb", "insd", "outsb", "outsd", "mov", "lgdt", "lidt",
    "lldt", "ltr", "lmsw", "clts", "invlpg", "invpcid", "invd", "wbinvd", "wbnoinvd", "rdmsr",
    "wrmsr", "rdpmc", "swapgs", "sysret", "sysretq", "sysexit", "sysexitq", "xsetbv", "pushf",
    "pushfq", "popf", "popfq", "iret", "iretd", "iretq", "retf", "call", "jmp", "push", "pop",
    "lss", "lfs", "lgs", "sgdt", "sidt", "sldt", "str", "smsw", "lar", "lsl", "verr", "verw",
    "cpuid", "rdtsc", "rdtscp", "rdpid", "rdfsbase", "rdgsbase", "wrfsbase", "wrgsbase", "xgetbv",
    "int", "int3", "int1", "syscall", "sysenter",
];

/// A kernel in which nothing that exists is #UD.
fn permissive() -> Run {
    let mut run = Run::kernel();
    run.guest.cpu.cr4 = run.guest.cpu.limits.cr4;
    run
}

#[test]
fn every_instruction_of_either_class_is_emulated_or_does_not_exist() {
    let rows: Vec<&Row> = PRIVILEGED
        .iter()
        .chain(SENSITIVE)
        .filter(|(mnemonic, _)| !matches!(*mnemonic, "rdpkru" | "wrpkru"))
        .collect();
    for (mnemonic, bytes) in rows {
        let answer = permissive().step(bytes);
        let is_undefined = matches!(&answer, Err(Stop::Exception(fault)) if fault.vector == 6);
        let is_known = HAS.contains(mnemonic);
        assert_eq!(
            is_undefined, !is_known,
            "{mnemonic} {bytes:02x?}: {answer:?}"
        );
        assert!(
            !matches!(answer, Err(Stop::Fault(_))),
            "{mnemonic}: {answer:?}"
        );
    }
}
