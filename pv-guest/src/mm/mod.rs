//! Memory: frames, page tables, stacks and the heap. Everything the kernel knows of addresses.
//!
//! ```text
//! ffff_8880_0000_0000  DIRECT_MAP  all memory but the kernel's, rw-
//! ffff_ffff_8000_0000  the image   r-x text, r-- rodata, rw- data and bss; no other alias
//! ffff_ffff_a000_0000  STACKS      a slot a thread: guard, then rw-
//! ffff_ffff_b000_0000  DEVICES     registers, rw- and uncached
//! ffff_ffff_b800_0000  SCRATCH     free to map: the benchmark's
//! ffff_ffff_c000_0000  the monitor's page directory, if there is one
//! ```
//!
//! Nothing below `DIRECT_MAP` is mapped, so address 0 faults. No page is both writable and
//! executable, and no frame is writable through one page and executable through another.

mod direct;
pub mod dma;
mod entry;
mod error;
pub mod frames;
mod heap;
mod image;
mod kernel;
mod spans;
pub mod stacks;
pub mod tables;
mod zone;

use hypercall_abi::boot::BootInfo;

pub use direct::{boot_bytes, to_phys, to_virt};
pub use entry::Entry;
pub use error::MapError;
pub use heap::{HeapUse, heap_use};
pub use image::{Image, image};
pub use kernel::{Root, map, map_mmio, map_shared, root, translate, unmap};
pub use tables::Access;

/// The first thread stack's slot.
pub const STACKS: u64 = 0xffff_ffff_a000_0000;
/// The first device's registers.
pub const DEVICES: u64 = 0xffff_ffff_b000_0000;
/// Pages that nothing is mapped to until somebody calls [`map`]: for the benchmark. They end at the
/// monitor's gigabyte.
pub const SCRATCH: u64 = 0xffff_ffff_b800_0000;

/// Take memory over from the hypervisor: count the frames, build the kernel's page tables, and
/// load them.
///
/// # Errors
/// [`MapError`] when the memory map leaves too little, or the image does not fit its place.
pub fn init(info: &BootInfo) -> Result<(), MapError> {
    let image = image();
    let spans = spans::usable(info);
    frames::init(&spans)?;
    kernel::init(info, &image)
}
