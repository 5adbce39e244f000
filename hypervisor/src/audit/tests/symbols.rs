//! Which symbol a finding is given, and decoding anew at each.

use proptest::prelude::*;

use super::elf::{Elf, FUNC, LABEL};
use crate::audit::{Class, Report, audit};

const HLT: u8 = 0xf4;

fn report(elf: Elf) -> Report {
    audit(&elf.build()).unwrap()
}

/// Symbol and offset of each finding.
fn places(elf: Elf) -> Vec<(Option<String>, u64)> {
    let findings = report(elf).findings.into_iter();
    findings
        .map(|finding| (finding.symbol, finding.offset))
        .collect()
}

fn at(symbol: &str, offset: u64) -> (Option<String>, u64) {
    (Some(symbol.to_owned()), offset)
}

const NOWHERE: (Option<String>, u64) = (None, 0);

#[test]
fn a_finding_has_symbol_and_offset() {
    let elf = Elf::text(&[HLT; 4]).symbol("f", FUNC, 1, 2);
    assert_eq!(places(elf), [NOWHERE, at("f", 0), at("f", 1), NOWHERE]);
}

#[test]
fn the_innermost_sized_symbol_wins_over_labels_inside_it() {
    let elf = Elf::text(&[HLT; 6])
        .symbol("outer", FUNC, 0, 5)
        .symbol("inner", FUNC, 2, 2);
    let elf = elf.symbol("label", LABEL, 1, 0);
    let outer = |offset| at("outer", offset);
    let expected = [
        outer(0),
        outer(1),
        at("inner", 0),
        at("inner", 1),
        outer(4),
        NOWHERE,
    ];
    assert_eq!(places(elf), expected);
}

#[test]
fn a_label_reaches_to_the_next_symbol_and_not_past_it() {
    let elf = Elf::text(&[HLT; 5])
        .symbol("a", LABEL, 0, 0)
        .symbol("b", LABEL, 2, 0);
    let elf = elf.symbol("c", FUNC, 3, 1);
    assert_eq!(
        places(elf),
        [at("a", 0), at("a", 1), at("b", 0), at("c", 0), NOWHERE]
    );
}

#[test]
fn of_several_symbols_at_one_address_the_function_is_named() {
    let elf = Elf::text(&[HLT]).symbol("start_of_text", LABEL, 0, 0);
    let elf = elf.symbol("object", 1, 0, 1).symbol("function", FUNC, 0, 1);
    assert_eq!(places(elf), [at("function", 0)]);
}

#[test]
fn sizes_beyond_the_section_are_cut() {
    let elf = Elf::text(&[HLT, HLT]).symbol("f", FUNC, 1, u64::MAX);
    assert_eq!(places(elf), [NOWHERE, at("f", 0)]);
}

#[test]
fn names_are_demangled() {
    let elf = Elf::text(&[HLT]).symbol("_RNvC6kernel4idle", FUNC, 0, 1);
    assert_eq!(places(elf), [at("kernel::idle", 0)]);
}

#[test]
fn a_name_of_any_length_is_cut() {
    let elf = Elf::text(&[HLT]).symbol(&"n".repeat(100_000), FUNC, 0, 1);
    let (name, _) = places(elf).remove(0);
    let name = name.unwrap();
    assert!(
        name.len() < 600 && name.ends_with("..."),
        "{} bytes",
        name.len()
    );
}

#[test]
fn decoding_starts_anew_at_a_symbol() {
    // Data ends in the first byte of a long instruction, which would swallow g's hlt.
    let code = [0x48, 0xb8, HLT, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90];
    let elf = Elf::text(&code).symbol("g", FUNC, 2, 8);
    let found: Vec<_> = report(elf)
        .findings
        .iter()
        .map(|f| (f.class, f.offset))
        .collect();
    let expected = [
        (Class::Undecodable, 0),
        (Class::Undecodable, 0),
        (Class::Privileged, 0),
    ];
    assert_eq!(found, expected);
}

#[test]
fn tables_in_read_only_data_are_not_read_as_code() {
    let table = [HLT; 64];
    let elf = Elf::text(&[0xc3])
        .data(".rodata", 0x1000, &table)
        .code(".init", 0x2000, &[HLT]);
    let report = report(elf);
    assert_eq!(report.counts.privileged, 1);
    let names: Vec<_> = report
        .sections
        .iter()
        .map(|section| section.name.as_str())
        .collect();
    assert_eq!(names, [".init", ".text"]);
    assert_eq!(report.findings[0].section, ".init");
}

#[test]
fn sections_of_a_relocatable_file_are_told_apart_by_name() {
    let elf = Elf::default()
        .code(".text", 0, &[HLT])
        .code(".text.cold", 0, &[0x90, HLT]);
    let mut file = elf.symbol("f", FUNC, 0, 1).build();
    file[16] = 1; // e_type: relocatable
    let report = audit(&file).unwrap();
    let lines: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "0x0 f+0x0: privileged: hlt",
            "0x1 .text.cold: privileged: hlt"
        ]
    );
}

/// A symbol's offset, size and kind; its name is its number.
type Spec = (u64, u64, u8);

/// The rule as the module states it, by brute force.
fn owner(symbols: &[Spec], at: u64) -> Option<usize> {
    let kept = || {
        symbols
            .iter()
            .enumerate()
            .filter(|(_, symbol)| symbol.2 < 3)
    };
    let rank = |(number, symbol): &(usize, &Spec)| (symbol.2 != FUNC, symbol.1, *number);
    let covering = kept().filter(|&(_, &(start, size, _))| start <= at && at < start + size);
    let innermost = covering.min_by_key(|symbol| (u64::MAX - symbol.1.0, rank(symbol)));
    let before = kept().filter(|(_, symbol)| symbol.0 <= at);
    let nearest =
        before.min_by_key(|symbol| (u64::MAX - symbol.1.0, symbol.1.1 == 0, rank(symbol)));
    let label = nearest.filter(|(_, symbol)| symbol.1 == 0);
    innermost.or(label).map(|(number, _)| number)
}

proptest! {
    #[test]
    fn every_address_has_the_owner_that_the_rule_says(
        symbols in prop::collection::vec((0u64..32, prop_oneof![Just(0), 0u64..40], 0u8..4), 0..12)
    ) {
        let mut elf = Elf::text(&[HLT; 32]);
        for (number, &(offset, size, kind)) in symbols.iter().enumerate() {
            elf = elf.symbol(&number.to_string(), kind, offset, size);
        }
        let found: Vec<_> = places(elf).into_iter().map(|(name, _)| name).collect();
        let expected: Vec<_> =
            (0..32).map(|at| owner(&symbols, at).map(|number| number.to_string())).collect();
        prop_assert_eq!(found, expected);
    }
}
