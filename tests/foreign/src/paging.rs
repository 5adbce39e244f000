//! Page tables of four levels: the kernel's upper half, and a lower half a process.

use hypercall_abi::boot::BootInfo;
use hypercall_abi::layout;

use crate::{memory, x86};

/// A page is mapped.
pub const PRESENT: u64 = 1;
/// It may be written.
pub const WRITE: u64 = 2;
/// CPL 3 may use it.
pub const USER: u64 = 4;
/// The processor has used it.
pub const ACCESSED: u64 = 1 << 5;
/// The processor has written to it.
pub const DIRTY: u64 = 1 << 6;
/// It may not be executed.
pub const NO_EXECUTE: u64 = 1 << 63;
/// Page table entry: uncached, as registers have to be.
pub const UNCACHED: u64 = 0b11 << 3;
const LARGE: u64 = 1 << 7;
/// The address in an entry.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Where the kernel maps all memory, in pages of 2 MiB.
pub const DIRECT_MAP: u64 = 0xffff_c000_0000_0000;
/// Where the kernel maps the local APIC.
pub const APIC: u64 = 0xffff_d000_0000_0000;
/// Where the checks map what they like.
pub const SCRATCH: u64 = 0xffff_d000_4000_0000;
/// Page tables of 4 KiB have this level; 2 MiB is one more, and the root has 3.
const LEAF: u32 = 0;
const ROOT: u32 = 3;
const LARGE_SIZE: u64 = 2 << 20;

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __kernel_end: u8;
}

/// An address space, by the physical address of its root.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Space(pub u64);

/// The kernel's own space.
static KERNEL: crate::cell::OneCpu<Space> = crate::cell::OneCpu::new(Space(0));

/// The kernel's own space.
pub fn kernel() -> Space {
    KERNEL.with(|space| *space)
}

/// Build the kernel's half and switch to it.
pub fn init(boot: &BootInfo) {
    let space = Space(memory::take());
    for at in (0..boot.memory[0].end()).step_by(LARGE_SIZE as usize) {
        let entry = space.entry(DIRECT_MAP + at, LEAF + 1);
        memory::write(entry, at | PRESENT | WRITE | NO_EXECUTE | LARGE);
    }
    let parts = [
        (&raw const __text_start, &raw const __text_end, 0),
        (
            &raw const __rodata_start,
            &raw const __rodata_end,
            NO_EXECUTE,
        ),
        (
            &raw const __data_start,
            &raw const __kernel_end,
            NO_EXECUTE | WRITE,
        ),
    ];
    for (start, end, rights) in parts {
        for at in (start as u64..end as u64).step_by(4096) {
            space.map(at, at - layout::KERNEL_BASE, rights);
        }
    }
    space.map(APIC, layout::APIC_PHYS, WRITE | NO_EXECUTE | UNCACHED);
    space.load();
    memory::set_direct_map(DIRECT_MAP);
    KERNEL.with(|kernel| *kernel = space);
}

fn index(at: u64, level: u32) -> u64 {
    at >> (12 + 9 * level) & 511
}

impl Space {
    /// A space with nothing in its lower half.
    pub fn new() -> Self {
        let (root, kernel) = (memory::take(), kernel().0);
        for slot in 256..512 {
            memory::write(root + slot * 8, memory::read(kernel + slot * 8));
        }
        Self(root)
    }

    /// Use it.
    pub fn load(self) {
        x86::set_cr3(self.0);
    }

    /// The physical address of the entry of a level for an address, with the tables above it.
    fn entry(self, at: u64, level: u32) -> u64 {
        let mut table = self.0;
        for above in (level + 1..=ROOT).rev() {
            let slot = table + index(at, above) * 8;
            let mut entry = memory::read(slot);
            if entry & PRESENT == 0 {
                // The leaves' rights decide; only the lower half has pages of users.
                let user = if at < 1 << 47 { USER } else { 0 };
                entry = memory::take() | PRESENT | WRITE | user;
                memory::write(slot, entry);
            }
            table = entry & ADDRESS;
        }
        table + index(at, level) * 8
    }

    /// The physical address of the last entry for an address.
    pub fn leaf(self, at: u64) -> u64 {
        self.entry(at, LEAF)
    }

    /// Map a page.
    pub fn map(self, at: u64, frame: u64, rights: u64) {
        memory::write(self.leaf(at), frame | PRESENT | rights);
    }

    /// The physical address behind a user's address, if the user may read it.
    pub fn user_address(self, at: u64) -> Option<u64> {
        let mut table = self.0;
        if at >= 1 << 47 {
            return None;
        }
        for level in (LEAF..=ROOT).rev() {
            let entry = memory::read(table + index(at, level) * 8);
            if entry & (PRESENT | USER) != PRESENT | USER {
                return None;
            }
            table = entry & ADDRESS;
        }
        Some(table + at % memory::FRAME)
    }

    /// Return all frames of the lower half, tables included, and the root. It is not in use.
    pub fn give(self) {
        give_table(self.0, ROOT, 256);
    }
}

fn give_table(table: u64, level: u32, slots: u64) {
    let end = table + slots * 8;
    let mut slot = table;
    while let Some(used) = memory::find_used(slot, end) {
        let at = memory::read(used) & ADDRESS;
        if level == LEAF {
            memory::give(at);
        } else {
            give_table(at, level - 1, 512);
        }
        slot = used + 8;
    }
    memory::give(table);
}
