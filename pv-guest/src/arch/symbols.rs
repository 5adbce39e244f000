//! The names of the image's own functions, for reports.
//!
//! `guest-build` fills the table after the link: the magic, the number of functions, then 16 bytes
//! each, ascending: offset from `KERNEL_BASE`, length, offset of the name in the table, length of
//! the name. An image that it did not fill has no names.

use core::fmt;

use hypercall_abi::layout::KERNEL_BASE;

/// Bytes of the table's head: magic and count.
const HEAD: usize = 16;
/// Bytes of a row.
const ROW: usize = 16;

/// An address, shown as `function+0x12` where its function is known.
#[derive(Clone, Copy, Debug)]
pub struct Place(pub u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)?;
        match find(table(), self.0.wrapping_sub(KERNEL_BASE)) {
            Some((name, offset)) => write!(f, " {name}+{offset:#x}"),
            None => Ok(()),
        }
    }
}

/// The function around an offset, and how far inside it is.
fn find(table: &[u8], offset: u64) -> Option<(&str, u64)> {
    let offset = u32::try_from(offset).ok()?;
    let count = usize::try_from(word(table, 8)?).ok()?;
    let row = |n: usize| HEAD.checked_add(n.checked_mul(ROW)?);
    // The first row that starts beyond the offset; the one before it may hold it.
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if word(table, row(middle)?)? <= offset {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let at = row(low.checked_sub(1)?)?;
    let inside = offset.checked_sub(word(table, at)?)?;
    if inside > word(table, at + 4)? {
        return None;
    }
    let start = usize::try_from(word(table, at + 8)?).ok()?;
    let len = usize::try_from(word(table, at + 12)?).ok()?;
    let name = table.get(start..start.checked_add(len)?)?;
    Some((core::str::from_utf8(name).ok()?, u64::from(inside)))
}

fn word(table: &[u8], at: usize) -> Option<u32> {
    let bytes = table.get(at..at.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_le_bytes)
}

/// The running image's table.
#[cfg(not(test))]
fn table() -> &'static [u8] {
    unsafe extern "C" {
        static __symbols_start: u8;
        static __symbols_end: u8;
    }
    let (start, end) = (&raw const __symbols_start, &raw const __symbols_end);
    // SAFETY: the linker script reserves these bytes in the constants, which nobody writes; they
    // were filled in the image's file.
    unsafe { core::slice::from_raw_parts(start, end as usize - start as usize) }
}

#[cfg(test)]
fn table() -> &'static [u8] {
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn example() -> Vec<u8> {
        let mut table: Vec<u8> = b"PVSYMBLS".to_vec();
        for word in [2u32, 0, 0x100, 0x10, 48, 3, 0x200, 0x20, 51, 4] {
            table.extend_from_slice(&word.to_le_bytes());
        }
        table.extend_from_slice(b"onefour");
        table
    }

    #[test]
    fn an_address_is_named_by_the_function_around_it() {
        let table = example();
        assert_eq!(find(&table, 0x100), Some(("one", 0)));
        assert_eq!(find(&table, 0x110), Some(("one", 0x10)));
        assert_eq!(find(&table, 0x111), None);
        assert_eq!(find(&table, 0x21f), Some(("four", 0x1f)));
        assert_eq!(find(&table, 0xff), None);
        assert_eq!(find(&table, u64::MAX), None);
    }

    #[test]
    fn a_damaged_table_names_nothing() {
        let table = example();
        for len in 0..table.len() {
            let _ = find(&table[..len], 0x210);
        }
        assert_eq!(find(&[], 0x100), None);
    }
}
