//! The saved registers of an interrupted context, shared with each image's entry assembly.

use core::mem::offset_of;

/// What an event interrupted. In the pv image bit 9 (IF) of `rflags` is the *virtual* flag.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct TrapFrame {
    /// General register.
    pub r15: u64,
    /// General register.
    pub r14: u64,
    /// General register.
    pub r13: u64,
    /// General register.
    pub r12: u64,
    /// General register.
    pub r11: u64,
    /// General register.
    pub r10: u64,
    /// General register.
    pub r9: u64,
    /// General register.
    pub r8: u64,
    /// General register.
    pub rbp: u64,
    /// General register.
    pub rdi: u64,
    /// General register.
    pub rsi: u64,
    /// General register.
    pub rdx: u64,
    /// General register.
    pub rcx: u64,
    /// General register.
    pub rbx: u64,
    /// General register.
    pub rax: u64,
    /// The event's vector (SDM vol. 3, table 6-1), or an entry beyond the vectors
    /// (`hypercall_abi::layout::ENTRY_SYSCALL` and on).
    pub vector: u64,
    /// The error code, 0 for events without one.
    pub error: u64,
    /// Instruction pointer.
    pub rip: u64,
    /// Code selector.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack selector.
    pub ss: u64,
}

/// Bytes of a [`TrapFrame`].
pub const FRAME_SIZE: usize = size_of::<TrapFrame>();

const _: () = assert!(FRAME_SIZE == 22 * 8);
const _: () = assert!(offset_of!(TrapFrame, rax) == 14 * 8);
const _: () = assert!(offset_of!(TrapFrame, vector) == 15 * 8);
const _: () = assert!(offset_of!(TrapFrame, rip) == 17 * 8);
