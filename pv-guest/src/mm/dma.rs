//! Memory that devices reach: adjacent frames, seen through the direct map.

use core::ops::{Deref, DerefMut};

use hypercall_abi::Frame;
use hypercall_abi::types::PAGE_SIZE;

use super::{frames, to_virt};

/// A buffer for a device.
#[derive(Debug)]
pub struct DmaBuffer {
    first: Frame,
    pages: u64,
}

impl DmaBuffer {
    /// A buffer of zeros, of whole pages and at least one; `None` when there is no such room.
    pub fn new(bytes: usize) -> Option<Self> {
        let pages = (bytes as u64).div_ceil(PAGE_SIZE).max(1);
        let first = frames::take_run(pages, 1)?;
        let mut buffer = Self { first, pages };
        buffer.fill(0);
        Some(buffer)
    }

    /// The guest-physical address of its first byte.
    pub fn phys(&self) -> u64 {
        self.first.start().0
    }

    /// Give the frames away: who gets them gives them back with [`Self::from_parts`].
    pub fn into_parts(self) -> (Frame, u64) {
        let parts = (self.first, self.pages);
        core::mem::forget(self);
        parts
    }

    /// Take frames back.
    ///
    /// # Safety
    /// They come from [`Self::into_parts`], and nobody refers to them any more.
    pub unsafe fn from_parts((first, pages): (Frame, u64)) -> Self {
        Self { first, pages }
    }
}

impl Deref for DmaBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let at = to_virt(self.phys()) as *const u8;
        // SAFETY: `take_run` hands these frames out once, the direct map holds them all, and whoever gives
        // the buffer to a device borrows it until the device is done.
        unsafe { core::slice::from_raw_parts(at, (self.pages * PAGE_SIZE) as usize) }
    }
}

impl DerefMut for DmaBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let at = to_virt(self.phys()) as *mut u8;
        // SAFETY: as in `deref`, and the buffer is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(at, (self.pages * PAGE_SIZE) as usize) }
    }
}

impl Drop for DmaBuffer {
    fn drop(&mut self) {
        frames::put_run(self.first, self.pages);
    }
}
