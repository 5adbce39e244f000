//! The code as bytes to copy, and the addresses of its points.

use std::arch::global_asm;

use super::layout::{self, APIC, FRAME_PAGE, SLOT_END};
use crate::monitor::gates::KvmKind;

/// The port that stubs leave through.
pub const TRAP_PORT: u16 = 0xe5;
/// Bytes from one stub to the next.
const STUB_SIZE: u64 = 8;
const SYSCALL: u64 = 256;
const SYSCALL_32: u64 = 257;
const IDLE: u64 = 258;

global_asm!(
    ".set TRAP_PORT, {TRAP_PORT}",
    ".set STUB_SIZE, {STUB_SIZE}",
    ".set STUBS, {STUBS}",
    ".set FRAME_ROOT, {ROOT}",
    ".set FRAME, {FRAME}",
    ".set END_OF_INTERRUPT, {END}",
    ".set FAST, {FAST}",
    ".set FAST_RAX, {FAST_RAX}",
    ".set FAST_BOTH, {FAST_BOTH}",
    include_str!("entry.S"),
    TRAP_PORT = const TRAP_PORT,
    STUB_SIZE = const STUB_SIZE,
    STUBS = const IDLE,
    ROOT = const FRAME_PAGE * 4096 + layout::ROOT,
    FRAME = const FRAME_PAGE * 4096 + SLOT_END - 40,
    FAST = const FRAME_PAGE * 4096 + layout::FAST,
    FAST_BOTH = const layout::FAST_BOTH,
    FAST_RAX = const FRAME_PAGE * 4096 + layout::FAST_RAX,
    END = const APIC * 4096 + 0xb0, // SDM vol. 3, 11.8.5
);

unsafe extern "C" {
    static paravane_native_start: u8;
    static paravane_native_end: u8;
    static paravane_native_points: Points;
}

/// Where the VMM enters the monitor: offsets from its start.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Points {
    /// Sleep until an interrupt.
    pub idle: u64,
    /// Go on with the frame.
    pub resume: u64,
    /// Load a root first.
    pub resume_root: u64,
    /// Make edits first, and load a root.
    pub resume_edits: u64,
    /// End the interrupt that is in service before that.
    pub end_and_edits: u64,
    /// End it, and sleep.
    pub end_and_idle: u64,
    /// Where #GP leaves to the VMM.
    protection: u64,
}

/// The code.
pub fn bytes() -> &'static [u8] {
    // SAFETY: entry.S defines both symbols in this order in one read-only section.
    unsafe {
        let start = &raw const paravane_native_start;
        let len = (&raw const paravane_native_end).offset_from(start);
        std::slice::from_raw_parts(start, len as usize)
    }
}

/// Its points.
pub fn points() -> &'static Points {
    // SAFETY: entry.S defines seven words there, in this order.
    unsafe { &paravane_native_points }
}

/// The event whose stub the guest left through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stub {
    /// A vector: an exception or an interrupt.
    Vector(u8),
    /// SYSCALL, where it reaches CPL 0.
    Syscall,
    /// SYSCALL of 32-bit code, likewise.
    Syscall32,
    /// `idle` was left without an event.
    Idle,
}

impl Stub {
    /// The stub at an instruction pointer, which may be at its `out` or behind it.
    pub fn at(rip: u64) -> Option<Self> {
        let offset = rip.checked_sub(layout::linear(layout::CODE))?;
        match offset / STUB_SIZE {
            vector @ 0..=255 => Some(Self::Vector(vector as u8)),
            SYSCALL => Some(Self::Syscall),
            SYSCALL_32 => Some(Self::Syscall32),
            IDLE => Some(Self::Idle),
            _ => None,
        }
    }
}

/// Where a vector arrives; `fast_traps`: #GP is handled in the monitor where that can be.
pub fn vector(vector: usize, fast_traps: bool) -> u64 {
    const PROTECTION: usize = 13;
    let offset = match vector {
        PROTECTION if !fast_traps => points().protection,
        _ => vector as u64 * STUB_SIZE,
    };
    layout::linear(layout::CODE) + offset
}

/// Where SYSCALL arrives: of 64-bit code, and of 32-bit code. At CPL 3 that is the pad.
pub fn syscall_targets(kind: KvmKind) -> (u64, u64) {
    let stub = |number| layout::linear(layout::CODE) + number * STUB_SIZE;
    match kind {
        KvmKind::Hardware => (stub(SYSCALL), stub(SYSCALL_32)),
        KvmKind::Software => (layout::linear(layout::PAD), stub(SYSCALL_32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_fits_its_page_and_a_stub_is_known_by_every_address_in_it() {
        assert!(bytes().len() <= 4096, "{} bytes", bytes().len());
        assert_eq!(bytes()[..2], [0xe7, TRAP_PORT as u8]);
        assert_eq!(
            bytes()[8 * 14..][..5],
            [0x0f, 0x20, 0xd4, 0xe7, TRAP_PORT as u8]
        );
        assert_eq!(points().idle, IDLE * STUB_SIZE);
        // `jmp`, five bytes, and `out`.
        assert_eq!(vector(13, false), vector(13, true) + 5);
        assert_eq!(bytes()[8 * 13 + 5..][..2], [0xe7, TRAP_PORT as u8]);
        for offset in 0..8 {
            assert_eq!(Stub::at(vector(13, true) + offset), Some(Stub::Vector(13)));
        }
        assert_eq!(
            Stub::at(syscall_targets(KvmKind::Hardware).0 + 2),
            Some(Stub::Syscall)
        );
        assert_eq!(
            Stub::at(layout::linear(layout::CODE) + points().resume),
            None
        );
        assert_eq!(Stub::at(0x1000), None);
    }
}
