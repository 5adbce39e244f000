//! What a case is: a few instructions and the state that they start in. Shared by the kernel that
//! runs cases (`main.rs`) and by the host's generator (`tests::differential`).
//!
//! A case has a form of few bytes, which the initial ramdisk holds and, in hexadecimal digits, the
//! corpus. Everything a result can show is at an address that is fixed here, so that a result does
//! not depend on how the kernel was compiled.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod place;
pub mod values;

/// Bytes of a case ahead of its instructions.
pub const HEAD: usize = 40;
/// The most bytes of instructions.
pub const MAX_CODE: usize = 160;
/// Bytes that a case takes in the initial ramdisk.
pub const SIZE: usize = HEAD + MAX_CODE;
/// Words of the stack that a case chooses.
pub const STACK_WORDS: usize = 8;

/// A few instructions and the state that they start in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The privilege level: 0 or 3.
    pub level: u8,
    /// RFLAGS.
    pub rflags: u32,
    /// SS, DS, ES, FS, GS. They must be good ones.
    pub selectors: [u16; 5],
    /// The general registers in the order of their numbers, as indexes into [`values::VALUES`]. RSP
    /// is [`place::RSP`] whatever is said here.
    pub registers: [u8; 16],
    /// The words at RSP, likewise.
    pub stack: [u8; STACK_WORDS],
    /// How many bytes of `code` count.
    pub len: u8,
    /// The instructions. Behind them is nothing but INT3.
    pub code: [u8; MAX_CODE],
}

impl Case {
    /// The instructions.
    pub fn instructions(&self) -> &[u8] {
        self.code.get(..usize::from(self.len)).unwrap_or(&self.code)
    }

    /// The form in the initial ramdisk.
    pub fn to_bytes(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[0] = self.len;
        bytes[1] = self.level;
        bytes[2..6].copy_from_slice(&self.rflags.to_le_bytes());
        for (to, selector) in bytes[6..16].chunks_exact_mut(2).zip(self.selectors) {
            to.copy_from_slice(&selector.to_le_bytes());
        }
        bytes[16..32].copy_from_slice(&self.registers);
        bytes[32..40].copy_from_slice(&self.stack);
        bytes[HEAD..].copy_from_slice(&self.code);
        bytes
    }

    /// A case from its form; `None` for bytes that are none. Bytes may lack behind the instructions.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, code) = bytes.split_at_checked(HEAD)?;
        let len = *head.first()?;
        let instructions = code.get(..usize::from(len))?;
        let mut whole = [0; MAX_CODE];
        whole
            .get_mut(..instructions.len())?
            .copy_from_slice(instructions);
        let half = |at: usize| Some(u16::from_le_bytes([*head.get(at)?, *head.get(at + 1)?]));
        let case = Self {
            len,
            level: *head.get(1)?,
            rflags: u32::from(half(2)?) | u32::from(half(4)?) << 16,
            selectors: [half(6)?, half(8)?, half(10)?, half(12)?, half(14)?],
            registers: head.get(16..32)?.try_into().ok()?,
            stack: head.get(32..40)?.try_into().ok()?,
            code: whole,
        };
        matches!(case.level, 0 | 3).then_some(case)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> Case {
        let mut code = [0; MAX_CODE];
        code[..3].copy_from_slice(&[0x0f, 0x01, 0xf8]);
        Case {
            level: 3,
            rflags: 0x0012_3456,
            selectors: [1, 0x202, 3, 4, 0xfff5],
            registers: core::array::from_fn(|at| at as u8 + 7),
            stack: [9, 8, 7, 6, 5, 4, 3, 2],
            len: 3,
            code,
        }
    }

    #[test]
    fn a_case_is_its_form() {
        let bytes = case().to_bytes();
        assert_eq!(Case::from_bytes(&bytes), Some(case()));
        assert_eq!(Case::from_bytes(&bytes[..HEAD + 3]), Some(case()));
    }

    #[test]
    fn what_lacks_instructions_or_a_level_is_no_case() {
        let mut bytes = case().to_bytes();
        for len in [0, HEAD - 1, HEAD + 2] {
            assert_eq!(Case::from_bytes(&bytes[..len]), None);
        }
        bytes[1] = 2;
        assert_eq!(Case::from_bytes(&bytes), None);
        bytes[1] = 0;
        bytes[0] = 255;
        assert_eq!(Case::from_bytes(&bytes), None);
    }
}
