//! Reads `.symtab`: which symbols name code, and which addresses each of them covers.

use ::elf::ElfBytes;
use ::elf::abi::{
    SHF_EXECINSTR, SHN_LORESERVE, SHN_UNDEF, SHT_SYMTAB, STB_LOCAL, STT_FUNC, STT_GNU_IFUNC,
    STT_NOTYPE,
};
use ::elf::endian::LittleEndian;
use ::elf::parse::ParseError;
use ::elf::section::SectionHeaderTable;
use ::elf::symbol::{Symbol, SymbolTable};

/// Why an image has no usable symbols.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoSymbols {
    /// The ELF header or the section header table is damaged.
    #[error("the image's section headers cannot be read: {0}")]
    Sections(ParseError),
    /// There is no `.symtab`.
    #[error("the image has no .symtab: it was stripped")]
    Stripped,
    /// `.symtab`, or the string table that it names, is damaged.
    #[error("the image's .symtab cannot be read: {0}")]
    Table(ParseError),
    /// No symbol lies in an executable section.
    #[error("the image's .symtab has {count} symbols, and none of them names code")]
    NoCode {
        /// Rows of the table.
        count: usize,
    },
}

/// One name for the addresses `start..end`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Offset into the string table.
    pub(super) name: u32,
    /// It says itself that it is a function: a plain label may be of data between code.
    pub(super) is_function: bool,
}

/// An entry, and what decides between several at one address.
struct Candidate {
    entry: Entry,
    is_sized: bool,
    is_function: bool,
    is_global: bool,
}

/// The entries, sorted by `start` with no two alike, and the string table that names them.
pub(super) fn read(image: &[u8]) -> Result<(Vec<Entry>, Vec<u8>), NoSymbols> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(image).map_err(NoSymbols::Sections)?;
    let sections = file.section_headers().ok_or(NoSymbols::Stripped)?;
    let (table, names) = find(&file, &sections)?;
    let mut candidates: Vec<_> = table
        .iter()
        .filter_map(|symbol| candidate(&symbol, &sections, names))
        .collect();
    if candidates.is_empty() {
        return Err(NoSymbols::NoCode { count: table.len() });
    }
    keep_best(&mut candidates);
    Ok((bound_unsized(candidates), names.to_vec()))
}

type Tables<'image> = (SymbolTable<'image, LittleEndian>, &'image [u8]);

fn find<'image>(
    file: &ElfBytes<'image, LittleEndian>,
    sections: &SectionHeaderTable<'image, LittleEndian>,
) -> Result<Tables<'image>, NoSymbols> {
    let is_symtab = |section: &::elf::section::SectionHeader| section.sh_type == SHT_SYMTAB;
    let symtab = sections.iter().find(is_symtab).ok_or(NoSymbols::Stripped)?;
    let tables = || {
        // Checks sh_entsize too, and that both tables are inside the file.
        let (table, _) = file.symbol_table()?.ok_or(ParseError::BadOffset(0))?;
        let strtab = sections.get(usize::try_from(symtab.sh_link)?)?;
        Ok((table, file.section_data(&strtab)?.0))
    };
    tables().map_err(NoSymbols::Table)
}

/// The symbol, if it has a name and lies in an executable section of this image.
fn candidate(
    symbol: &Symbol,
    sections: &SectionHeaderTable<'_, LittleEndian>,
    names: &[u8],
) -> Option<Candidate> {
    let is_function = matches!(symbol.st_symtype(), STT_FUNC | STT_GNU_IFUNC);
    let is_name = (1..names.len()).contains(&usize::try_from(symbol.st_name).ok()?);
    let is_defined = symbol.st_shndx != SHN_UNDEF && symbol.st_shndx < SHN_LORESERVE;
    if !is_name || !is_defined || !(is_function || symbol.st_symtype() == STT_NOTYPE) {
        return None;
    }
    let section = sections.get(usize::from(symbol.st_shndx)).ok()?;
    let code = section.sh_addr..section.sh_addr.saturating_add(section.sh_size);
    let is_code = section.sh_flags & u64::from(SHF_EXECINSTR) != 0;
    let (start, is_sized) = (symbol.st_value, symbol.st_size > 0);
    let end = if is_sized {
        start.saturating_add(symbol.st_size)
    } else {
        code.end
    };
    (is_code && code.contains(&start)).then_some(Candidate {
        entry: Entry {
            start,
            end: end.min(code.end),
            name: symbol.st_name,
            is_function,
        },
        is_sized,
        is_function,
        is_global: symbol.st_bind() != STB_LOCAL,
    })
}

/// Sorts by address, and keeps one name for each: a function before a label, a known size before
/// none, the longer, the global one.
fn keep_best(candidates: &mut Vec<Candidate>) {
    candidates.sort_by_key(|candidate| {
        let Candidate {
            entry,
            is_sized,
            is_function,
            is_global,
        } = candidate;
        let last = u64::MAX.saturating_sub(entry.end);
        (entry.start, !is_function, !is_sized, last, !is_global)
    });
    candidates.dedup_by_key(|candidate| candidate.entry.start);
}

/// A label of assembly has no size: it reaches to the next symbol.
fn bound_unsized(mut candidates: Vec<Candidate>) -> Vec<Entry> {
    let mut next = u64::MAX;
    for Candidate {
        entry, is_sized, ..
    } in candidates.iter_mut().rev()
    {
        if !*is_sized {
            entry.end = entry.end.min(next);
        }
        next = entry.start;
    }
    candidates
        .into_iter()
        .map(|candidate| candidate.entry)
        .collect()
}
