//! What of a qcow2 image's header is checked before the crate imago reads it (QEMU,
//! docs/interop/qcow2.rst). imago 0.2.6 panics at a table of feature names that ends inside an entry,
//! and recurses without end where the refcount table has no block for the image's own header.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

/// Where the header says where the refcount table is.
const REFCOUNTS: usize = 48;
/// Where version 3 says how long its header is; extensions follow.
const HEADER_LENGTH: usize = 100;
/// The type of the table of feature names.
const FEATURE_NAMES: u32 = 0x6803_f857;
/// The length of one of its entries.
const ENTRY: u32 = 48;
/// How many extensions are looked at; they lie in one cluster of 2 MiB at most, 8 bytes each.
const MOST: usize = 1 << 18;

/// Check it. What imago checks itself is left to it.
///
/// # Errors
/// `InvalidData`, or the file's.
pub(super) fn check(file: &File) -> io::Result<()> {
    let mut header = [0; HEADER_LENGTH + 4];
    match file.read_exact_at(&mut header, 0) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
        result => result?,
    }
    let word = |at: usize| {
        let bytes = header
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok());
        u32::from_be_bytes(bytes.unwrap_or_default())
    };
    let invalid = |what| Err(io::Error::new(ErrorKind::InvalidData, what));
    let refcounts = u64::from(word(REFCOUNTS)) << 32 | u64::from(word(REFCOUNTS + 4));
    let mut first = [0; 8];
    let is_there = file.read_exact_at(&mut first, refcounts).is_ok();
    if !is_there || first == [0; 8] {
        return invalid("the image's refcount table is missing: it was cut, or is damaged");
    }
    if word(4) < 3 {
        return Ok(());
    }
    let mut at = u64::from(word(HEADER_LENGTH));
    for _ in 0..MOST {
        let mut extension = [0; 8];
        if file.read_exact_at(&mut extension, at).is_err() {
            return Ok(());
        }
        let [a, b, c, d, length @ ..] = extension;
        let (kind, length) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes(length));
        if kind == 0 {
            return Ok(());
        }
        if kind == FEATURE_NAMES && !length.is_multiple_of(ENTRY) {
            return invalid("the image's table of feature names is damaged");
        }
        at = at.saturating_add(8 + u64::from(length).next_multiple_of(8));
    }
    Ok(())
}
