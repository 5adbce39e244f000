//! Each class, by instruction.

use iced_x86::{Code, Decoder, DecoderOptions, Encoder, Instruction};

use super::encodings::{ORDINARY, PRIVILEGED, Row, SENSITIVE, SIMD};
use super::{audit_code, classes_of};
use crate::audit::classes::class_of;
use crate::audit::{CLASSES, Class, audit_with, sensitive};

/// Audit each row alone, with no allowance; its class and its mnemonic must come out.
fn each_is(rows: &[Row], class: Class) {
    for (mnemonic, bytes) in rows {
        let file = super::Elf::text(bytes).build();
        let report = audit_with(&file, &[]).unwrap();
        let [finding] = &report.findings[..] else {
            panic!("{mnemonic} {bytes:02x?}: {:?}", report.findings)
        };
        assert_eq!(finding.class, class, "{mnemonic} {bytes:02x?}");
        assert_eq!(finding.bytes, *bytes, "{mnemonic}");
        assert_eq!(report.instructions, 1, "{mnemonic}");
        assert_eq!(report.counts.of(class), 1, "{mnemonic}");
        assert_eq!(finding.mnemonic, *mnemonic, "{bytes:02x?}");
    }
}

#[test]
fn privileged_instructions_are_privileged() {
    each_is(PRIVILEGED, Class::Privileged);
}

#[test]
fn silent_instructions_are_sensitive() {
    each_is(SENSITIVE, Class::Sensitive);
}

#[test]
fn vector_and_x87_instructions_are_simd() {
    each_is(SIMD, Class::Simd);
}

#[test]
fn ordinary_instructions_are_in_no_class() {
    for (mnemonic, bytes) in ORDINARY {
        assert_eq!(classes_of(bytes), [], "{mnemonic} {bytes:02x?}");
    }
}

#[test]
fn every_instruction_on_a_vector_register_is_simd() {
    let registers = [
        "xmm", "ymm", "zmm", "tmm", "_mm", "_kr", "_kp1", "sti", "st0", "_m80fp",
    ];
    for code in Code::values().filter(|code| decodes(*code) && !code.is_privileged()) {
        let name = format!("{code:?}").to_lowercase();
        let operands = name.split_once('_').map_or("", |_| &name);
        if registers.iter().any(|register| operands.contains(register)) {
            assert_eq!(class_of(code), Some(Class::Simd), "{code:?}");
        }
    }
}

#[test]
fn every_instruction_that_iced_calls_privileged_is_counted() {
    for code in Code::values().filter(|code| code.is_privileged()) {
        assert_eq!(class_of(code), Some(Class::Privileged), "{code:?}");
        assert!(
            sensitive::group_of(code).is_none(),
            "{code:?} is in two classes"
        );
    }
}

/// True unless only extinct processors or another mode of the processor know the instruction.
fn decodes(code: Code) -> bool {
    let name = format!("{code:?}");
    !name.starts_with("MVEX") && !name.starts_with("VEX_KNC") && !name.contains("KNC")
}

#[test]
fn each_sensitive_instruction_is_in_one_group() {
    for (mnemonic, bytes) in SENSITIVE {
        let code = Decoder::new(64, bytes, DecoderOptions::NONE)
            .decode()
            .code();
        let group = sensitive::group_of(code).unwrap();
        let named = match *mnemonic {
            "mov" | "push" | "pop" | "call" | "jmp" | "int" => *mnemonic,
            // The width is a suffix.
            other => other.trim_end_matches(['q', 'd']),
        };
        assert!(
            group.instructions.contains(named),
            "{mnemonic} in {:?}",
            group.instructions
        );
    }
}

#[test]
fn bytes_of_no_instruction_are_undecodable_and_decoding_goes_on() {
    // 06 was `push es` and is nothing in 64-bit mode.
    let report = audit_code(&[0x06, 0xf4]);
    let found: Vec<_> = report
        .findings
        .iter()
        .map(|f| (f.class, f.address & 0xff))
        .collect();
    assert_eq!(found, [(Class::Undecodable, 0), (Class::Privileged, 1)]);
    assert_eq!(report.findings[0].bytes, [0x06, 0xf4]);
    assert_eq!(report.instructions, 1);
}

#[test]
fn an_instruction_cut_off_by_the_sections_end_is_undecodable() {
    assert_eq!(classes_of(&[0x90, 0x0f]), [Class::Undecodable]);
}

#[test]
fn a_store_of_a_vector_below_the_stack_is_two_findings() {
    // movups [rsp-16], xmm0
    let code = [0x0f, 0x11, 0x44, 0x24, 0xf0];
    assert_eq!(classes_of(&code), [Class::Simd, Class::BelowStack]);
}

#[test]
fn privileged_bytes_inside_an_instruction_are_not_read_as_one() {
    // mov rax, imm64 whose immediate is hlt, cli, rdmsr, ...
    let code = [0x48, 0xb8, 0xf4, 0xfa, 0x0f, 0x32, 0x9d, 0xcf, 0x0f, 0x05];
    assert_eq!(classes_of(&code), []);
}

#[test]
fn what_the_encoder_makes_of_an_instruction_is_judged_alike() {
    let rows = PRIVILEGED
        .iter()
        .chain(SENSITIVE)
        .chain(SIMD)
        .chain(ORDINARY);
    for (mnemonic, bytes) in rows {
        let instruction = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
        let mut encoder = Encoder::new(64);
        encoder.encode(&instruction, 0).unwrap();
        assert_eq!(
            classes_of(&encoder.take_buffer()),
            classes_of(bytes),
            "{mnemonic}"
        );
    }
    assert_eq!(class_of(Instruction::default().code()), None);
}

#[test]
fn a_class_is_the_same_when_it_is_asked_again() {
    for (place, info) in CLASSES.iter().enumerate() {
        assert_eq!(info.class as usize, place);
    }
    let first: Vec<_> = Code::values().map(class_of).collect();
    assert!(Code::values().map(class_of).eq(first.iter().copied()));
    for class in [Class::Privileged, Class::Sensitive, Class::Simd] {
        assert!(first.contains(&Some(class)));
    }
}
