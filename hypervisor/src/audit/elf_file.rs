//! Checks an ELF file's header and tables before anything trusts them. Called by [`super::image`].
//!
//! Every offset and count is compared with the file's length here, and the error names its field.
//! The `elf` crate does the parsing; it is given only ranges that are known to exist.

use elf::abi::{
    EI_CLASS, EI_DATA, EI_NIDENT, EI_VERSION, ELFCLASS64, ELFDATA2LSB, ELFMAGIC, EM_X86_64, ET_DYN,
    ET_EXEC, ET_REL, EV_CURRENT, PN_XNUM, SHN_XINDEX,
};
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader};
use elf::parse::{ParseAt, ParsingTable};
use elf::section::SectionHeader;
use elf::segment::ProgramHeader;

use super::AuditError;

const HEADER_LEN: usize = 64;

/// An ELF64 x86-64 file whose header and tables lie inside it.
pub(super) struct ElfFile<'a> {
    bytes: &'a [u8],
    /// Empty if the file has no section headers.
    pub(super) sections: Vec<SectionHeader>,
    pub(super) segments: Vec<ProgramHeader>,
    /// Index of the section that holds the sections' names; 0 if there is none.
    pub(super) names_index: u64,
}

impl<'a> ElfFile<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, AuditError> {
        let header = header(bytes)?;
        let counts = Counts::read(bytes, &header)?;
        let sections = Table {
            place: "e_shoff, e_shnum",
            offset: header.e_shoff,
            count: counts.sections,
            size_field: "e_shentsize",
            entry_size: header.e_shentsize,
        };
        let segments = Table {
            place: "e_phoff, e_phnum",
            offset: header.e_phoff,
            count: counts.segments,
            size_field: "e_phentsize",
            entry_size: header.e_phentsize,
        };
        let (sections, segments) = (sections.read(bytes)?, segments.read(bytes)?);
        let names_index = counts.names_index;
        Ok(ElfFile {
            bytes,
            sections,
            segments,
            names_index,
        })
    }

    /// The file's bytes from `offset` over `size`; `field` says who asked.
    pub(super) fn slice(
        &self,
        offset: u64,
        size: u64,
        field: impl FnOnce() -> String,
    ) -> Result<&'a [u8], AuditError> {
        slice(self.bytes, offset, size, field)
    }
}

/// A little-endian ELF64 table over `bytes`.
pub(super) fn parse_table<P: ParseAt>(bytes: &[u8]) -> ParsingTable<'_, LittleEndian, P> {
    ParsingTable::new(LittleEndian, Class::ELF64, bytes)
}

/// Fail with the field's name unless its value is as `wanted`.
pub(super) fn require(
    is_so: bool,
    field: &str,
    found: impl Into<u64>,
    wanted: &'static str,
) -> Result<(), AuditError> {
    if is_so {
        return Ok(());
    }
    let (field, found) = (field.to_owned(), found.into());
    Err(AuditError::Field {
        field,
        found,
        wanted,
    })
}

fn header(bytes: &[u8]) -> Result<FileHeader<LittleEndian>, AuditError> {
    let magic = bytes.get(..4).unwrap_or(bytes);
    if magic != ELFMAGIC {
        return Err(AuditError::NotElf {
            found: magic.to_vec(),
        });
    }
    let truncated = AuditError::Truncated { len: bytes.len() };
    let Some(tail) = bytes.get(EI_NIDENT..HEADER_LEN) else {
        return Err(truncated);
    };
    let ident = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let (class, data, version) = (ident(EI_CLASS), ident(EI_DATA), ident(EI_VERSION));
    require(class == ELFCLASS64, "EI_CLASS", class, "2, 64 bits")?;
    require(data == ELFDATA2LSB, "EI_DATA", data, "1, little-endian")?;
    require(version == EV_CURRENT, "EI_VERSION", version, "1")?;
    let start = (LittleEndian, Class::ELF64, 0, 0);
    let header = FileHeader::parse_tail(start, tail).map_err(|_| truncated)?;
    let (machine, version, kind) = (header.e_machine, header.version, header.e_type);
    require(machine == EM_X86_64, "e_machine", machine, "62, x86-64")?;
    require(version == u32::from(EV_CURRENT), "e_version", version, "1")?;
    let kinds = "1, 2 or 3: relocatable, executable or shared";
    require(
        matches!(kind, ET_REL | ET_EXEC | ET_DYN),
        "e_type",
        kind,
        kinds,
    )?;
    Ok(header)
}

/// The header's counts, which section 0 holds where they did not fit: gABI, "ELF Header".
struct Counts {
    sections: u64,
    segments: u64,
    names_index: u64,
}

impl Counts {
    fn read(bytes: &[u8], header: &FileHeader<LittleEndian>) -> Result<Self, AuditError> {
        let first = first_section(bytes, header)?;
        let sections = match header.e_shnum {
            0 => first.map_or(0, |section| section.sh_size),
            count => u64::from(count),
        };
        let segments = match header.e_phnum {
            PN_XNUM => first.map_or(0, |section| u64::from(section.sh_info)),
            count => u64::from(count),
        };
        let names_index = match header.e_shstrndx {
            SHN_XINDEX => first.map_or(0, |section| u64::from(section.sh_link)),
            index => u64::from(index),
        };
        Ok(Counts {
            sections,
            segments,
            names_index,
        })
    }
}

/// Section 0, if the header says to look there.
fn first_section(
    bytes: &[u8],
    header: &FileHeader<LittleEndian>,
) -> Result<Option<SectionHeader>, AuditError> {
    let is_needed =
        header.e_shnum == 0 || header.e_phnum == PN_XNUM || header.e_shstrndx == SHN_XINDEX;
    let table = Table {
        place: "e_shoff",
        offset: header.e_shoff,
        count: u64::from(is_needed),
        size_field: "e_shentsize",
        entry_size: header.e_shentsize,
    };
    Ok(table.read(bytes)?.into_iter().next())
}

/// Where the header places a table, and the names of the fields that say so.
struct Table {
    place: &'static str,
    /// In bytes from the file's start; 0 if there is no such table.
    offset: u64,
    count: u64,
    size_field: &'static str,
    /// In bytes.
    entry_size: u16,
}

impl Table {
    /// All entries, which are no longer than the file.
    fn read<P: ParseAt>(&self, bytes: &[u8]) -> Result<Vec<P>, AuditError> {
        if self.offset == 0 || self.count == 0 {
            return Ok(vec![]);
        }
        let entry = P::size_for(Class::ELF64) as u64;
        let is_entry = u64::from(self.entry_size) == entry;
        require(
            is_entry,
            self.size_field,
            self.entry_size,
            "the size of an ELF64 entry",
        )?;
        let size = self.count.saturating_mul(entry);
        let table = slice(bytes, self.offset, size, || self.place.to_owned())?;
        Ok(parse_table(table).iter().collect())
    }
}

fn slice(
    bytes: &[u8],
    offset: u64,
    size: u64,
    field: impl FnOnce() -> String,
) -> Result<&[u8], AuditError> {
    let range = usize::try_from(offset).ok().zip(usize::try_from(size).ok());
    let found = range.and_then(|(start, size)| bytes.get(start..start.checked_add(size)?));
    found.ok_or_else(|| {
        let len = bytes.len() as u64;
        AuditError::OutsideFile {
            field: field(),
            offset,
            size,
            len,
        }
    })
}
