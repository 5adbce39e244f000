//! What a guest learns at its entry, and what an image says of itself.
//!
//! The entry: 64-bit mode, interrupts off, the address of the [`BootInfo`] (in the direct map) in
//! `rdi`, no stack. In `hvm` the processor is at CPL 0 with the hypervisor's flat GDT and no IDT;
//! in `pv` it is at CPL 3 on the monitor, with `hold.cli` set.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The version of this interface. Any change that an old guest or host would misread raises it.
pub const ABI_VERSION: u32 = 1;

/// `BootInfo::magic`: "PARAVANE", little-endian.
pub const MAGIC: u64 = u64::from_le_bytes(*b"PARAVANE");

/// Features that this hypervisor offers, as bits of [`BootInfo::features`].
pub mod feature {
    /// The batch ring is drained.
    pub const BATCH: u64 = 1 << 0;
    /// The shared page counts exits and calls.
    pub const EXIT_COUNT: u64 = 1 << 1;
    /// User roots work: `set_user_root`, the user window and the slot `enter_user`.
    pub const USER_ROOT: u64 = 1 << 2;
    /// All that this version of the interface defines.
    pub const ALL: u64 = BATCH | EXIT_COUNT | USER_ROOT;
}

/// Kinds of guest image, as an image's note names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ImageKind {
    /// Hooks are compiled to privileged instructions: for `hvm`, `trap` and `patch`.
    Native = 1,
    /// Hooks are compiled to calls: for `pv`.
    Pv = 2,
}

/// The owner's name in the ELF note of an image, with its terminator.
pub const NOTE_NAME: [u8; 9] = *b"Paravane\0";
/// The type of the ELF note of an image.
pub const NOTE_TYPE: u32 = 1;

/// The content of an image's ELF note: what the image expects of its hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ImageNote {
    /// The interface version that the image speaks.
    pub abi_version: u32,
    /// An [`ImageKind`] by number.
    pub kind: u32,
    /// Features that the image cannot do without.
    pub features: u64,
}

/// The whole ELF note, ready to be placed in a section named `.note.paravane`.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4))]
pub struct ElfNote {
    name_len: u32,
    desc_len: u32,
    note_type: u32,
    name: [u8; 12],
    desc: [u32; 4],
}

impl ElfNote {
    /// The note of an image of this kind that needs these features.
    pub const fn new(kind: ImageKind, features: u64) -> Self {
        let n = NOTE_NAME;
        Self {
            name_len: NOTE_NAME.len() as u32,
            desc_len: size_of::<ImageNote>() as u32,
            note_type: NOTE_TYPE,
            name: [
                n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], 0, 0, 0,
            ],
            desc: [
                ABI_VERSION,
                kind as u32,
                features as u32,
                (features >> 32) as u32,
            ],
        }
    }
}

/// A range of guest-physical memory.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Range {
    /// The first byte's address.
    pub start: u64,
    /// The length in bytes.
    pub len: u64,
}

impl Range {
    /// One past the last byte's address.
    pub const fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// At most this many ranges of memory are described.
pub const MAX_RANGES: usize = 4;

/// What the hypervisor tells a guest at its entry.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootInfo {
    /// [`MAGIC`].
    pub magic: u64,
    /// The hypervisor's [`ABI_VERSION`].
    pub abi_version: u32,
    /// The number of ranges in `memory`.
    pub memory_ranges: u32,
    /// The features that the hypervisor offers.
    pub features: u64,
    /// All memory, whatever its use. What the hypervisor placed nothing in is zero at the entry.
    pub memory: [Range; MAX_RANGES],
    /// The kernel image's memory.
    pub kernel: Range,
    /// The initial ramdisk, length 0 without one.
    pub initrd: Range,
    /// The command line, without its terminator.
    pub command_line: Range,
    /// The boot page tables' root, as a guest-physical address.
    pub root: u64,
    /// Guest-physical address of this vCPU's shared page.
    pub shared: u64,
    /// Page directory to map at `MONITOR_GIB` in a kernel root (`pv`).
    pub kernel_view: u64,
    /// Page directory to map at `MONITOR_GIB` in a user root (`pv`).
    pub user_view: u64,
    /// Frequency of the local APIC's timer with a divisor of 1, in hertz.
    pub apic_timer_hz: u64,
    /// Frequency of the TSC, in kilohertz.
    pub tsc_khz: u64,
    /// 1 when a person sits at the console, so that a prompt and an echo make sense.
    pub interactive: u64,
}

const _: () = assert!(size_of::<BootInfo>() <= 4096);

impl BootInfo {
    /// Check what a guest was handed.
    ///
    /// # Errors
    /// [`crate::CallError::BadArgument`] when this is no boot information, and
    /// [`crate::CallError::Version`] when it is of another version.
    pub fn check(&self) -> Result<(), crate::CallError> {
        match (self.magic, self.abi_version) {
            (MAGIC, ABI_VERSION) => Ok(()),
            (MAGIC, _) => Err(crate::CallError::Version),
            _ => Err(crate::CallError::BadArgument),
        }
    }
}
