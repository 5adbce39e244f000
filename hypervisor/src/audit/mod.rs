//! Counts the privileged and sensitive instructions of an ELF image: `paravane audit`.
//!
//! The rooms, in walking order: `elf_file` and `tables` check the file, `image` finds its
//! executable bytes, `symbols` says whose they are, `scan` decodes them, `classes` and
//! `stack` judge each instruction, `allow` excuses a few by name, `report` is the verdict.
//!
//! What a count of 0 means: no such instruction starts where linear decoding, begun anew at every
//! symbol, finds an instruction. Everything in an executable section is taken for code, data too.
//! It says nothing of code that is loaded or written later, nor of a jump into the middle of an
//! instruction: there the processor still stops privileged instructions, and nothing the sensitive.

mod allow;
mod classes;
mod elf_file;
mod error;
mod explain;
mod image;
mod name;
mod padding;
pub(crate) mod recorder;
mod report;
mod scan;
mod sensitive;
mod simd;
mod stack;
mod symbols;
mod tables;
#[cfg(test)]
pub(crate) mod tests;

pub use allow::{ALLOWANCES, Allowance, Place};
pub(crate) use classes::class_of;
pub use classes::{CLASSES, Class, ClassInfo};
pub use error::AuditError;
pub use explain::explain;
pub use report::{Allowed, Counts, Finding, ImageKind, LIST_LIMIT, Report, Section};
pub use sensitive::{SENSITIVE, SensitiveGroup};

/// Audit `elf`, an ELF64 image for x86-64, with the published [`ALLOWANCES`].
///
/// # Errors
/// An [`AuditError`] that names the field, if `elf` is not such an image, contradicts itself or
/// holds no code.
pub fn audit(elf: &[u8]) -> Result<Report, AuditError> {
    audit_with(elf, ALLOWANCES)
}

/// Audit `elf` with other allowances than the published ones: none, to count everything.
///
/// # Errors
/// As [`audit`].
pub fn audit_with(elf: &[u8], allowances: &[Allowance]) -> Result<Report, AuditError> {
    Ok(scan::scan(&image::read(elf)?, allowances))
}
