//! Places the initramfs: at the top of memory, out of the way of a kernel that grows upwards.
//! Called by vm once the kernel is planned. The bytes stay opaque: unpacking is the guest's work.

use std::ops::Range;

use super::address::{PAGE, round_up};
use super::error::ImageError;

/// Bytes that must stay free between the kernel and the initramfs: the guest builds its page
/// tables, heap and unpacked files there. An archive's content may need more; that is for the
/// guest to report.
pub const MIN_FREE: u64 = 16 << 20;

/// Where the initramfs goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InitrdPlacement {
    /// Its guest-physical address, a multiple of 4 KiB.
    pub start: u64,
    /// Its length in bytes, at least 1.
    pub len: u64,
}

impl InitrdPlacement {
    /// The guest-physical addresses that it takes.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start.saturating_add(self.len)
    }
}

/// Places `len` bytes below `memory`, the end of the RAM that begins at 0, with [`MIN_FREE`] bytes
/// left above `kernel_end` ([`Plan::phys_range`](super::Plan::phys_range)'s end).
///
/// # Errors
/// [`ImageError::InitrdEmpty`] and [`ImageError::InitrdTooLarge`].
pub fn check(len: u64, memory: u64, kernel_end: u64) -> Result<InitrdPlacement, ImageError> {
    if len == 0 {
        return Err(ImageError::InitrdEmpty);
    }
    let taken = round_up(len);
    let needed = round_up(kernel_end)
        .saturating_add(MIN_FREE)
        .saturating_add(taken);
    // A last page that is not whole cannot hold anything.
    let available = memory.saturating_sub(memory % PAGE);
    match available.checked_sub(taken) {
        Some(start) if needed <= available => Ok(InitrdPlacement { start, len }),
        _ => Err(ImageError::InitrdTooLarge {
            len,
            kernel_end,
            free: MIN_FREE,
            needed,
            available,
        }),
    }
}
