//! The two moments in which a stack pointer changes: a thread gives way, and a report begins.

use core::arch::naked_asm;
use core::cell::UnsafeCell;

use super::frame::TrapFrame;

/// Words of a suspended context: six registers and a return address.
pub const SAVED_WORDS: usize = 7;

/// Push what a call preserves, store the stack pointer to `save`, load `load`, pop, and return
/// there. SysV ABI, "Registers": rbx, rbp, r12-r15 and rsp belong to the caller. Interrupts are off.
///
/// # Safety
/// `load` was stored by this function, or points to [`SAVED_WORDS`] words that
/// [`prepare`](super::context::Context::adopt) wrote, and nothing ran on that stack since.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn switch(save: *mut u64, load: u64) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        // rsp = the leaving context, complete
        "mov [rdi], rsp",
        "mov rsp, rsi",
        // rsp = the coming context
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Bytes of the stack that reports are made on.
const REPORT_STACK_SIZE: usize = 16 * 1024;

/// The stack for the report of a fault: the faulting thread may have none left.
#[repr(C, align(16))]
struct ReportStack(UnsafeCell<[u8; REPORT_STACK_SIZE]>);

// SAFETY: only the one processor's last report runs on it, and it never returns.
unsafe impl Sync for ReportStack {}

static REPORT_STACK: ReportStack = ReportStack(UnsafeCell::new([0; REPORT_STACK_SIZE]));

/// Go on with `report` on a stack of its own, for good.
///
/// A second report, about a fault within the first, starts at the top again: the first one does not
/// go on.
pub fn on_report_stack(frame: &TrapFrame, report: extern "sysv64" fn(&TrapFrame) -> !) -> ! {
    let top = REPORT_STACK
        .0
        .get()
        .cast::<u8>()
        .wrapping_add(REPORT_STACK_SIZE);
    // SAFETY: `top` is one past a static of its own, aligned to 16 bytes; the frame stays where it
    // is, on the stack that is left for good.
    unsafe { leave_for(top, frame, report) }
}

#[unsafe(naked)]
unsafe extern "sysv64" fn leave_for(
    stack: *mut u8,
    frame: &TrapFrame,
    report: extern "sysv64" fn(&TrapFrame) -> !,
) -> ! {
    naked_asm!(
        "mov rsp, rdi",
        "mov rdi, rsi",
        // rdi = the frame, rbp = 0: the chain of frame pointers ends here
        "xor ebp, ebp",
        "call rdx",
        "ud2",
    )
}
