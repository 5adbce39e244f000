//! Memory and registers for drivers. The one place where a driver's access becomes an address.
//!
//! What a safe caller could do wrong is checked here: ranges, alignment, and that registers are no
//! memory. What a device writes into its memory is never a reference, so it may change at any time.

use core::sync::atomic::{AtomicU16, Ordering};

use driver_api::{Dma, EnvError, Mmio};
use hypercall_abi::Frame;
use hypercall_abi::boot::BootInfo;
use hypercall_abi::types::PAGE_SIZE;

use crate::arch::mmio;
use crate::mm::{frames, to_virt, try_map_mmio};

/// Adjacent frames of memory, which the kernel's owner of this and a device use.
#[derive(Debug)]
pub struct DmaMemory {
    first: Frame,
    frames: u64,
    len: usize,
}

impl DmaMemory {
    /// Take memory, zeroed.
    pub(super) fn new(len: usize) -> Result<Self, EnvError> {
        let frames = (len as u64).div_ceil(PAGE_SIZE);
        let first = frames::take_run(frames, 1).ok_or(EnvError::NoMemory)?;
        let memory = Self { first, frames, len };
        // SAFETY: the allocator hands each frame out once; nothing else refers to these yet, and
        // the direct map holds all of them.
        unsafe { memory.start().write_bytes(0, (frames * PAGE_SIZE) as usize) };
        Ok(memory)
    }

    fn start(&self) -> *mut u8 {
        to_virt(self.first.start().0) as *mut u8
    }

    /// The address of `len` bytes at an offset.
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        let is_inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(is_inside, "{offset} + {len} of {} bytes", self.len);
        self.start().wrapping_add(offset)
    }

    /// Two bytes at an offset.
    fn word(&self, offset: usize) -> &AtomicU16 {
        let at: *mut u16 = self.at(offset, 2).cast();
        assert!(at.is_aligned(), "{offset} is odd");
        // SAFETY: these bytes are inside of frames that this owns, aligned, and live as long. The
        // device's own accesses to them are those of another processor: atomic.
        unsafe { AtomicU16::from_ptr(at) }
    }
}

impl Drop for DmaMemory {
    /// The driver has made sure that the device lets go of it: see `driver_api::Request`.
    fn drop(&mut self) {
        frames::put_run(self.first, self.frames);
    }
}

impl Dma for DmaMemory {
    fn phys(&self) -> u64 {
        self.first.start().0
    }

    fn len(&self) -> usize {
        self.len
    }

    fn load_u16(&self, at: usize) -> u16 {
        self.word(at).load(Ordering::Acquire)
    }

    fn store_u16(&self, at: usize, value: u16) {
        self.word(at).store(value, Ordering::Release);
    }

    fn read(&self, at: usize, into: &mut [u8]) {
        let from = self.at(at, into.len());
        // SAFETY: `at` has checked the range, which is in frames of this owner's and not in a
        // Rust object, so `into` is elsewhere. Any byte is a valid one, also while a device writes.
        unsafe { from.copy_to_nonoverlapping(into.as_mut_ptr(), into.len()) };
    }

    fn write(&self, at: usize, from: &[u8]) {
        let to = self.at(at, from.len());
        // SAFETY: as in `read`; no reference to this memory exists.
        unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
    }
}

/// A device's registers, mapped for good.
#[derive(Debug)]
pub struct Registers {
    at: u64,
    len: u64,
}

impl Registers {
    /// Map registers, which must lie outside of the memory that the boot information names: that is
    /// somebody's.
    pub(super) fn map(info: &BootInfo, phys: u64, len: u64) -> Result<Self, EnvError> {
        if !phys.is_multiple_of(4) || touches_memory(info, phys, len) {
            return Err(EnvError::NoRoom);
        }
        let at = try_map_mmio(phys, len).map_err(|_| EnvError::NoRoom)?;
        Ok(Self { at, len })
    }

    fn check(&self, register: u64) -> u64 {
        let is_inside = register.checked_add(4).is_some_and(|end| end <= self.len);
        assert!(
            is_inside && register.is_multiple_of(4),
            "register {register:#x}"
        );
        self.at + register
    }
}

/// Whether any page of a range is memory, or the range has no end.
fn touches_memory(info: &BootInfo, phys: u64, len: u64) -> bool {
    let start = phys - phys % PAGE_SIZE;
    let end = phys
        .checked_add(len)
        .and_then(|end| end.checked_next_multiple_of(PAGE_SIZE));
    let Some(end) = end else { return true };
    let count = usize::try_from(info.memory_ranges).unwrap_or(usize::MAX);
    let mut memory = info.memory.iter().take(count);
    memory.any(|memory| memory.start < end && start < memory.end())
}

impl Mmio for Registers {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, at: u64) -> u32 {
        let at = self.check(at);
        // SAFETY: `map` mapped the registers there, uncached, for good; `check` keeps inside them.
        unsafe { mmio::load(at) }
    }

    fn write(&self, at: u64, value: u32) {
        let at = self.check(at);
        // SAFETY: as in `read`. What the device does is bounded by the memory it was given, which
        // its driver owns.
        unsafe { mmio::store(at, value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::empty_info;
    use hypercall_abi::boot::Range;

    #[test]
    fn registers_are_never_memory() {
        let mut info = empty_info();
        info.memory_ranges = 2;
        info.memory[0] = Range {
            start: 0,
            len: 0xa_0000,
        };
        info.memory[1] = Range {
            start: 0x10_0000,
            len: 0x100_0000,
        };
        for (phys, len, is_memory) in [
            (0xd000_0000, 0x1000, false),
            (0xa_0000, 0x1000, false),
            (0x9_ffff, 1, true),
            (0xf_ffff, 0x2, true),
            // The page that a register shares with memory would be mapped as well.
            (0x110_0000 - 4, 4, true),
            (0x110_0000, 4, false),
            (u64::MAX - 3, 4, true),
            (0x2000, u64::MAX, true),
        ] {
            assert_eq!(touches_memory(&info, phys, len), is_memory, "{phys:#x}");
        }
    }
}
