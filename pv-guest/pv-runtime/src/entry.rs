//! Where the hypervisor enters the image, and where the monitor bounces events to.

use core::arch::global_asm;
use core::mem::offset_of;

use hypercall_abi::boot::{ElfNote, ImageKind, feature};
use hypercall_abi::shared::{Hold, SharedPage};
use hypercall_abi::{Slot, layout};
use pv_guest::arch::frame::{FRAME_SIZE, TrapFrame};

/// What this image expects of its hypervisor.
#[used]
#[unsafe(link_section = ".note.paravane")]
static NOTE: ElfNote = ElfNote::new(ImageKind::Pv, feature::BATCH);

/// Bytes of the stack that the kernel boots on.
const BOOT_STACK: usize = 32 * 1024;

const AREA: u64 = layout::vcpu_area(0);
const EVENTS: u64 = AREA + layout::AREA_EVENTS;
const SHARED: u64 = AREA + layout::AREA_SHARED;

global_asm!(
    include_str!("entry.S"),
    stack = const BOOT_STACK,
    FRAME_SIZE = const FRAME_SIZE,
    VECTOR = const offset_of!(TrapFrame, vector),
    ERROR = const offset_of!(TrapFrame, error),
    RIP = const offset_of!(TrapFrame, rip),
    CS = const offset_of!(TrapFrame, cs),
    RFLAGS = const offset_of!(TrapFrame, rflags),
    RSP = const offset_of!(TrapFrame, rsp),
    SS = const offset_of!(TrapFrame, ss),
    EXCEPTION_SLOT = const EVENTS as i64 + layout::EXCEPTION_SLOT_END as i64 - 48,
    INTERRUPT_SLOT = const EVENTS as i64 + layout::INTERRUPT_SLOT_END as i64 - 48,
    HOLD_CLI = const SHARED as i64 + offset_of!(Hold, cli) as i64,
    HOLD_EVENT = const SHARED as i64 + offset_of!(Hold, event) as i64,
    HOLD_USER = const SHARED as i64 + offset_of!(Hold, user) as i64,
    NEEDS_UNMASK = const SHARED as i64 + offset_of!(SharedPage, needs_unmask) as i64,
    KERNEL_STACK = const SHARED as i64 + offset_of!(SharedPage, kernel_stack) as i64,
    USER_FRAME = const AREA as i64 + layout::AREA_USER as i64 + layout::USER_FRAME as i64,
    PAD_ENTER_USER = const layout::PAD_PAGE as i64 + layout::PAD_ENTER_USER as i64,
    EVENT_RETURN = const layout::slot_address(Slot::EventReturn) as i64,
    ENTER_USER = const layout::slot_address(Slot::EnterUser) as i64,
    USER_CS = const layout::USER_CS,
    USER_SS = const layout::USER_SS,
);

const _: () = assert!(offset_of!(SharedPage, hold) == 0);
// The entry assembly builds a frame of whole 16-byte units, so that calls find an aligned stack.
const _: () = assert!(FRAME_SIZE.is_multiple_of(16));

unsafe extern "C" {
    static event_entries: u8;
}

/// The address of the first event entry.
pub fn entries() -> u64 {
    &raw const event_entries as u64
}

/// Leave for the context that a frame describes, in user or kernel mode, as if its event ended.
///
/// # Safety
/// The frame must describe a context that may run: for the kernel (`cs & 3 == 0`) a live stack, for
/// user mode a user root (`set_user_root`) and `kernel_stack` in the shared page.
pub unsafe fn restore(frame: &TrapFrame) -> ! {
    // SAFETY: event_return pops a TrapFrame from rsp; the caller answers for its content. The frame
    // is not used afterwards.
    unsafe {
        core::arch::asm!(
            "mov rsp, {frame}",
            "jmp event_return",
            frame = in(reg) frame,
            options(noreturn),
        )
    }
}
