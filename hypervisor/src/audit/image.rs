//! Finds an image's executable bytes and their symbols. Called by [`super::audit`]; decodes nothing.

use elf::abi::{PF_X, PT_LOAD, SHF_COMPRESSED, SHF_EXECINSTR, SHT_NOBITS, SHT_NULL};
use elf::section::SectionHeader;

use super::AuditError;
use super::elf_file::{ElfFile, require};
use super::symbols::{SymbolList, SymbolMap};
use super::tables;

/// What the scan needs of a file.
pub(super) struct Image<'a> {
    /// By address, then in the file's order. No two share a byte of the file.
    pub(super) parts: Vec<Part<'a>>,
    /// Bytes of executable segments that lie in no part.
    pub(super) unaudited_bytes: u64,
}

/// A run of executable bytes: a section, or a segment of a file without section headers.
pub(super) struct Part<'a> {
    pub(super) name: String,
    pub(super) address: u64,
    pub(super) bytes: &'a [u8],
    pub(super) symbols: SymbolMap<'a>,
    /// Offset into the file, in bytes.
    offset: u64,
}

impl Part<'_> {
    /// Address after the last byte. It cannot overflow: `end_of` saw to it.
    pub(super) fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes.len() as u64)
    }

    /// The bytes from `start` up to `end`; those that exist.
    pub(super) fn slice(&self, start: u64, end: u64) -> &[u8] {
        let at = |address: u64| usize::try_from(address.saturating_sub(self.address)).ok();
        let range = at(start).zip(at(end));
        range
            .and_then(|(start, end)| self.bytes.get(start..end))
            .unwrap_or(&[])
    }

    fn file_range(&self) -> (u64, u64) {
        (
            self.offset,
            self.offset.saturating_add(self.bytes.len() as u64),
        )
    }
}

pub(super) fn read(bytes: &[u8]) -> Result<Image<'_>, AuditError> {
    let file = ElfFile::parse(bytes)?;
    let (mut parts, count, kind) = match file.sections.len() {
        0 => (segment_parts(&file)?, file.segments.len(), "segments"),
        count => (section_parts(&file)?, count, "sections"),
    };
    if parts.is_empty() {
        return Err(AuditError::NoCode { count, kind });
    }
    check_overlap(&mut parts)?;
    let unaudited_bytes = unaudited(&file, &parts)?;
    parts.sort_by_key(|part| (part.address, part.offset));
    Ok(Image {
        parts,
        unaudited_bytes,
    })
}

fn section_parts<'a>(file: &ElfFile<'a>) -> Result<Vec<Part<'a>>, AuditError> {
    let mut symbols = tables::symbols_by_section(file)?;
    let code = file
        .sections
        .iter()
        .enumerate()
        .filter(|(_, section)| is_code(section));
    let parts = code.map(|(index, section)| {
        let symbols = symbols.remove(&index).unwrap_or_default();
        section_part(file, index, section, symbols)
    });
    parts.collect()
}

/// True if the section's bytes in the file are instructions.
pub(super) fn is_code(section: &SectionHeader) -> bool {
    section.sh_flags & u64::from(SHF_EXECINSTR) != 0
        && section.sh_type != SHT_NULL
        && section.sh_type != SHT_NOBITS
        && section.sh_size != 0
}

fn section_part<'a>(
    file: &ElfFile<'a>,
    index: usize,
    section: &SectionHeader,
    symbols: SymbolList<'a>,
) -> Result<Part<'a>, AuditError> {
    let name = tables::section_name(file, index, section)?;
    let field = |field: &str| format!("{field} of section {index} ({name})");
    let (address, size, flags) = (section.sh_addr, section.sh_size, section.sh_flags);
    let is_plain = flags & u64::from(SHF_COMPRESSED) == 0;
    require(
        is_plain,
        &field("sh_flags"),
        flags,
        "code that is not compressed",
    )?;
    let bytes = file.slice(section.sh_offset, size, || field("sh_offset, sh_size"))?;
    let end = end_of(address, size, || field("sh_addr"))?;
    let symbols = SymbolMap::new(symbols, address..end);
    Ok(Part {
        name,
        address,
        bytes,
        symbols,
        offset: section.sh_offset,
    })
}

fn segment_parts<'a>(file: &ElfFile<'a>) -> Result<Vec<Part<'a>>, AuditError> {
    let mut parts = vec![];
    for (index, segment) in file.segments.iter().enumerate() {
        if segment.p_type != PT_LOAD || segment.p_flags & PF_X == 0 || segment.p_filesz == 0 {
            continue;
        }
        let name = format!("segment {index}");
        let field = |field: &str| format!("{field} of {name}");
        let bytes = file.slice(segment.p_offset, segment.p_filesz, || {
            field("p_offset, p_filesz")
        })?;
        end_of(segment.p_vaddr, segment.p_filesz, || field("p_vaddr"))?;
        let (address, offset) = (segment.p_vaddr, segment.p_offset);
        parts.push(Part {
            name,
            address,
            bytes,
            symbols: SymbolMap::default(),
            offset,
        });
    }
    Ok(parts)
}

/// The address after the last byte.
fn end_of(address: u64, size: u64, field: impl FnOnce() -> String) -> Result<u64, AuditError> {
    let outside = || AuditError::OutsideMemory {
        field: field(),
        address,
        size,
    };
    address.checked_add(size).ok_or_else(outside)
}

/// Sort by offset and refuse overlaps, so that the work is bounded by the file's length.
fn check_overlap(parts: &mut [Part<'_>]) -> Result<(), AuditError> {
    parts.sort_by_key(Part::file_range);
    for pair in parts.windows(2) {
        if let [first, second] = pair
            && second.offset < first.file_range().1
        {
            let names = (first.name.clone(), second.name.clone());
            return Err(AuditError::Overlap {
                first: names.0,
                second: names.1,
                offset: second.offset,
            });
        }
    }
    Ok(())
}

/// Bytes that the loader makes executable and that lie in no part: headers, padding, or read-only
/// data that shares a segment with code.
fn unaudited(file: &ElfFile<'_>, parts: &[Part<'_>]) -> Result<u64, AuditError> {
    let mut ranges: Vec<_> = parts.iter().map(Part::file_range).collect();
    let audited = union_len(&mut ranges);
    for (index, segment) in file.segments.iter().enumerate() {
        if segment.p_type == PT_LOAD && segment.p_flags & PF_X != 0 {
            let (offset, size) = (segment.p_offset, segment.p_filesz);
            file.slice(offset, size, || {
                format!("p_offset, p_filesz of segment {index}")
            })?;
            ranges.push((offset, offset.saturating_add(size)));
        }
    }
    Ok(union_len(&mut ranges).saturating_sub(audited))
}

/// Bytes covered by at least one of `ranges`, which it sorts.
fn union_len(ranges: &mut [(u64, u64)]) -> u64 {
    ranges.sort_unstable();
    let mut covered_to = 0;
    ranges.iter().fold(0, |total: u64, &(start, end)| {
        let fresh = end.saturating_sub(start.max(covered_to));
        covered_to = covered_to.max(end);
        total.saturating_add(fresh)
    })
}
