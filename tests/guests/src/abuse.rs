//! Jumps to the hypercall page's ways out of an event, without an event: the argument says with
//! what frame.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::Ordering;

use hypercall_abi::boot::BootInfo;
use hypercall_abi::table::irq::Guest as _;
use hypercall_abi::table::mmu::Guest as _;
use hypercall_abi::{Frame, GuestVirt, Slot, layout};
use pv_runtime::{PAGE, shared_page};

use crate::{exit, println};

type Words = [u64; 5];

const CS: u64 = layout::USER_CS as u64;
const SS: u64 = layout::USER_SS as u64;
const AREA: u64 = layout::vcpu_area(0);
const NOT_CANONICAL: u64 = 0x8000_0000_0000_0000;

/// Memory that an abused return may use, top and bottom.
#[repr(align(4096))]
struct Page(UnsafeCell<[u64; 512]>);
// SAFETY: one processor, and only `jump` and the frame that it leads to use it.
unsafe impl Sync for Page {}
static STACK: Page = Page(UnsafeCell::new([0; 512]));
static EVENT_STACK: Page = Page(UnsafeCell::new([0; 512]));

/// Where the frames are, with room below and above.
fn stack() -> u64 {
    STACK.0.get() as u64 + 2048
}

/// A valid return leads here.
extern "C" fn landed() -> ! {
    println!("landed");
    exit(0)
}

/// Jump to a slot with a stack pointer.
fn jump(slot: Slot, stack: u64) -> ! {
    // SAFETY: control never comes back to Rust code but through `landed` and the event entries,
    // which assume nothing; all that the stack pointer's memory can break is this guest.
    unsafe {
        asm!(
            "mov rsp, {stack}",
            "jmp {slot}",
            stack = in(reg) stack,
            slot = in(reg) layout::slot_address(slot),
            options(noreturn),
        )
    }
}

fn put(at: u64, frame: Words) {
    for (offset, word) in frame.into_iter().enumerate() {
        // SAFETY: `at` is `stack()` or the user window's frame: 40 bytes for this use alone.
        unsafe { ptr::write_volatile((at as *mut u64).add(offset), word) };
    }
}

/// See the module.
pub fn abuse(boot: &'static BootInfo, argument: &str) {
    if PAGE
        .set_event_entries(GuestVirt(pv_runtime::entries()))
        .is_err()
    {
        exit(95);
    }
    match argument.split_once(' ') {
        Some(("return_at", at)) => {
            let at = match at {
                "null" => 0,
                "not_canonical" => NOT_CANONICAL,
                "monitor" => AREA + layout::AREA_PRIVATE,
                "monitor_code" => AREA,
                "last_bytes" => u64::MAX - 7,
                "gates" => layout::HYPERCALL_PAGE,
                _ => exit(96),
            };
            jump(Slot::EventReturn, at)
        }
        Some(("return_with", frame)) => {
            put(stack(), words(frame));
            jump(Slot::EventReturn, stack())
        }
        Some(("enter_with", frame)) => {
            shared_page()
                .kernel_stack
                .store(EVENT_STACK.0.get() as u64 + 4096, Ordering::Relaxed);
            enter(boot.root, words(frame))
        }
        Some(("enter_without", "stack")) => enter(boot.root, words("zeros")),
        Some(("enter_without", "root")) => enter(0x80_0000, words("good")),
        _ => exit(96),
    }
}

fn enter(root: u64, frame: Words) -> ! {
    let _ = PAGE.set_user_root(Frame(root / 4096));
    put(AREA + layout::AREA_USER + layout::USER_FRAME, frame);
    jump(Slot::EnterUser, stack())
}

/// A frame: `rip cs rflags rsp ss`.
fn words(name: &str) -> Words {
    let rip = landed as *const () as u64;
    match name {
        "good" => [rip, CS, 0x202, stack(), SS],
        "zeros" => [0; 5],
        "ones" => [u64::MAX; 5],
        "not_canonical_rip" => [NOT_CANONICAL, CS, 0x202, stack(), SS],
        "not_canonical_rsp" => [rip, CS, 0x202, NOT_CANONICAL, SS],
        "monitor_rip" => [AREA, CS, 0x202, stack(), SS],
        "monitor_segments" => [rip, 0x10, 0x202, stack(), 0x18],
        "flags_off" => [rip, CS, 0, stack(), SS],
        "privileged_flags" => [rip, CS, 0x3202, stack(), SS], // IOPL 3
        "nested_task" => [rip, CS, 0x4202, stack(), SS],
        "single_step" => [rip, CS, 0x302, stack(), SS],
        _ => exit(96),
    }
}
