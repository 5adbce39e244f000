//! Where the monitor of a deprivileged native guest is.
//!
//! ```text
//! guest-physical                            linear, supervisor, in every shadow root
//! fd10_0000  MONITOR   256 pages            ffff_ffff_ffe0_0000  WINDOW, pages as below
//!                                           ffff_ffff_f000_0000  PATCHES, in the kernel view alone
//! fd20_0000  TABLES    shadow page tables   \ ffff_ffff_c000_0000 + physical - POOL_BASE
//! fe00_0000  COPIES    copies of code       / (read, write)
//! fe80_0000  end
//! ```
//!
//! The guest's own tables do not map any of it, and the shadow refuses guest addresses that lead
//! there, but for the shared page of the benchmark.

use hypercall_abi::boot::Range;
use hypercall_abi::layout::{self, MONITOR_GIB, WINDOW};

/// Guest-physical: what the linear map of the pool starts with.
pub const POOL_BASE: u64 = 0xfd00_0000;
/// Guest-physical: the monitor's pages.
pub const MONITOR: u64 = 0xfd10_0000;
/// Guest-physical: shadow page tables.
pub const TABLES: u64 = 0xfd20_0000;
/// Guest-physical: copies of pages with code.
pub const COPIES: u64 = 0xfe00_0000;
/// Guest-physical: one past the copies.
pub const END: u64 = 0xfe80_0000;

/// All of it.
pub const REGION: Range = Range {
    start: MONITOR,
    len: END - MONITOR,
};

/// Guest-physical: a page without memory, which stands for all that the guest shall not see.
pub const HOLE: u64 = layout::DOORBELL_PHYS;
/// The pool: tables and copies.
pub const POOL: Range = Range {
    start: TABLES,
    len: END - TABLES,
};

/// Page numbers within the monitor's pages, and within the window.
pub const CODE: u64 = 0;
/// The interrupt descriptor table, a page. (Page 1 of the window is the probe's doorbell.)
pub const IDT: u64 = 2;
/// What runs at CPL 3 at LSTAR, where SYSCALL stays at CPL 3: where a pv guest has it too.
pub const PAD: u64 = 3;
/// GDT and TSS.
pub const DESCRIPTORS: u64 = 4;
/// The frame of the last event, and what the way back needs.
pub const FRAME_PAGE: u64 = 5;
/// Changes of shadow entries, for the way back.
pub const EDITS_PAGE: u64 = 6;
/// Stacks of NMI, #DF, #MC and #DB, and of `idle`.
pub const STACKS: u64 = 7;
/// The page directory of `MONITOR_GIB`.
pub const DIRECTORY: u64 = 8;
/// The page table of the window.
pub const TABLE: u64 = 9;
/// The four tables of the probe, from the root down.
pub const PROBE: u64 = 10;
/// Of the window alone: the local APIC.
pub const APIC: u64 = 15;
/// The virtual interrupt flag that patched code reads and writes.
pub const FLAG: u64 = 16;
/// Where patched code keeps RCX for a moment.
pub const SAVE: u64 = 17;
/// What POPF's bits mean for patched code, and what PUSHF shows (see `patch::inline`).
pub const FLAG_TABLES: u64 = 18;
/// The page directory of `MONITOR_GIB` in the kernel view.
pub const KERNEL_DIRECTORY: u64 = 21;
/// The page tables of [`PATCHES`].
pub const PATCH_TABLES: u64 = 22;
/// One instruction that is executed aside.
pub const ASIDE: u64 = 31;
/// Pages for patched code.
pub const PATCH_CODE: Range = Range {
    start: 32,
    len: 224,
};

/// Linear, in the kernel view, accessible at CPL 3: what patched code uses, and patched code.
pub const PATCHES: u64 = MONITOR_GIB + 0x3000_0000;
/// How much that is: a jump's displacement can have any three low bytes (see `patch::area`).
pub const PATCHES_LEN: u64 = 16 << 20;
/// Page numbers within [`PATCHES`]: the flag for who clears and reads it,
pub const PATCH_FLAG: u64 = 0;
/// the flag for who sets it: not mapped while an interrupt waits,
pub const PATCH_SET: u64 = 1;
/// a page that is never mapped,
pub const PATCH_NEVER: u64 = 2;
/// [`SAVE`],
pub const PATCH_SAVE: u64 = 3;
/// the three [`FLAG_TABLES`],
pub const PATCH_FLAG_TABLES: u64 = 4;
/// one instruction that is executed aside, [`ASIDE`],
pub const PATCH_ASIDE: u64 = 8;
/// and the first one for code.
pub const PATCH_FIRST: u64 = 16;

/// The linear address of one of the pages of [`PATCHES`].
pub const fn patch_linear(page: u64) -> u64 {
    PATCHES + page * 4096
}

/// The guest-physical address of the page table entry of a linear address in [`PATCHES`].
pub const fn patch_entry(at: u64) -> u64 {
    phys(PATCH_TABLES) + (at - PATCHES) / 4096 * 8
}

/// Offset in the frame page: one past the slot that events store their frame in.
pub const SLOT_END: u64 = 0x800;
/// Offset in the frame page: the root that the way back loads.
pub const ROOT: u64 = 0x000;
/// Offset in the frame page: what #GP may be handled in the monitor, a double word: nothing (0), CLI, or
/// CLI and STI.
pub const FAST: u64 = 0x008;
/// In that word: CLI. The interpreter of kvm_pvm lets no interrupt in within three instructions, so it is
/// not found there whether STI would let one in.
pub const FAST_CLI: u32 = 1;
/// In that word: CLI and STI.
pub const FAST_BOTH: u32 = 2;
/// Offset in the frame page: the guest's RAX meanwhile.
pub const FAST_RAX: u64 = 0x010;
/// How many edits the way back can make.
pub const EDITS: usize = 100;

/// The linear address of one of the monitor's pages.
pub const fn linear(page: u64) -> u64 {
    WINDOW + page * 4096
}

/// The guest-physical address of one of the monitor's pages.
pub const fn phys(page: u64) -> u64 {
    MONITOR + page * 4096
}

/// The linear address, for the monitor, of a guest-physical one in the pool.
pub const fn pool_linear(phys: u64) -> u64 {
    MONITOR_GIB + (phys - POOL_BASE)
}

// Three words an edit, the end's mark, and two registers.
const _: () = assert!((EDITS * 3 + 3) * 8 <= 4096);
const _: () = assert!(TABLES.is_multiple_of(2 << 20) && END.is_multiple_of(2 << 20));
const _: () = assert!(linear(PAD) == layout::PAD_PAGE);
const _: () = assert!(linear(1) == layout::DOORBELL_PAGE);
const _: () = assert!(MONITOR + (PATCH_CODE.start + PATCH_CODE.len) * 4096 <= TABLES);
const _: () = assert!(PATCHES_LEN / (2 << 20) <= PATCH_CODE.start - PATCH_TABLES);
const _: () = assert!(PATCHES + PATCHES_LEN <= WINDOW && PATCHES.is_multiple_of(2 << 20));
const _: () = assert!(pool_linear(END) <= PATCHES);
// The most that waits in the shadow, and the two entries of the flag.
const _: () = assert!(crate::machine::shadow::MAX_EDITS + 2 <= EDITS);
