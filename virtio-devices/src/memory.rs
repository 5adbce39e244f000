//! Guest memory, by copying: a range is checked as a whole, then copied once.
//!
//! Nothing here hands out a reference into memory that a guest can change meanwhile.

use std::ops::Range;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// A guest named memory that it does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("guest-physical {at:#x}, {len} bytes, is not wholly inside guest memory")]
pub struct OutOfRange {
    /// The first byte's address.
    pub at: u64,
    /// How many bytes.
    pub len: u64,
}

/// Check that a range lies wholly inside one of the ranges that a guest may name.
///
/// # Errors
/// [`OutOfRange`], also when the range's end overflows.
pub fn check(
    at: u64,
    len: u64,
    allowed: impl IntoIterator<Item = Range<u64>>,
) -> Result<(), OutOfRange> {
    let failed = OutOfRange { at, len };
    let end = at.checked_add(len).ok_or(failed)?;
    let is_inside = |range: Range<u64>| range.start <= at && end <= range.end;
    if allowed.into_iter().any(is_inside) {
        Ok(())
    } else {
        Err(failed)
    }
}

/// Copy guest memory into a buffer.
///
/// # Errors
/// [`OutOfRange`] when any byte is not in memory.
pub fn copy_in(memory: &GuestMemoryMmap, at: u64, into: &mut [u8]) -> Result<(), OutOfRange> {
    let failed = OutOfRange {
        at,
        len: into.len() as u64,
    };
    memory
        .read_slice(into, GuestAddress(at))
        .map_err(|_| failed)
}

/// Copy a buffer into guest memory; nothing is written unless all of it fits.
///
/// # Errors
/// [`OutOfRange`] when any byte is not in memory.
pub fn copy_out(memory: &GuestMemoryMmap, at: u64, from: &[u8]) -> Result<(), OutOfRange> {
    let failed = OutOfRange {
        at,
        len: from.len() as u64,
    };
    if !from.is_empty() && !memory.check_range(GuestAddress(at), from.len()) {
        return Err(failed);
    }
    memory
        .write_slice(from, GuestAddress(at))
        .map_err(|_| failed)
}

/// Read a device's configuration space; what lies beyond its end is zero.
pub fn read_config(config: &[u8], offset: u64, into: &mut [u8]) {
    into.fill(0);
    let rest = usize::try_from(offset).ok().and_then(|at| config.get(at..));
    for (byte, value) in into.iter_mut().zip(rest.unwrap_or_default()) {
        *byte = *value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4096), (GuestAddress(8192), 4096)])
            .expect("two pages")
    }

    #[test]
    fn a_range_must_lie_in_one_allowed_range() {
        let allowed = || [0..4096, 8192..12288];
        assert_eq!(check(0, 4096, allowed()), Ok(()));
        assert_eq!(check(4096, 0, allowed()), Ok(()));
        assert_eq!(check(8192, 4096, allowed()), Ok(()));
        for (at, len) in [
            (0, 4097),
            (4095, 2),
            (5000, 1),
            (u64::MAX, 2),
            (u64::MAX, u64::MAX),
            (12288, 1),
        ] {
            assert_eq!(check(at, len, allowed()), Err(OutOfRange { at, len }));
        }
    }

    #[test]
    fn a_copy_that_does_not_fit_writes_nothing() {
        let memory = memory();
        assert_eq!(
            copy_out(&memory, 4090, &[7; 12]),
            Err(OutOfRange { at: 4090, len: 12 })
        );
        let mut byte = [9];
        assert_eq!(copy_in(&memory, 4090, &mut byte), Ok(()));
        assert_eq!(byte, [0]);
        assert_eq!(copy_out(&memory, 4090, &[7; 6]), Ok(()));
        assert_eq!(copy_in(&memory, 4095, &mut byte), Ok(()));
        assert_eq!(byte, [7]);
        assert_eq!(
            copy_in(&memory, 4095, &mut [0; 2]),
            Err(OutOfRange { at: 4095, len: 2 })
        );
    }
}
