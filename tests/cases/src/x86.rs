//! The processor's instructions as one-line functions. Never decides anything.
//!
//! They are safe to call because this kernel is the whole machine: a mistake ends a test.

use core::arch::asm;

/// Write a byte to a port.
pub fn out8(port: u16, value: u8) {
    // SAFETY: the only device is the UART, which does not write memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) };
}

/// Read a byte from a port.
pub fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: as in `out8`.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack, preserves_flags)) };
    value
}

/// Write 4 bytes to a port.
pub fn out32(port: u16, value: u32) {
    // SAFETY: the port that switches the machine off.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags))
    };
}

/// Write bytes to one port with `rep outsb`.
pub fn out_string(port: u16, bytes: &[u8]) {
    // SAFETY: reads exactly the slice; DF is clear, as everywhere in compiled code.
    unsafe {
        asm!("rep outsb", in("dx") port, inout("rsi") bytes.as_ptr() => _,
            inout("rcx") bytes.len() => _, options(nostack, preserves_flags, readonly))
    };
}

/// Load RFLAGS with nothing set.
pub fn clear_flags() {
    // SAFETY: no compiled code depends on what it clears.
    unsafe { asm!("push 2", "popfq") };
}

macro_rules! readers {
    ($($name:ident: $type:ty = $instruction:literal;)*) => {$(
        #[doc = concat!("`", $instruction, "`")]
        pub fn $name() -> $type {
            let value: $type;
            // SAFETY: copies a register of the processor into a general one.
            unsafe { asm!($instruction, out(reg) value, options(nostack, preserves_flags)) };
            value
        }
    )*};
}

macro_rules! writers {
    ($($name:ident: $type:ty = $instruction:literal;)*) => {$(
        #[doc = concat!("`", $instruction, "`")]
        pub fn $name(value: $type) {
            // SAFETY: `machine` loads what this kernel runs on; `run` what a case starts with.
            unsafe { asm!($instruction, in(reg) value, options(nostack, preserves_flags)) };
        }
    )*};
}

readers! {
    cr0: u64 = "mov {}, cr0";
    cr2: u64 = "mov {}, cr2";
    cr3: u64 = "mov {}, cr3";
    cr4: u64 = "mov {}, cr4";
    cr8: u64 = "mov {}, cr8";
    dr0: u64 = "mov {}, dr0";
    dr1: u64 = "mov {}, dr1";
    dr2: u64 = "mov {}, dr2";
    dr3: u64 = "mov {}, dr3";
    dr6: u64 = "mov {}, dr6";
    dr7: u64 = "mov {}, dr7";
    ds: u32 = "mov {:e}, ds";
    es: u32 = "mov {:e}, es";
    fs: u32 = "mov {:e}, fs";
    gs: u32 = "mov {:e}, gs";
    task: u32 = "str {:e}";
    local_table: u32 = "sldt {:e}";
}

writers! {
    set_cr0: u64 = "mov cr0, {}";
    set_cr2: u64 = "mov cr2, {}";
    set_cr3: u64 = "mov cr3, {}";
    set_cr4: u64 = "mov cr4, {}";
    set_cr8: u64 = "mov cr8, {}";
    set_dr0: u64 = "mov dr0, {}";
    set_dr1: u64 = "mov dr1, {}";
    set_dr2: u64 = "mov dr2, {}";
    set_dr3: u64 = "mov dr3, {}";
    set_dr6: u64 = "mov dr6, {}";
    set_dr7: u64 = "mov dr7, {}";
    set_ss: u32 = "mov ss, {:e}";
    set_ds: u32 = "mov ds, {:e}";
    set_es: u32 = "mov es, {:e}";
    set_fs: u32 = "mov fs, {:e}";
    set_gs: u32 = "mov gs, {:e}";
    set_task: u32 = "ltr {:x}";
    set_local_table: u32 = "lldt {:x}";
}

/// Read an MSR.
pub fn msr(index: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: callers name MSRs that every x86-64 processor has.
    unsafe {
        asm!("rdmsr", in("ecx") index, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Write an MSR.
pub fn set_msr(index: u32, value: u64) {
    // SAFETY: as in `msr`; the values are this kernel's own.
    unsafe {
        asm!("wrmsr", in("ecx") index, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags))
    };
}

/// What LGDT and LIDT load, and SGDT and SIDT store.
#[repr(C, packed)]
#[derive(Clone, Copy, Default)]
pub struct Pointer {
    /// The last byte's offset.
    pub limit: u16,
    /// The first byte's address.
    pub base: u64,
}

/// LGDT.
pub fn set_gdt(pointer: Pointer) {
    // SAFETY: the table has the segments that this kernel runs on.
    unsafe { asm!("lgdt [{}]", in(reg) &pointer, options(nostack, preserves_flags)) };
}

/// LIDT.
pub fn set_idt(pointer: Pointer) {
    // SAFETY: the gates lead to entry.S.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(nostack, preserves_flags)) };
}

/// SGDT.
pub fn gdt() -> Pointer {
    let mut pointer = Pointer::default();
    // SAFETY: stores 10 bytes.
    unsafe { asm!("sgdt [{}]", in(reg) &mut pointer, options(nostack, preserves_flags)) };
    pointer
}

/// SIDT.
pub fn idt() -> Pointer {
    let mut pointer = Pointer::default();
    // SAFETY: stores 10 bytes.
    unsafe { asm!("sidt [{}]", in(reg) &mut pointer, options(nostack, preserves_flags)) };
    pointer
}

/// Load CS with a far return to the next instruction.
pub fn set_cs(selector: u16) {
    // SAFETY: the selector is flat 64-bit code of the level that runs.
    unsafe {
        asm!("push {code}", "lea {scratch}, [rip + 2f]", "push {scratch}", "retfq", "2:",
            code = in(reg) u64::from(selector), scratch = out(reg) _)
    };
}
