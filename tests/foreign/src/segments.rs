//! GDT and TSS, and the selectors (SDM vol. 3, chapters 3 and 8).

use core::arch::asm;
use core::mem::size_of;

use crate::cell::OneCpu;
use crate::{trap, x86};

/// The kernel's code selector. SYSCALL loads it, and [`KERNEL_DATA`] with it.
pub const KERNEL_CODE: u16 = 0x08;
/// The kernel's data and stack selector.
pub const KERNEL_DATA: u16 = 0x10;
/// A data segment that is not present: loading it is an error.
pub const ABSENT_DATA: u16 = 0x18;
/// What SYSRET counts from: 32-bit code of users.
pub const USER_CODE_32: u16 = 0x23;
/// The users' data and stack selector.
pub const USER_DATA: u16 = 0x2b;
/// The users' code selector.
pub const USER_CODE: u16 = 0x33;
/// The TSS.
pub const TASK: u16 = 0x38;
/// The last byte of the GDT.
pub const LIMIT: u16 = 9 * 8 - 1;
/// The last byte of the TSS.
pub const TASK_LIMIT: u64 = 0x67;

/// The task state segment: stacks, and no map of ports.
#[repr(C, packed(4))]
struct TaskState {
    reserved: u32,
    rsp: [u64; 3],
    reserved_1: u64,
    ist: [u64; 7],
    reserved_2: u64,
    reserved_3: u16,
    port_map: u16,
}

const _: () = assert!(size_of::<TaskState>() as u64 == TASK_LIMIT + 1);

/// What SYSCALL's entry finds through GS; `entry.S` knows the offsets.
#[repr(C)]
struct PerCpu {
    kernel_stack: u64,
    user_stack: u64,
}

#[repr(C, align(16))]
struct Table([u64; 9]);

static GDT: OneCpu<Table> = OneCpu::new(Table([
    0,
    0x00af_9b00_0000_ffff, // kernel code, 64-bit
    0x00cf_9300_0000_ffff, // kernel data
    0x00cf_7300_0000_ffff, // data that is not present, for CPL 3
    0x00cf_fb00_0000_ffff, // user code, 32-bit
    0x00cf_f300_0000_ffff, // user data
    0x00af_fb00_0000_ffff, // user code, 64-bit
    0,
    0,
]));
static TASK_STATE: OneCpu<TaskState> = OneCpu::new(TaskState {
    reserved: 0,
    rsp: [0; 3],
    reserved_1: 0,
    ist: [0; 7],
    reserved_2: 0,
    reserved_3: 0,
    port_map: TASK_LIMIT as u16 + 1,
});
static PER_CPU: OneCpu<PerCpu> = OneCpu::new(PerCpu {
    kernel_stack: 0,
    user_stack: 0,
});

/// What LGDT and LIDT load, and SGDT and SIDT store.
#[repr(C, packed)]
#[derive(Clone, Copy, Default)]
pub struct Pointer {
    /// The last byte's offset.
    pub limit: u16,
    /// The first byte's address.
    pub base: u64,
}

/// Load the tables and every segment register, and have GS point at the processor's area.
pub fn init() {
    let task = TASK_STATE.with(|state| {
        state.ist[0] = trap::emergency_stack();
        &raw const *state as u64
    });
    let base = GDT.with(|gdt| {
        gdt.0[7] = 0x0000_8900_0000_0000
            | TASK_LIMIT
            | (task & 0xff_ffff) << 16
            | (task >> 24 & 0xff) << 56;
        gdt.0[8] = task >> 32;
        gdt.0.as_ptr() as u64
    });
    let pointer = Pointer { limit: LIMIT, base };
    // SAFETY: code and data descriptors are flat, so what runs goes on unchanged; the TSS is
    // available, as LTR demands. Null is a good value for FS and GS in 64-bit mode.
    unsafe {
        asm!(
            "lgdt [{pointer}]",
            "mov ss, {data:e}",
            "mov ds, {data:e}",
            "mov es, {data:e}",
            "mov fs, {null:e}",
            "mov gs, {null:e}",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "ltr {task:x}",
            pointer = in(reg) &pointer,
            data = in(reg) u32::from(KERNEL_DATA),
            null = in(reg) 0,
            code = const KERNEL_CODE,
            scratch = out(reg) _,
            task = in(reg) TASK,
        );
    }
    let area = PER_CPU.with(|area| &raw const *area as u64);
    x86::set_msr(x86::GS_BASE, area);
    x86::set_msr(x86::KERNEL_GS_BASE, 0);
}

/// Have events of users begin on this stack.
pub fn set_kernel_stack(top: u64) {
    TASK_STATE.with(|state| state.rsp[0] = top);
    PER_CPU.with(|area| area.kernel_stack = top);
}

/// Load DS and read it back.
pub fn reload_ds(selector: u16) -> u32 {
    // SAFETY: in 64-bit mode no base or limit of DS counts; the caller names a segment that exists.
    unsafe { asm!("mov ds, {:e}", in(reg) u32::from(selector), options(nostack, preserves_flags)) };
    x86::ds()
}

/// Push and pop FS: load a selector and read it back.
pub fn reload_fs(selector: u16) -> u64 {
    let back: u64;
    // SAFETY: the kernel does not use FS. AT&T syntax, as the other one has no way to say that 8
    // bytes are pushed.
    unsafe {
        asm!("pushq {selector}", "popq %fs", "pushq %fs", "popq {back}",
            selector = in(reg) u64::from(selector), back = out(reg) back,
            options(preserves_flags, att_syntax))
    };
    back
}

/// What SGDT stores, and whether the base is that of this kernel's table.
pub fn stored_gdt() -> (u16, bool) {
    let mut pointer = Pointer::default();
    // SAFETY: stores 10 bytes.
    unsafe { asm!("sgdt [{}]", in(reg) &mut pointer, options(nostack, preserves_flags)) };
    let ours = GDT.with(|gdt| gdt.0.as_ptr() as u64);
    (pointer.limit, { pointer.base } == ours)
}

/// LAR: the access rights of a selector's descriptor, if it may be seen. Without bits 16 to 19, which
/// are undefined (SDM vol. 2, LAR).
pub fn access_rights(selector: u16) -> Option<u32> {
    let (rights, is_ok): (u32, u8);
    // SAFETY: reads the GDT.
    unsafe {
        asm!("lar {rights:e}, {selector:e}", "setz {is_ok}", rights = out(reg) rights,
            selector = in(reg) u32::from(selector), is_ok = out(reg_byte) is_ok, options(nostack))
    };
    (is_ok != 0).then_some(rights & 0x00f0_ff00)
}

/// LSL: the limit of a selector's descriptor, if it may be seen.
pub fn segment_limit(selector: u16) -> Option<u32> {
    let (limit, is_ok): (u32, u8);
    // SAFETY: reads the GDT.
    unsafe {
        asm!("lsl {limit:e}, {selector:e}", "setz {is_ok}", limit = out(reg) limit,
            selector = in(reg) u32::from(selector), is_ok = out(reg_byte) is_ok, options(nostack))
    };
    (is_ok != 0).then_some(limit)
}

/// VERR and VERW: whether a segment may be read, and written.
pub fn may_read_and_write(selector: u16) -> (bool, bool) {
    let (read, write): (u8, u8);
    // SAFETY: reads the GDT.
    unsafe {
        asm!("verr {selector:x}", "setz {read}", "verw {selector:x}", "setz {write}",
            selector = in(reg) selector, read = out(reg_byte) read, write = out(reg_byte) write,
            options(nostack))
    };
    (read != 0, write != 0)
}
