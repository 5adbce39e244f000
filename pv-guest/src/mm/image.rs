//! Where the kernel image lies, as the linker script says.

use core::ops::Range;

use hypercall_abi::layout::KERNEL_BASE;

use super::STACKS;

/// The parts of the kernel image, by virtual address; each starts and ends at a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Code.
    pub text: Range<u64>,
    /// Constants.
    pub rodata: Range<u64>,
    /// Data, zeroed data and the boot stack.
    pub data: Range<u64>,
}

impl Image {
    /// Whether the parts lie in the place that the kernel's address map has for them.
    pub fn is_well_placed(&self) -> bool {
        [&self.text, &self.rodata, &self.data].iter().all(|part| {
            let is_aligned = part.start.is_multiple_of(4096) && part.end.is_multiple_of(4096);
            is_aligned && KERNEL_BASE <= part.start && part.start <= part.end && part.end <= STACKS
        })
    }

    /// The guest-physical memory that the image takes.
    pub fn phys(&self) -> Range<u64> {
        let start = self.text.start.min(self.rodata.start).min(self.data.start);
        let end = self.text.end.max(self.rodata.end).max(self.data.end);
        start - KERNEL_BASE..end - KERNEL_BASE
    }
}

/// The running image.
#[cfg(not(test))]
pub fn image() -> Image {
    unsafe extern "C" {
        static __text_start: u8;
        static __text_end: u8;
        static __rodata_start: u8;
        static __rodata_end: u8;
        static __data_start: u8;
        static __kernel_end: u8;
    }
    Image {
        text: (&raw const __text_start) as u64..(&raw const __text_end) as u64,
        rodata: (&raw const __rodata_start) as u64..(&raw const __rodata_end) as u64,
        data: (&raw const __data_start) as u64..(&raw const __kernel_end) as u64,
    }
}

/// An image as a linker could have placed it.
#[cfg(test)]
pub fn image() -> Image {
    let at = |offset: u64| KERNEL_BASE + 0x20_0000 + offset;
    Image {
        text: at(0)..at(0x3_5000),
        rodata: at(0x3_5000)..at(0x4_2000),
        data: at(0x4_2000)..at(0x6_1000),
    }
}
