//! The direct map: where guest-physical memory appears to the kernel.

use hypercall_abi::boot::{BootInfo, Range};
use hypercall_abi::layout::{DIRECT_MAP, KERNEL_BASE};
use x86_64::structures::paging::PageTable;

use super::tables::TableMemory;
use super::{STACKS, frames};

/// One past the highest guest-physical address that the direct map has room for: 512 GiB.
pub const MEMORY_END: u64 = 1 << 39;

/// The longest text that [`boot_bytes`] hands out.
const BOOT_BYTES_MAX: u64 = 4096;

/// Where the kernel sees a guest-physical address of memory.
pub const fn to_virt(phys: u64) -> u64 {
    DIRECT_MAP.wrapping_add(phys)
}

/// The guest-physical address behind an address of the direct map or of the kernel image.
/// `None` elsewhere: ask [`super::translate`] there.
pub const fn to_phys(virt: u64) -> Option<u64> {
    if virt >= KERNEL_BASE && virt < STACKS {
        Some(virt - KERNEL_BASE)
    } else if virt >= DIRECT_MAP && virt - DIRECT_MAP < MEMORY_END {
        Some(virt - DIRECT_MAP)
    } else {
        None
    }
}

/// The bytes of a range that the boot information names, if it lies in memory and is at most a page
/// long: the command line.
pub fn boot_bytes(info: &'static BootInfo, range: Range) -> Option<&'static [u8]> {
    let count = usize::try_from(info.memory_ranges).ok()?;
    let is_inside = |memory: &Range| memory.start <= range.start && range.end() <= memory.end();
    let is_memory = info.memory.iter().take(count).any(is_inside) && range.end() <= MEMORY_END;
    if !is_memory || range.len > BOOT_BYTES_MAX {
        return None;
    }
    let len = usize::try_from(range.len).ok()?;
    // SAFETY: the range is memory, which both the boot tables and the kernel's own map at the
    // direct map; the hypervisor placed it outside the usable frames, and never writes it again.
    Some(unsafe { core::slice::from_raw_parts(to_virt(range.start) as *const u8, len) })
}

/// Page tables in frames of the direct map.
#[derive(Debug)]
pub struct DirectMemory;

impl TableMemory for DirectMemory {
    fn take_table(&mut self) -> Option<u64> {
        frames::take_zeroed().map(|frame| frame.start().0)
    }

    unsafe fn table(&mut self, at: u64) -> &mut PageTable {
        // SAFETY: the caller vouches that a table is at `at`; the direct map holds every frame that
        // `take_table` hands out, in the boot tables and in the kernel's own. The exclusive borrow
        // of `self`, which exists once, in `kernel::SPACE`, makes this the only reference.
        unsafe { &mut *(to_virt(at) as *mut PageTable) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_linear_addresses_have_a_computed_frame() {
        assert_eq!(to_phys(to_virt(0x1234)), Some(0x1234));
        assert_eq!(to_phys(KERNEL_BASE + 0x20_0000), Some(0x20_0000));
        assert_eq!(to_phys(STACKS), None);
        assert_eq!(to_phys(0), None);
        assert_eq!(to_phys(to_virt(MEMORY_END)), None);
    }
}
