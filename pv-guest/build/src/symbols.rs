//! Fills the table of function names that `kernel.ld` reserves in an image.
//!
//! The table's form is `pv-guest`'s, `arch/symbols.rs`.

use std::collections::BTreeMap;

use elf::ElfBytes;
use elf::abi::{STT_FUNC, STT_NOTYPE};
use elf::endian::LittleEndian;

/// The word at the reserved table's start, as `kernel.ld` writes it.
const MAGIC: &[u8; 8] = b"PVSYMBLS";
/// The size that `kernel.ld` reserves, in bytes.
const RESERVED: usize = 0xc000;
/// Where the kernel is linked; offsets in the table are from here.
const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;

/// Write the names of an image's functions into its table.
///
/// # Errors
/// A sentence, when the image has no symbols, no table, or more names than fit.
pub fn fill(image: &mut [u8]) -> Result<(), String> {
    let functions = functions(image)?;
    let at = image
        .windows(MAGIC.len())
        .position(|window| window == MAGIC)
        .ok_or("the image has no table of symbols: link it with kernel.ld")?;
    let mut rows = Vec::new();
    let mut names = Vec::new();
    let names_at = 16 + functions.len() * 16;
    for (offset, (len, name)) in &functions {
        for word in [
            *offset,
            *len,
            (names_at + names.len()) as u32,
            name.len() as u32,
        ] {
            rows.extend_from_slice(&word.to_le_bytes());
        }
        names.extend_from_slice(name.as_bytes());
    }
    let mut table = MAGIC.to_vec();
    table.extend_from_slice(&(functions.len() as u64).to_le_bytes());
    table.extend(rows);
    table.extend(names);
    let room = image
        .get_mut(at..at + RESERVED)
        .ok_or("the table of symbols is cut off")?;
    let needed = table.len();
    room.get_mut(..needed)
        .ok_or(format!(
            "the names of the image's functions take {needed} bytes: reserve more in kernel.ld"
        ))?
        .copy_from_slice(&table);
    Ok(())
}

/// Functions by offset: length and demangled name.
fn functions(image: &[u8]) -> Result<BTreeMap<u32, (u32, String)>, String> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(image).map_err(|error| error.to_string())?;
    let (symbols, strings) = file
        .symbol_table()
        .map_err(|error| error.to_string())?
        .ok_or("the image has no symbols")?;
    let mut found = BTreeMap::new();
    for symbol in symbols {
        let is_code = symbol.st_symtype() == STT_FUNC
            || (symbol.st_symtype() == STT_NOTYPE && symbol.st_size > 0);
        let Some(offset) = symbol
            .st_value
            .checked_sub(KERNEL_BASE)
            .filter(|_| is_code && symbol.st_size > 0)
        else {
            continue;
        };
        let name = strings
            .get(symbol.st_name as usize)
            .map_err(|error| error.to_string())?;
        let name = format!("{:#}", rustc_demangle::demangle(name));
        found.insert(offset as u32, (symbol.st_size as u32, name));
    }
    Ok(found)
}
