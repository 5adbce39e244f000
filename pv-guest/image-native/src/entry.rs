//! Where the hypervisor enters the image, and where the processor delivers events.

use core::arch::global_asm;
use core::mem::offset_of;

use hypercall_abi::boot::{BootInfo, ElfNote, ImageKind};
use pv_guest::arch::frame::TrapFrame;

/// What this image expects of its hypervisor.
#[used]
#[unsafe(link_section = ".note.paravane")]
static NOTE: ElfNote = ElfNote::new(ImageKind::Native, 0);

/// Bytes of the stack that the kernel boots on.
const BOOT_STACK: usize = 32 * 1024;

global_asm!(
    include_str!("entry.S"),
    stack = const BOOT_STACK,
    start = sym rust_start,
    handler = sym native_event,
);

// entry.S pushes the general registers in the order of the TrapFrame's fields.
const _: () = assert!(offset_of!(TrapFrame, r15) == 0 && offset_of!(TrapFrame, rax) == 112);
const _: () = assert!(offset_of!(TrapFrame, vector) == 120 && offset_of!(TrapFrame, error) == 128);

unsafe extern "C" {
    static event_entries: u8;
    static emergency_stack_end: u8;
}

/// The address of a vector's entry.
pub fn entry_of(vector: u64) -> u64 {
    &raw const event_entries as u64 + vector * 16
}

/// The top of the stack for double faults.
pub fn emergency_stack() -> u64 {
    &raw const emergency_stack_end as u64
}

extern "C" fn rust_start(boot: &'static BootInfo) -> ! {
    pv_guest::boot::start(boot)
}

extern "C" fn native_event(frame: &mut TrapFrame) {
    pv_guest::trap::handle(frame);
}
