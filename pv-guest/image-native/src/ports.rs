//! IN and OUT, one instruction each: an exit, or in modes `trap` and `patch` a trap.

use core::arch::asm;

/// Read a byte from a port.
pub fn read(port: u16) -> u8 {
    let value;
    // SAFETY: the kernel is at CPL 0, and no device of this machine writes memory on an access to a port.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags))
    };
    value
}

/// Write a byte to a port.
pub fn write(port: u16, value: u8) {
    // SAFETY: as in `read`.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags))
    };
}

/// Read words from a port.
pub fn read_words(port: u16, into: &mut [u16]) {
    // SAFETY: the processor fills exactly `into`. The direction flag is clear, by the ABI.
    unsafe {
        asm!(
            "rep insw",
            in("dx") port,
            inout("rdi") into.as_mut_ptr() => _,
            inout("rcx") into.len() => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Write words to a port.
pub fn write_words(port: u16, from: &[u16]) {
    // SAFETY: the processor reads exactly `from`, and changes nothing in memory; DF as above.
    unsafe {
        asm!(
            "rep outsw",
            in("dx") port,
            inout("rsi") from.as_ptr() => _,
            inout("rcx") from.len() => _,
            options(readonly, nostack, preserves_flags),
        );
    }
}
