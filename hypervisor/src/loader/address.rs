//! The few facts about x86-64 addresses that the readers share.

use std::ops::RangeInclusive;

/// Bytes of the page by which memory is mapped and protected.
pub(super) const PAGE: u64 = 4096;

/// Whether a processor with 48-bit linear addresses can use `address` at all.
pub(super) fn is_canonical(address: u64) -> bool {
    // SDM vol. 1, 3.3.7.1: bits 63..47 are all equal.
    matches!(address >> 47, 0 | 0x1_ffff)
}

/// The first and last page that `len` bytes at `start` touch, by number; `None` if there are none.
pub(super) fn pages(start: u64, len: u64) -> Option<RangeInclusive<u64>> {
    let last = start.checked_add(len.checked_sub(1)?)?;
    Some(start / PAGE..=last / PAGE)
}

/// `bytes` rounded up to whole pages; `u64::MAX` stands for what 64 bits cannot hold.
pub(super) fn round_up(bytes: u64) -> u64 {
    bytes.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX)
}
