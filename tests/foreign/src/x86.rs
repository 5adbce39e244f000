//! The processor's instructions as one-line functions. Never decides anything.
//!
//! They are safe to call because this kernel is the whole machine: what each caller must keep is in
//! the SAFETY comments, and a mistake ends a test.

use core::arch::asm;

/// RFLAGS: single step.
pub const TF: u64 = 1 << 8;
/// RFLAGS: interrupts are on.
pub const IF: u64 = 1 << 9;
/// RFLAGS: string instructions go down.
pub const DF: u64 = 1 << 10;
/// RFLAGS: the level that may do I/O.
pub const IOPL: u64 = 3 << 12;
/// RFLAGS: nested task.
pub const NT: u64 = 1 << 14;
/// RFLAGS: alignment is checked.
pub const AC: u64 = 1 << 18;
/// RFLAGS: the flag that can be changed where there is CPUID.
pub const ID: u64 = 1 << 21;

/// MSR: the local APIC's address and state.
pub const APIC_BASE: u32 = 0x1b;
/// MSR: extended features.
pub const EFER: u32 = 0xc000_0080;
/// MSR: selectors of SYSCALL and SYSRET.
pub const STAR: u32 = 0xc000_0081;
/// MSR: the target of SYSCALL.
pub const LSTAR: u32 = 0xc000_0082;
/// MSR: the flags that SYSCALL clears.
pub const FMASK: u32 = 0xc000_0084;
/// MSR: the base of FS.
pub const FS_BASE: u32 = 0xc000_0100;
/// MSR: the base of GS.
pub const GS_BASE: u32 = 0xc000_0101;
/// MSR: what SWAPGS swaps the base of GS with.
pub const KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Write a byte to a port.
pub fn out8(port: u16, value: u8) {
    // SAFETY: the kernel's only devices are the UART and the power port, and neither writes memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) };
}

/// Write 4 bytes to a port.
pub fn out32(port: u16, value: u32) {
    // SAFETY: as in `out8`.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags))
    };
}

/// Read a byte from a port.
pub fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: as in `out8`.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack, preserves_flags)) };
    value
}

/// Write bytes to one port with `rep outsb`.
pub fn out_string(port: u16, bytes: &[u8]) {
    // SAFETY: reads exactly the slice; DF is clear, as everywhere in compiled code.
    unsafe {
        asm!("rep outsb", in("dx") port, inout("rsi") bytes.as_ptr() => _,
            inout("rcx") bytes.len() => _, options(nostack, preserves_flags, readonly))
    };
}

/// Turn interrupts off.
pub fn cli() {
    // SAFETY: does nothing but clear IF.
    unsafe { asm!("cli", options(nostack)) };
}

/// Turn interrupts on, after the next instruction.
pub fn sti() {
    // SAFETY: the IDT is loaded; handlers touch nothing that an interruptible caller holds.
    unsafe { asm!("sti", "nop", options(nostack)) };
}

/// Turn interrupts on and off again with no instruction between.
pub fn sti_cli() {
    // SAFETY: as in `sti`.
    unsafe { asm!("sti", "cli", options(nostack)) };
}

/// Halt until an interrupt has been handled.
pub fn idle() {
    // SAFETY: as in `sti`; STI lets interrupts in only after HLT, so none is lost between.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// RFLAGS.
pub fn flags() -> u64 {
    let flags;
    // SAFETY: pushes and pops a word; images have no red zone.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) };
    flags
}

/// Load RFLAGS, and let an interrupt in if IF is now set.
pub fn set_flags(flags: u64) {
    // SAFETY: callers change IF, IOPL and ID only, on which no compiled code depends.
    unsafe { asm!("push {}", "popfq", "nop", in(reg) flags) };
}

/// Load RFLAGS with IRETQ to the next instruction, on the same stack.
pub fn set_flags_by_iretq(flags: u64) {
    // SAFETY: as in `set_flags`; the selectors are those that the kernel runs on, and RSP comes
    // back as it was before the frame was pushed.
    unsafe {
        asm!(
            "mov {rsp}, rsp",
            "mov {segment:e}, ss",
            "push {segment}",
            "push {rsp}",
            "push {flags}",
            "mov {segment:e}, cs",
            "push {segment}",
            "lea {rsp}, [rip + 2f]",
            "push {rsp}",
            "iretq",
            "2: nop",
            rsp = out(reg) _,
            segment = out(reg) _,
            flags = in(reg) flags,
        )
    };
}

macro_rules! readers {
    ($($(#[$meta:meta])* $name:ident: $type:ty = $instruction:literal;)*) => {$(
        $(#[$meta])*
        pub fn $name() -> $type {
            let value: $type;
            // SAFETY: copies a register of the processor into a general one.
            unsafe { asm!($instruction, out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }
    )*};
}

readers! {
    /// CR0.
    cr0: u64 = "mov {}, cr0";
    /// CR2: the address of the last page fault.
    cr2: u64 = "mov {}, cr2";
    /// CR3: the root of the page tables.
    cr3: u64 = "mov {}, cr3";
    /// CR4.
    cr4: u64 = "mov {}, cr4";
    /// CR8: the priority below which interrupts wait.
    cr8: u64 = "mov {}, cr8";
    /// CS.
    cs: u32 = "mov {:e}, cs";
    /// SS.
    ss: u32 = "mov {:e}, ss";
    /// DS.
    ds: u32 = "mov {:e}, ds";
    /// ES.
    es: u32 = "mov {:e}, es";
    /// FS.
    fs: u32 = "mov {:e}, fs";
    /// GS.
    gs: u32 = "mov {:e}, gs";
    /// The task register.
    task: u32 = "str {:e}";
    /// The register of the local descriptor table.
    local_table: u32 = "sldt {:e}";
    /// The machine status word: the low bits of CR0.
    machine_status: u32 = "smsw {:e}";
}

/// Load CR3.
pub fn set_cr3(root: u64) {
    // SAFETY: every root of `paging` maps the kernel alike.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) };
}

/// Load CR4.
pub fn set_cr4(value: u64) {
    // SAFETY: callers change bits that the kernel's code does not depend on.
    unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// Load CR8.
pub fn set_cr8(value: u64) {
    // SAFETY: holds interrupts back or lets them in, as `sti`.
    unsafe { asm!("mov cr8, {}", "nop", in(reg) value, options(nostack, preserves_flags)) };
}

/// Forget the translation of an address.
pub fn invalidate(at: u64) {
    // SAFETY: the page tables say what holds.
    unsafe { asm!("invlpg [{}]", in(reg) at, options(nostack, preserves_flags)) };
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
    // SAFETY: as in `msr`; the values are the kernel's own entries and areas.
    unsafe {
        asm!("wrmsr", in("ecx") index, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags))
    };
}

/// Swap the bases of GS, read both (GS_BASE, KERNEL_GS_BASE), and swap them back.
pub fn swap_gs_and_read() -> (u64, u64) {
    // SAFETY: interrupts are off and nothing uses GS until the second swap.
    unsafe { asm!("swapgs", options(nostack, preserves_flags)) };
    let bases = (msr(GS_BASE), msr(KERNEL_GS_BASE));
    // SAFETY: as above.
    unsafe { asm!("swapgs", options(nostack, preserves_flags)) };
    bases
}

/// CPUID: `eax`, `ebx`, `ecx`, `edx` of a leaf.
pub fn cpuid(leaf: u32) -> [u32; 4] {
    let found = core::arch::x86_64::__cpuid(leaf);
    [found.eax, found.ebx, found.ecx, found.edx]
}
