//! The frame of an event.

use core::mem::offset_of;

use crate::segments::{USER_CODE, USER_DATA};
use crate::x86;

/// The registers at an event: those that the processor saved, and all the others.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

// entry.S pushes the registers in this order.
const _: () = assert!(offset_of!(Frame, rax) == 112 && offset_of!(Frame, vector) == 120);
const _: () = assert!(size_of::<Frame>() == 176 && offset_of!(Frame, cs) == 120 + 24);

/// The flags that are shown: not those of arithmetic, which some instructions leave undefined, and
/// not RF, which the processor sets as it likes for aborts and traps.
const SHOWN: u64 = 2 | x86::TF | x86::IF | x86::DF | x86::IOPL | x86::NT | x86::AC;

impl Frame {
    /// The registers of a program that is about to start.
    pub fn user(rip: u64, rsp: u64) -> Self {
        Self {
            rip,
            rsp,
            cs: u64::from(USER_CODE),
            ss: u64::from(USER_DATA),
            rflags: x86::IF | 2,
            ..Self::default()
        }
    }

    /// The flags that the trace shows.
    pub fn shown_flags(&self) -> u64 {
        self.rflags & SHOWN
    }

    /// A number that depends on every general register.
    pub fn sum(&self) -> u64 {
        [
            self.r15, self.r14, self.r13, self.r12, self.r11, self.r10, self.r9, self.r8, self.rbp,
            self.rdi, self.rsi, self.rdx, self.rcx, self.rbx, self.rax,
        ]
        .iter()
        .fold(0, |sum: u64, register| sum.rotate_left(3) ^ register)
    }

    /// Whether a user was interrupted, or called.
    pub fn is_user(&self) -> bool {
        self.cs & 3 != 0
    }
}
