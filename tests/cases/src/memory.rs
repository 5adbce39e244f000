//! Physical memory, through the direct map of the hypervisor's page tables, which the kernel's own
//! keep.

use core::{ptr, slice};

use hypercall_abi::boot::{BootInfo, Range};
use hypercall_abi::layout::DIRECT_MAP;

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// A copy of the boot information.
pub fn boot_information(at: *const BootInfo) -> BootInfo {
    // SAFETY: the hypervisor entered the kernel with its address.
    unsafe { ptr::read_volatile(at) }
}

/// What the hypervisor placed in memory: the initial ramdisk, or the command line.
pub fn bytes(range: Range) -> &'static [u8] {
    // SAFETY: the hypervisor filled it, and this kernel writes nothing but the frames of `place`,
    // which `machine::init` has found to be elsewhere.
    unsafe { slice::from_raw_parts((DIRECT_MAP + range.start) as *const u8, range.len as usize) }
}

/// The word at a physical address, a multiple of 8.
pub fn read(at: u64) -> u64 {
    // SAFETY: callers name words of tables and of the frames of `place`; the direct map has them.
    unsafe { ptr::read_volatile((DIRECT_MAP + at) as *const u64) }
}

/// Change such a word.
pub fn write(at: u64, value: u64) {
    // SAFETY: as in `read`; no reference leads to these frames.
    unsafe { ptr::write_volatile((DIRECT_MAP + at) as *mut u64, value) };
}

/// Copy a page.
pub fn copy_page(from: u64, to: u64) {
    // SAFETY: as in `write`; callers name two different frames.
    unsafe {
        ptr::copy_nonoverlapping(
            (DIRECT_MAP + from) as *const u64,
            (DIRECT_MAP + to) as *mut u64,
            PAGE as usize / 8,
        );
    }
}
