//! What becomes of the kernel's own events: an interrupt is noted, and an exception that a check
//! asked for (`attempt!`) goes on behind the instruction. Called by `trap`; the checks look.

use core::arch::asm;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::cell::OneCpu;
use crate::frame::Frame;
use crate::trap::{EMERGENCY_STACK, FIRST_INTERRUPT, PAGE_FAULT, emergency_stack};
use crate::{apic, lines, x86};

/// Deal with an event of the kernel.
pub fn note(frame: &mut Frame) {
    if frame.vector >= FIRST_INTERRUPT {
        note_interrupt(frame);
    } else {
        note_exception(frame);
    }
}

/// Interrupts that the kernel itself took.
#[derive(Clone, Copy)]
pub struct Interrupts {
    /// How many.
    pub count: usize,
    /// The first vectors, in order.
    pub vectors: [u64; 4],
    /// The flags that were interrupted.
    pub rflags: u64,
    /// The code selector that was interrupted.
    pub cs: u64,
}

const NONE: Interrupts = Interrupts {
    count: 0,
    vectors: [0; 4],
    rflags: 0,
    cs: 0,
};

static INTERRUPTS: OneCpu<Interrupts> = OneCpu::new(NONE);
/// The count again, to be read while interrupts are on.
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// Looks at it before a caller gives up.
const PATIENCE: u32 = 100_000;

fn note_interrupt(frame: &Frame) {
    INTERRUPTS.with(|noted| {
        if let Some(slot) = noted.vectors.get_mut(noted.count) {
            *slot = frame.vector;
        }
        noted.count += 1;
        TAKEN.store(noted.count, Ordering::Relaxed);
        noted.rflags = frame.shown_flags();
        noted.cs = frame.cs;
    });
    let is_line = frame.vector == lines::VECTOR;
    if is_line {
        lines::handle();
    }
    apic::end_of_interrupt();
    if is_line {
        lines::handled();
    }
}

/// The interrupts since the last call, which no interrupt may disturb: IF is clear.
pub fn take_interrupts() -> Interrupts {
    TAKEN.store(0, Ordering::Relaxed);
    INTERRUPTS.with(|noted| core::mem::replace(noted, NONE))
}

/// Wait until this many interrupts have come, or for long enough.
pub fn wait_interrupts(count: usize) {
    for _ in 0..PATIENCE {
        if TAKEN.load(Ordering::Relaxed) >= count {
            return;
        }
        core::hint::spin_loop();
    }
}

/// An exception that a check asked for.
#[derive(Clone, Copy)]
pub struct Caught {
    /// The vector.
    pub vector: u64,
    /// The error code.
    pub error: u64,
    /// CR2, after a page fault.
    pub address: Option<u64>,
    /// How far the saved address is behind the instruction's.
    pub rip_offset: u64,
    /// The saved code selector.
    pub cs: u64,
    /// The saved flags.
    pub rflags: u64,
    /// Whether the frame was on the emergency stack.
    pub is_emergency: bool,
}

/// Where `attempt!` has its instruction, and where it goes on: written by its assembly.
pub static ATTEMPT: OneCpu<[u64; 2]> = OneCpu::new([0; 2]);
static CAUGHT: OneCpu<Option<Caught>> = OneCpu::new(None);

fn note_exception(frame: &mut Frame) {
    let [instruction, behind] = ATTEMPT.with(core::mem::take);
    if behind == 0 {
        panic!(
            "exception {} in the kernel, error {:#x}, at {:#x}, address {:#x}",
            frame.vector,
            frame.error,
            frame.rip,
            x86::cr2()
        );
    }
    let caught = Caught {
        vector: frame.vector,
        error: frame.error,
        address: (frame.vector == PAGE_FAULT).then(x86::cr2),
        rip_offset: frame.rip.wrapping_sub(instruction),
        cs: frame.cs,
        rflags: frame.shown_flags(),
        is_emergency: (emergency_stack() - EMERGENCY_STACK..emergency_stack())
            .contains(&(&raw const *frame as u64)),
    };
    CAUGHT.with(|slot| *slot = Some(caught));
    frame.rip = behind;
}

/// The exception of the last `attempt!`.
pub fn take_caught() -> Option<Caught> {
    ATTEMPT.with(|attempt| *attempt = [0; 2]);
    CAUGHT.with(Option::take)
}

/// Push a word where no stack is: the exception for that cannot be delivered there either.
pub fn attempt_without_stack(top: u64) -> Option<Caught> {
    let words = ATTEMPT.with(|words| words.as_mut_ptr());
    // SAFETY: writes the two words of ATTEMPT. The handler runs on the emergency stack, and returns
    // to where RSP becomes what it was.
    unsafe {
        asm!(
            "lea {saved}, [rip + 2f]",
            "mov [{words}], {saved}",
            "lea {saved}, [rip + 3f]",
            "mov [{words} + 8], {saved}",
            "mov {saved}, rsp",
            "mov rsp, {top}",
            "2: push 0",
            "3: mov rsp, {saved}",
            saved = out(reg) _,
            words = in(reg) words,
            top = in(reg) top,
        )
    };
    take_caught()
}

/// Execute an instruction that should fault; the handler goes on behind it.
macro_rules! attempt {
    ($instruction:literal $(, $($operand:tt)*)?) => {{
        let words = $crate::own_events::ATTEMPT.with(|words| words.as_mut_ptr());
        // SAFETY: writes the two words of ATTEMPT; the instruction faults and so changes nothing
        // but its operands, or is one that may succeed.
        unsafe {
            core::arch::asm!(
                "lea {scratch}, [rip + 2f]",
                "mov [{words}], {scratch}",
                "lea {scratch}, [rip + 3f]",
                "mov [{words} + 8], {scratch}",
                concat!("2: ", $instruction),
                "3:",
                scratch = out(reg) _,
                words = in(reg) words,
                $($($operand)*)?
            )
        };
        $crate::own_events::take_caught()
    }};
}
pub(crate) use attempt;
