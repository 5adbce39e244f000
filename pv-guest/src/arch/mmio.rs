//! Device registers: one plain 32-bit `mov` each.
//!
//! The hypervisor's KVM emulates the instruction that reached for the register. A volatile access
//! in Rust may become the operand of any other instruction; these stay what they are.

use core::arch::asm;

/// Load a register.
///
/// # Safety
/// A device's registers are mapped at `at`, which is a multiple of 4.
#[inline]
pub unsafe fn load(at: u64) -> u32 {
    let value: u32;
    // SAFETY: the caller vouches for the address.
    unsafe {
        asm!("mov {:e}, dword ptr [{}]", out(reg) value, in(reg) at, options(nostack, preserves_flags));
    }
    value
}

/// Store to a register. What was written to memory before is there when the device acts on it.
///
/// # Safety
/// As [`load`]; what the device does then is the caller's to know.
#[inline]
pub unsafe fn store(at: u64, value: u32) {
    // SAFETY: the caller vouches for the address. Memory is clobbered: the device may read and
    // write it now.
    unsafe {
        asm!("mov dword ptr [{}], {:e}", in(reg) at, in(reg) value, options(nostack, preserves_flags));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_stored_and_loaded_whole() {
        let mut registers = [1u32, 2, 3];
        let at = &raw mut registers[1] as u64;
        // SAFETY: memory is as good as a register here; it is this test's own.
        unsafe {
            assert_eq!(load(at), 2);
            store(at, 0x8765_4321);
            assert_eq!(load(at), 0x8765_4321);
        }
        assert_eq!(registers, [1, 0x8765_4321, 3]);
    }
}
