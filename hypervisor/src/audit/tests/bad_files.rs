//! Files that are no image: each is refused with the field's name, and none panics.

use proptest::prelude::*;

use super::elf::{Elf, FUNC, LABEL};
use crate::audit::{AuditError, audit};

/// A small image with most of what the audit reads.
fn sample() -> Vec<u8> {
    let code = [
        0x55, 0x48, 0x89, 0xe5, 0xf4, 0x9c, 0x5d, 0xc3, 0xcc, 0xcc, 0x0f, 0x31, 0xc3,
    ];
    Elf::text(&code)
        .data(".rodata", 0x5000, &[1, 2, 3])
        .code(".init", 0x6000, &[0xfa, 0xc3])
        .symbol("_ZN6kernel4idle17h0123456789abcdefE", FUNC, 0, 8)
        .symbol("clock", LABEL, 10, 0)
        .build()
}

/// What the audit says of the sample with `value` written at `offset`.
fn refusal(offset: usize, value: &[u8]) -> String {
    let mut file = sample();
    file[offset..offset + value.len()].copy_from_slice(value);
    audit(&file).unwrap_err().to_string()
}

/// The offset of a field of section header `index` in the sample.
fn section_field(index: usize, field: usize) -> usize {
    let file = sample();
    let table = u64::from_le_bytes(file[40..48].try_into().unwrap());
    table as usize + 64 * index + field
}

const SH_NAME: usize = 0;
const SH_FLAGS: usize = 8;
const SH_ADDR: usize = 16;
const SH_OFFSET: usize = 24;
const SH_SIZE: usize = 32;
const SH_LINK: usize = 40;
const SH_ENTSIZE: usize = 56;
const SYMTAB: usize = 4;

#[test]
fn the_sample_itself_is_audited() {
    let report = audit(&sample()).unwrap();
    assert_eq!((report.counts.privileged, report.counts.sensitive), (2, 1));
    assert_eq!((report.allowed_count, report.padding_bytes), (1, 2));
}

#[test]
fn a_field_of_the_header_is_named() {
    assert!(
        refusal(0, b"MZ").starts_with("not an ELF file"),
        "{}",
        refusal(0, b"MZ")
    );
    assert!(
        refusal(4, &[1]).starts_with("EI_CLASS is 0x1"),
        "{}",
        refusal(4, &[1])
    );
    assert!(refusal(5, &[2]).starts_with("EI_DATA is 0x2"));
    assert!(refusal(6, &[9]).starts_with("EI_VERSION is 0x9"));
    assert!(refusal(16, &[4]).starts_with("e_type is 0x4"));
    assert!(refusal(18, &[183]).starts_with("e_machine is 0xb7"));
    assert!(refusal(20, &[7]).starts_with("e_version is 0x7"));
    assert!(refusal(32, &[0xff; 8]).starts_with("e_phoff, e_phnum places"));
    assert!(refusal(40, &[0xff; 8]).starts_with("e_shoff, e_shnum places"));
    assert!(refusal(54, &[55]).starts_with("e_phentsize is 0x37"));
    assert!(refusal(56, &[0xfe, 0xff]).starts_with("e_phoff, e_phnum places"));
    assert!(refusal(58, &[63]).starts_with("e_shentsize is 0x3f"));
    assert!(refusal(60, &[0xff, 0xff]).starts_with("e_shoff, e_shnum places"));
    assert!(refusal(62, &[99]).starts_with("e_shstrndx is 0x63"));
}

#[test]
fn a_field_of_a_section_is_named() {
    let text = |field, value: &[u8]| refusal(section_field(1, field), value);
    assert!(text(SH_NAME, &[0xff; 4]).starts_with("sh_name of section 1 is 0xffffffff"));
    assert!(text(SH_FLAGS + 1, &[8]).starts_with("sh_flags of section 1 (.text) is 0x806"));
    assert!(text(SH_ADDR, &[0xff; 8]).starts_with("sh_addr of section 1 (.text) places"));
    assert!(text(SH_OFFSET, &[0xff; 8]).starts_with("sh_offset, sh_size of section 1 (.text)"));
    assert!(text(SH_SIZE, &[0xff; 8]).starts_with("sh_offset, sh_size of section 1 (.text)"));
    let table = |field, value: &[u8]| refusal(section_field(SYMTAB, field), value);
    assert!(table(SH_ENTSIZE, &[0]).starts_with("sh_entsize of section 4, the symbol table"));
    assert!(table(SH_LINK, &[77]).starts_with("sh_link of section 4, the symbol table is 0x4d"));
    assert!(table(SH_SIZE, &[0xff; 8]).starts_with("sh_offset, sh_size of section 4"));
}

#[test]
fn a_symbols_name_outside_the_strings_is_named() {
    let file = sample();
    let at = section_field(SYMTAB, SH_OFFSET);
    let table = u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
    let said = refusal(table + 24, &[0xff; 4]);
    assert!(
        said.starts_with("st_name of symbol 1 is 0xffffffff"),
        "{said}"
    );
}

#[test]
fn sections_that_share_bytes_are_refused() {
    let file = sample();
    let text = section_field(1, SH_OFFSET);
    let said = refusal(section_field(3, SH_OFFSET), &file[text..text + 8]);
    assert!(said.contains("both hold the file's byte"), "{said}");
}

#[test]
fn a_file_without_code_is_refused() {
    let data_only = Elf::default().data(".rodata", 0, &[1]);
    let sections = audit(&data_only.clone().build()).unwrap_err();
    assert_eq!(
        sections,
        AuditError::NoCode {
            count: 3,
            kind: "sections"
        }
    );
    let segments = audit(&data_only.without_section_headers().build()).unwrap_err();
    assert_eq!(
        segments,
        AuditError::NoCode {
            count: 1,
            kind: "segments"
        }
    );
    let mut bare = sample()[..64].to_vec();
    bare[32..48].fill(0);
    assert_eq!(
        audit(&bare),
        Err(AuditError::NoCode {
            count: 0,
            kind: "segments"
        })
    );
}

#[test]
fn every_truncation_is_refused() {
    let file = sample();
    for len in 0..file.len() {
        assert!(
            audit(&file[..len]).is_err(),
            "the first {len} of {} bytes",
            file.len()
        );
    }
}

#[test]
fn a_table_as_long_as_the_address_space_costs_nothing() {
    // e_shnum = 0: section 0 has the count.
    let mut file = sample();
    file[60..62].fill(0);
    let at = section_field(0, SH_SIZE);
    file[at..at + 8].fill(0xff);
    let said = audit(&file).unwrap_err().to_string();
    assert!(
        said.starts_with("e_shoff, e_shnum places 0xffffffffffffffff"),
        "{said}"
    );
}

#[test]
fn every_byte_may_take_every_value() {
    let file = sample();
    for at in 0..file.len() {
        for value in [
            0,
            1,
            2,
            0x7f,
            0x80,
            0xff,
            !file[at],
            file[at].wrapping_add(1),
        ] {
            let mut changed = file.clone();
            changed[at] = value;
            // Whether it is refused depends on the byte; that this returns is the test.
            let _ = audit(&changed);
        }
    }
}

proptest! {
    #[test]
    fn no_mutation_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24)) {
        let mut file = sample();
        for (index, value) in changes {
            let at = index.index(file.len());
            file[at] = value;
        }
        let _ = audit(&file);
    }

    #[test]
    fn no_field_of_eight_bytes_panics(at: prop::sample::Index, value: u64, small in 0u64..2048) {
        for value in [value, small, u64::MAX - small] {
            let mut file = sample();
            let at = at.index(file.len() - 8);
            file[at..at + 8].copy_from_slice(&value.to_le_bytes());
            let _ = audit(&file);
        }
    }

    #[test]
    fn no_code_panics_and_every_byte_is_accounted_for(code in prop::collection::vec(any::<u8>(), 1..512)) {
        let report = audit(&Elf::text(&code).build()).unwrap();
        let bytes = code.len() as u64;
        prop_assert!(report.instructions + report.counts.undecodable <= bytes);
        prop_assert!(report.instructions * 15 + report.counts.undecodable >= bytes);
    }

    #[test]
    fn no_symbols_panic(symbols in prop::collection::vec((0u64..40, 0u64..40, 0u8..4), 0..12)) {
        let mut elf = Elf::text(&[0xf4; 32]);
        for (number, (offset, size, kind)) in symbols.into_iter().enumerate() {
            elf = elf.symbol(&format!("s{number}"), kind, offset, size);
        }
        let report = audit(&elf.build()).unwrap();
        prop_assert_eq!(report.counts.privileged, 32);
        prop_assert_eq!(report.instructions, 32);
    }
}
