//! Reads an ELF file's string and symbol tables. Called by [`super::image`].

use std::collections::HashMap;

use elf::abi::{SHT_DYNSYM, SHT_SYMTAB};
use elf::section::SectionHeader;
use elf::symbol::Symbol;

use super::elf_file::{ElfFile, parse_table, require};
use super::image::is_code;
use super::symbols::SymbolList;
use super::{AuditError, name};

const INSIDE_STRINGS: &str = "an offset inside the string table";

/// The symbols of each section of code, by its index: from `.symtab`, or from `.dynsym` if the
/// file was stripped; empty if it has neither.
pub(super) fn symbols_by_section<'a>(
    file: &ElfFile<'a>,
) -> Result<HashMap<usize, SymbolList<'a>>, AuditError> {
    let mut lists = HashMap::<usize, SymbolList<'a>>::new();
    let find = |kind| {
        file.sections
            .iter()
            .position(|section| section.sh_type == kind)
    };
    let index = find(SHT_SYMTAB).or_else(|| find(SHT_DYNSYM));
    let Some((index, table)) = index.and_then(|index| Some((index, file.sections.get(index)?)))
    else {
        return Ok(lists);
    };
    let field = |field: &str| format!("{field} of section {index}, the symbol table");
    require(
        table.sh_entsize == 24,
        &field("sh_entsize"),
        table.sh_entsize,
        "24",
    )?;
    let bytes = file.slice(table.sh_offset, table.sh_size, || {
        field("sh_offset, sh_size")
    })?;
    let names = strings(file, u64::from(table.sh_link), || field("sh_link"))?;
    for (number, symbol) in parse_table::<Symbol>(bytes).iter().enumerate() {
        let section = usize::from(symbol.st_shndx);
        if file.sections.get(section).is_some_and(is_code) {
            check_name(names, symbol.st_name, || {
                format!("st_name of symbol {number}")
            })?;
            let list = lists.entry(section).or_default();
            list.names = names;
            list.symbols.push(symbol);
        }
    }
    Ok(lists)
}

/// The name of section `index`, or its number if the file names none.
pub(super) fn section_name(
    file: &ElfFile<'_>,
    index: usize,
    section: &SectionHeader,
) -> Result<String, AuditError> {
    if file.names_index == 0 {
        return Ok(format!("section {index}"));
    }
    let names = strings(file, file.names_index, || "e_shstrndx".to_owned())?;
    check_name(names, section.sh_name, || {
        format!("sh_name of section {index}")
    })?;
    Ok(name::read(names, section.sh_name))
}

fn check_name(names: &[u8], offset: u32, field: impl FnOnce() -> String) -> Result<(), AuditError> {
    let is_inside = u64::from(offset) < names.len() as u64;
    if is_inside {
        Ok(())
    } else {
        require(false, &field(), offset, INSIDE_STRINGS)
    }
}

/// The bytes of the string table that is section `index`; `field` is where the index was found.
fn strings<'a>(
    file: &ElfFile<'a>,
    index: u64,
    field: impl FnOnce() -> String,
) -> Result<&'a [u8], AuditError> {
    let found = usize::try_from(index)
        .ok()
        .and_then(|index| file.sections.get(index));
    let section = found.ok_or_else(|| AuditError::Field {
        field: field(),
        found: index,
        wanted: "the index of a section",
    })?;
    file.slice(section.sh_offset, section.sh_size, || {
        format!("sh_offset, sh_size of section {index}, the string table")
    })
}
