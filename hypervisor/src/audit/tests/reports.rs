//! Counts, order, limits and text of a report.

use super::elf::{Elf, FUNC};
use super::{audit_code, classes_of};
use crate::audit::{ALLOWANCES, CLASSES, Class, ImageKind, LIST_LIMIT, SENSITIVE, audit, explain};

/// hlt; popfq; emms; mov [rsp-8], rax; an invalid byte.
const ONE_OF_EACH: [u8; 10] = [0xf4, 0x9d, 0x0f, 0x77, 0x48, 0x89, 0x44, 0x24, 0xf8, 0x06];

#[test]
fn counts_are_kept_by_class() {
    let report = audit_code(&ONE_OF_EACH);
    for info in CLASSES {
        assert_eq!(report.counts.of(info.class), 1, "{}", info.class);
        assert_eq!(report.of(info.class).count(), 1, "{}", info.class);
    }
    assert_eq!(report.counts.total(), 5);
    assert_eq!(report.instructions, 4);
}

#[test]
fn a_native_image_may_be_privileged_but_not_use_vectors_or_a_red_zone() {
    let report = audit_code(&ONE_OF_EACH);
    let forbidden: Vec<_> = report
        .forbidden(ImageKind::Native)
        .map(|f| f.class)
        .collect();
    assert_eq!(
        forbidden,
        [Class::Simd, Class::BelowStack, Class::Undecodable]
    );
    assert_eq!(report.forbidden_count(ImageKind::Native), 3);
    assert_eq!(report.forbidden_count(ImageKind::Paravirtual), 5);
    assert_eq!(report.forbidden(ImageKind::Paravirtual).count(), 5);
}

#[test]
fn findings_come_by_address_whatever_the_files_order() {
    let elf = Elf::default()
        .code(".late", 0x3000, &[0xf4, 0xf4])
        .code(".early", 0x1000, &[0xf4])
        .code(".middle", 0x2000, &[0xf4])
        .build();
    let addresses = |file: &[u8]| -> Vec<u64> {
        audit(file)
            .unwrap()
            .findings
            .iter()
            .map(|finding| finding.address)
            .collect()
    };
    assert_eq!(addresses(&elf), [0x1000, 0x2000, 0x3000, 0x3001]);
    assert_eq!(audit(&elf), audit(&elf));
}

#[test]
fn lists_are_limited_and_counts_are_not() {
    let many = LIST_LIMIT + 500;
    let report = audit_code(&vec![0xf4; many]);
    assert_eq!(report.counts.privileged, many as u64);
    assert_eq!(report.findings.len(), LIST_LIMIT);
    assert_eq!(report.unlisted(), 500);
    let allowed = audit_code(&[0x0f, 0x31].repeat(many));
    assert_eq!(allowed.allowed.len(), LIST_LIMIT);
    assert_eq!(
        (allowed.allowed_count, allowed.unlisted()),
        (many as u64, 500)
    );
}

#[test]
fn executable_bytes_outside_code_sections_are_counted() {
    // The segment of `.text` is stretched over the bytes before it in the file.
    let mut file = Elf::text(&[0xc3; 32]).build();
    assert_eq!(audit(&file).unwrap().unaudited_bytes, 0);
    let offset = u64::from_le_bytes(file[72..80].try_into().unwrap());
    file[72..80].copy_from_slice(&0u64.to_le_bytes());
    file[96..104].copy_from_slice(&(offset + 32).to_le_bytes());
    assert_eq!(audit(&file).unwrap().unaudited_bytes, offset);
}

#[test]
fn without_section_headers_segments_are_audited() {
    let file = Elf::text(&[0xf4])
        .data(".rodata", 0x1000, &[0xf4])
        .without_section_headers()
        .build();
    let report = audit(&file).unwrap();
    assert_eq!(report.counts.privileged, 1);
    assert_eq!(
        report.findings[0].to_string(),
        "0xffffffff80000000 segment 0: privileged: hlt"
    );
}

#[test]
fn a_finding_reads_as_one_line() {
    let elf = Elf::text(&[0x90, 0x0f, 0x22, 0xd8])
        .symbol("load_root", FUNC, 0, 4)
        .build();
    let report = audit(&elf).unwrap();
    let line = "0xffffffff80000001 load_root+0x1: privileged: mov cr3, rax";
    assert_eq!(report.findings[0].to_string(), line);
}

#[test]
fn the_explanation_names_every_class_group_and_allowance() {
    let text = explain();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for info in CLASSES {
        assert!(
            words.contains(&format!("{}: ", info.class)),
            "{}",
            info.class
        );
        assert!(words.contains(&info.why.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    for group in SENSITIVE {
        assert!(words.contains(group.instructions), "{}", group.instructions);
    }
    for row in ALLOWANCES {
        assert!(
            words.contains(&format!("{} {}: {}", row.mnemonic, row.place, row.why)),
            "{row:?}"
        );
    }
    assert!(text.lines().all(|line| line.len() <= 96), "{text}");
}

#[test]
fn reports_can_be_serialized() {
    fn serializes<T: serde::Serialize>() {}
    serializes::<crate::audit::Report>();
    serializes::<ImageKind>();
    assert_eq!(classes_of(&[0x90]), []);
}
