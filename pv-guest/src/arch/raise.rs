//! Instructions that raise an exception on purpose: for the shell's `fault` and for the benchmark.
//!
//! Each is followed by the length of the instruction that faults, so that
//! [`trap::expect`](crate::trap::expect) can skip it. Nothing here writes memory.

use core::arch::asm;

/// An address that is not canonical.
pub const NOT_CANONICAL: u64 = 0x8000_0000_0000_0000;

/// Raise #DE: divide by zero.
#[inline(always)]
pub fn divide_error() {
    // SAFETY: the instruction faults; whoever skips it leaves garbage in two clobbered registers.
    unsafe {
        asm!("div ecx", in("ecx") 0, inout("eax") 1 => _, inout("edx") 0 => _, options(nomem, nostack));
    }
}
/// Bytes of `div ecx`.
pub const DIVIDE_LENGTH: u8 = 2;

/// Raise #UD: an undefined instruction.
#[inline(always)]
pub fn undefined_instruction() {
    // SAFETY: the instruction faults and does nothing else.
    unsafe { asm!("ud2", options(nomem, nostack)) };
}
/// Bytes of `ud2`.
pub const UNDEFINED_LENGTH: u8 = 2;

/// Read the word at an address, and raise #PF where nothing is mapped, or #GP where the address is
/// not canonical.
#[inline(always)]
pub fn read(address: u64) {
    // SAFETY: a read of memory has no effect; a device's register could have one, but a caller who
    // wants to read those has simpler ways. The result is dropped.
    unsafe {
        asm!("mov rax, [rcx]", in("rcx") address, out("rax") _, options(readonly, nostack));
    }
}
/// Bytes of `mov rax, [rcx]`.
pub const READ_LENGTH: u8 = 3;

/// Write a byte at an address as it is, and raise #PF where that is not allowed.
#[inline(always)]
pub fn rewrite(address: u64) {
    // SAFETY: in one step, the byte becomes what it was.
    unsafe {
        asm!("lock or byte ptr [rcx], 0", in("rcx") address, options(nostack));
    }
}
/// Bytes of `lock or byte ptr [rcx], 0`.
pub const REWRITE_LENGTH: u8 = 4;

/// Raise #BP. It is a trap: the kernel counts it and goes on behind it.
#[inline(always)]
pub fn breakpoint() {
    breakpoint_instruction();
}

/// A function of its own, because the audit excuses the instruction by this name.
#[inline(never)]
fn breakpoint_instruction() {
    // SAFETY: the handler changes nothing but its counter.
    unsafe { asm!("int3", options(nomem, nostack)) };
}
