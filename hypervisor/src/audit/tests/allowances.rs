//! Each allowance, in its place and out of it.

use super::elf::{Elf, FUNC, LABEL};
use crate::audit::{ALLOWANCES, Class, Report, audit, audit_with};

const IRETQ: [u8; 2] = [0x48, 0xcf];
const NOP: u8 = 0x90;
const RET: u8 = 0xc3;
const INT3: u8 = 0xcc;

fn report(elf: Elf) -> Report {
    audit(&elf.build()).unwrap()
}

/// Offsets in `.text` at which something was found.
fn offsets(report: &Report) -> Vec<u64> {
    report
        .findings
        .iter()
        .map(|finding| finding.address - super::elf::TEXT)
        .collect()
}

#[test]
fn iretq_is_allowed_in_the_named_symbol_only() {
    let code = [IRETQ, IRETQ, IRETQ].concat();
    let elf = Elf::text(&code).symbol("event_entry", FUNC, 0, 2);
    let elf = elf
        .symbol("event_return", FUNC, 2, 2)
        .symbol("event_returns", FUNC, 4, 2);
    let report = report(elf);
    assert_eq!(offsets(&report), [0, 4]);
    assert_eq!(report.allowed_count, 1);
    assert_eq!(
        report.allowed[0].finding.symbol.as_deref(),
        Some("event_return")
    );
    assert!(report.allowed[0].why.contains("CPL 3"));
}

#[test]
fn an_assembly_label_without_size_holds_an_allowance_up_to_the_next() {
    let elf = Elf::text(&[IRETQ, IRETQ].concat());
    let elf = elf
        .symbol("event_return", LABEL, 0, 0)
        .symbol("other", LABEL, 2, 0);
    assert_eq!(offsets(&report(elf)), [2]);
}

#[test]
fn a_mangled_name_is_allowed_by_its_last_segment() {
    let code = [INT3, RET];
    let named = |name| {
        report(Elf::text(&code).symbol(name, FUNC, 0, 2))
            .counts
            .total()
    };
    assert_eq!(
        named("_ZN5hooks22breakpoint_instruction17h0123456789abcdefE"),
        0
    );
    assert_eq!(
        named("_ZN22breakpoint_instruction5other17h0123456789abcdefE"),
        1
    );
    assert_eq!(named("my_breakpoint_instruction"), 1);
}

#[test]
fn an_allowed_symbol_does_not_excuse_another_instruction() {
    let code = [0x0f, 0xa2, INT3, 0xf4]; // cpuid; int3; hlt
    let report = report(Elf::text(&code).symbol("event_return", FUNC, 0, 4));
    assert_eq!(offsets(&report), [0, 2, 3]);
}

#[test]
fn the_clock_is_allowed_anywhere() {
    let report = report(Elf::text(&[0x0f, 0x31]));
    let allowed: Vec<_> = report
        .allowed
        .iter()
        .map(|a| a.finding.mnemonic.as_str())
        .collect();
    assert_eq!(allowed, ["rdtsc"]);
    assert_eq!(report.counts.total(), 0);
}

#[test]
fn flags_cpuid_syscall_and_segment_bases_are_not_allowed_by_default() {
    // pushfq; popfq; cpuid; syscall; rdfsbase rax; rdtscp; rdgsbase rax; wrgsbase rax
    let code = [
        0x9c, 0x9d, 0x0f, 0xa2, 0x0f, 0x05, 0xf3, 0x48, 0x0f, 0xae, 0xc0, 0x0f, 0x01, 0xf9, 0xf3,
        0x48, 0x0f, 0xae, 0xc8, 0xf3, 0x48, 0x0f, 0xae, 0xd8,
    ];
    let report = report(Elf::text(&code));
    assert_eq!((report.counts.sensitive, report.allowed_count), (8, 0));
}

#[test]
fn without_allowances_everything_counts() {
    let elf = Elf::text(&[0x0f, 0x31, RET, INT3]).build();
    assert_eq!(audit_with(&elf, &[]).unwrap().counts.sensitive, 2);
    assert_eq!(audit(&elf).unwrap().counts.sensitive, 0);
}

#[test]
fn only_sensitive_instructions_can_be_allowed_and_each_says_why() {
    for row in ALLOWANCES {
        assert_eq!(row.class, Class::Sensitive, "{row:?}");
        assert!(row.why.len() > 20, "{row:?}");
    }
}

#[test]
fn padding_after_a_return_up_to_a_boundary_is_excused() {
    let mut code = vec![RET];
    code.resize(16, INT3);
    code.push(RET);
    let report = report(Elf::text(&code));
    assert_eq!((report.counts.total(), report.padding_bytes), (0, 15));
    assert_eq!(report.instructions, 17);
}

#[test]
fn padding_after_a_call_that_never_returns_needs_the_functions_size() {
    let code = [0xe8, 0, 0, 0, 0, NOP, INT3, INT3, RET]; // call; nop; int3; int3; ret
    let sized = Elf::text(&code)
        .symbol("f", FUNC, 0, 5)
        .symbol("g", FUNC, 8, 1);
    assert_eq!(report(sized).padding_bytes, 2);
    let reached = Elf::text(&code)
        .symbol("f", LABEL, 0, 0)
        .symbol("g", FUNC, 8, 1);
    assert_eq!(offsets(&report(reached)), [6, 7]);
    assert_eq!(offsets(&report(Elf::text(&code))), [6, 7]);
}

#[test]
fn int3_in_a_function_is_no_padding_even_after_a_return() {
    let mut code = vec![RET];
    code.resize(16, INT3);
    let report = report(Elf::text(&code).symbol("f", FUNC, 0, 16));
    assert_eq!((report.counts.sensitive, report.padding_bytes), (15, 0));
}

#[test]
fn int3_at_a_functions_start_is_no_padding() {
    let elf = Elf::text(&[RET, INT3, RET])
        .symbol("f", FUNC, 0, 1)
        .symbol("g", LABEL, 1, 0);
    assert_eq!(offsets(&report(elf)), [1]);
}

#[test]
fn int3_after_a_return_but_before_code_is_no_padding() {
    assert_eq!(offsets(&report(Elf::text(&[RET, INT3, NOP, RET]))), [1]);
}

#[test]
fn int3_that_code_falls_into_is_no_padding() {
    assert_eq!(offsets(&report(Elf::text(&[NOP, INT3]))), [1]);
    assert_eq!(offsets(&report(Elf::text(&[INT3]))), [0]);
}
