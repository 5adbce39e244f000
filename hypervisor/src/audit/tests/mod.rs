//! Tests of the audit: each class by encoding, each allowance in and out of its place, bad files.

mod allowances;
mod bad_files;
mod classes;
mod elf;
pub(crate) mod encodings;
mod reports;
mod stack;
mod symbols;

use super::{Class, Report, audit};
use elf::Elf;

/// The report on an image whose `.text` is `code`, without symbols.
fn audit_code(code: &[u8]) -> Report {
    audit(&Elf::text(code).build()).unwrap()
}

/// The classes found in `code`, in order.
fn classes_of(code: &[u8]) -> Vec<Class> {
    audit_code(code)
        .findings
        .iter()
        .map(|finding| finding.class)
        .collect()
}
