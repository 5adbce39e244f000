//! The IDT, the entries and their stacks. An event of a user goes to `scheduler`, one of the kernel
//! to `own_events`.

use core::arch::{asm, global_asm};

use crate::cell::OneCpu;
use crate::frame::Frame;
use crate::scheduler::SLOTS;
use crate::segments::{KERNEL_CODE, KERNEL_DATA, Pointer, USER_CODE, USER_CODE_32, USER_DATA};
use crate::{own_events, scheduler, x86};

/// The vector of double faults, which has a stack of its own.
const DOUBLE_FAULT: u64 = 8;
/// The vector of page faults.
pub const PAGE_FAULT: u64 = 14;
/// The first vector that is no exception.
pub const FIRST_INTERRUPT: u64 = 32;
/// The vector of system calls by `int`.
pub const INT_80: u64 = 0x80;
/// What stands for the vector in the frame of a SYSCALL.
pub const SYSCALL: u64 = 0x100;
/// The last byte of the IDT.
pub const IDT_LIMIT: u16 = 256 * 16 - 1;

/// Bytes of the stack that the kernel boots on.
const BOOT_STACK: usize = 32 * 1024;

global_asm!(
    include_str!("entry.S"),
    stack = const BOOT_STACK,
    emergency_stack = const EMERGENCY_STACK,
    syscall = const SYSCALL,
    user_code = const USER_CODE,
    user_data = const USER_DATA,
    start = sym crate::start,
    trap = sym trap,
);

unsafe extern "C" {
    static trap_entries: u8;
    static syscall_entry: u8;
    static emergency_stack_end: u8;
}

/// Bytes of the stack for double faults.
pub const EMERGENCY_STACK: u64 = 16 * 1024;
/// Bytes of a process's kernel stack.
const KERNEL_STACK: usize = 16 * 1024;

/// The kernel stacks of processes.
#[repr(C, align(16))]
struct Stacks([[u8; KERNEL_STACK]; SLOTS]);

static STACKS: OneCpu<Stacks> = OneCpu::new(Stacks([[0; KERNEL_STACK]; SLOTS]));

/// The frame at the top of a process's kernel stack: where the processor and entry.S save its
/// registers. Not to be called while its handler uses the frame.
pub fn frame_of(slot: usize) -> &'static mut Frame {
    let top = STACKS.with(|stacks| stacks.0[slot].as_mut_ptr_range().end);
    // SAFETY: the stack has room for a frame at its aligned top. `trap` gives up its reference
    // before it has the scheduler ask, and the scheduler keeps none.
    unsafe { &mut *top.cast::<Frame>().sub(1) }
}

/// The top of the stack for double faults.
pub fn emergency_stack() -> u64 {
    &raw const emergency_stack_end as u64
}

/// The address where SYSCALL arrives.
pub fn syscall_target() -> u64 {
    &raw const syscall_entry as u64
}

/// STAR: the selectors of SYSCALL and SYSRET.
pub const SELECTORS: u64 = (KERNEL_CODE as u64) << 32 | (USER_CODE_32 as u64) << 48;
const _: () = assert!(KERNEL_DATA == KERNEL_CODE + 8 && USER_CODE == USER_CODE_32 + 16);
/// FMASK: SYSCALL arrives with IF, TF, DF, IOPL, NT and AC clear.
pub const CLEARED: u64 = x86::IF | x86::TF | x86::DF | x86::IOPL | x86::NT | x86::AC;

#[repr(C, align(16))]
struct Table([[u64; 2]; 256]);
static IDT: OneCpu<Table> = OneCpu::new(Table([[0; 2]; 256]));

/// Load the IDT, and have SYSCALL lead to its entry.
pub fn init() {
    let base = IDT.with(|idt| {
        for (vector, gate) in (0..).zip(idt.0.iter_mut()) {
            let at = &raw const trap_entries as u64 + vector * 16;
            let stack = u64::from(vector == DOUBLE_FAULT);
            let level = if vector == 3 || vector == INT_80 {
                3
            } else {
                0
            };
            *gate = [
                at & 0xffff
                    | u64::from(KERNEL_CODE) << 16
                    | stack << 32
                    | (0x8e | level << 5) << 40
                    | (at >> 16 & 0xffff) << 48,
                at >> 32,
            ];
        }
        idt.0.as_ptr() as u64
    });
    let pointer = Pointer {
        limit: IDT_LIMIT,
        base,
    };
    // SAFETY: every gate leads to entry.S.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(nostack, preserves_flags)) };
    x86::set_msr(x86::STAR, SELECTORS);
    x86::set_msr(x86::LSTAR, syscall_target());
    x86::set_msr(x86::FMASK, CLEARED);
    x86::set_msr(x86::EFER, x86::msr(x86::EFER) | 1);
}

/// What SIDT stores, and whether the base is that of this kernel's table.
pub fn stored_idt() -> (u16, bool) {
    let mut pointer = Pointer::default();
    // SAFETY: stores 10 bytes.
    unsafe { asm!("sidt [{}]", in(reg) &mut pointer, options(nostack, preserves_flags)) };
    let ours = IDT.with(|idt| idt.0.as_ptr() as u64);
    (pointer.limit, { pointer.base } == ours)
}

/// Leave the kernel's stack for good, and go on with a frame.
pub fn resume(frame: *const Frame) -> ! {
    // SAFETY: the scheduler gives the frame at the top of a process's kernel stack.
    unsafe { asm!("mov rsp, {}", "jmp resume", in(reg) frame, options(noreturn)) }
}

/// Called by entry.S on the stack that the event belongs on. Returns the frame to go on with.
extern "C" fn trap(frame: *mut Frame) -> *const Frame {
    let is_over = {
        // SAFETY: entry.S has just built it. The reference ends with this block, before the
        // scheduler looks at the frames of processes.
        let frame = unsafe { &mut *frame };
        if frame.is_user() {
            scheduler::event(frame)
        } else {
            own_events::note(frame);
            false
        }
    };
    if is_over {
        scheduler::dispatch()
    } else {
        frame
    }
}
