//! Where every event of the processor arrives.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::{Vector, layout};

use crate::arch::frame::TrapFrame;
use crate::arch::on_report_stack;
use crate::{fault, hooks, irq, sched};

/// The breakpoint exception.
pub const BREAKPOINT: u8 = 3;
/// The page fault.
pub const PAGE_FAULT: u8 = 14;

/// RFLAGS.IF: interrupts are let in. In the pv image this is the virtual flag.
const INTERRUPT_FLAG: u64 = 1 << 9;

static BREAKPOINTS: AtomicU64 = AtomicU64::new(0);

/// Handle an event. Called by an image's entry assembly with interrupts off, on the stack of the
/// interrupted kernel thread; the frame is restored when this returns.
pub fn handle(frame: &mut TrapFrame) {
    match u8::try_from(frame.vector).unwrap_or(u8::MAX) {
        number @ 0..Vector::FIRST => exception(number, frame),
        number @ Vector::FIRST..=Vector::LAST => {
            irq::dispatch(number);
            if frame.rflags & INTERRUPT_FLAG != 0 {
                sched::preempt();
            }
        }
        // The thread was about to let interrupts in, and one is pending: `irq_enable` handles it.
        number if u64::from(number) == layout::ENTRY_PENDING => {
            hooks::irq_enable();
            hooks::irq_disable();
        }
        _ => on_report_stack(frame, fault::report),
    }
}

/// Handle an interrupt that an image found pending when the kernel let interrupts in, or slept.
/// Interrupts are off. Another thread may run before this returns.
pub fn interrupt(vector: u8) {
    irq::dispatch(vector);
    sched::preempt();
}

fn exception(number: u8, frame: &mut TrapFrame) {
    if number == BREAKPOINT {
        BREAKPOINTS.fetch_add(1, Ordering::Relaxed);
        return;
    }
    match EXPECTATION.take_over(number, sched::current().number()) {
        Some(Resume::Skip(len)) => frame.rip = frame.rip.wrapping_add(u64::from(len)),
        Some(Resume::At(rip)) => frame.rip = rip,
        None => on_report_stack(frame, fault::report),
    }
}

/// How many breakpoints the kernel has passed.
pub fn breakpoints() -> u64 {
    BREAKPOINTS.load(Ordering::Relaxed)
}

/// Where to go on after an expected exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Behind the instruction, which has this length in bytes.
    Skip(u8),
    /// At an address of the same function's.
    At(u64),
}

/// The one exception that is expected, if any.
struct Expectation {
    /// 0 when none is; otherwise vector + 1, and the thread's number from bit 32 on.
    key: AtomicU64,
    /// The length to skip, or an address, which is far larger.
    resume: AtomicU64,
    /// How many came.
    count: AtomicU64,
}

static EXPECTATION: Expectation = Expectation::new();

impl Expectation {
    const fn new() -> Self {
        Self {
            key: AtomicU64::new(0),
            resume: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }

    fn key(vector: u8, thread: u32) -> u64 {
        (u64::from(vector) + 1) | u64::from(thread) << 32
    }

    fn set(&self, vector: u8, thread: u32, resume: Resume) {
        let word = match resume {
            Resume::Skip(len) => u64::from(len),
            Resume::At(rip) => rip,
        };
        self.resume.store(word, Ordering::Relaxed);
        self.count.store(0, Ordering::Relaxed);
        self.key.store(Self::key(vector, thread), Ordering::Release);
    }

    /// Count an exception if it is the expected one, and say where to go on.
    fn take_over(&self, vector: u8, thread: u32) -> Option<Resume> {
        if self.key.load(Ordering::Acquire) != Self::key(vector, thread) {
            return None;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let word = self.resume.load(Ordering::Relaxed);
        Some(u8::try_from(word).map_or(Resume::At(word), Resume::Skip))
    }
}

/// An exception is expected, and passed over, until this is dropped.
#[derive(Debug)]
pub struct Expected(());

impl Expected {
    /// How many came so far.
    pub fn count(&self) -> u64 {
        EXPECTATION.count.load(Ordering::Relaxed)
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        EXPECTATION.key.store(0, Ordering::Release);
    }
}

/// Expect the calling thread to raise exceptions of a vector, and pass each over. `None` while
/// another expectation stands: there is one at a time.
pub fn expect(vector: u8, resume: Resume) -> Option<Expected> {
    if EXPECTATION.key.load(Ordering::Acquire) != 0 {
        return None;
    }
    EXPECTATION.set(vector, sched::current().number(), resume);
    Some(Expected(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breakpoint_is_counted_and_passed() {
        let before = breakpoints();
        let mut frame = TrapFrame {
            vector: u64::from(BREAKPOINT),
            rip: 0x1000,
            ..TrapFrame::default()
        };
        handle(&mut frame);
        assert_eq!(frame.rip, 0x1000);
        assert!(breakpoints() > before);
    }

    #[test]
    fn only_the_expected_vector_of_the_expecting_thread_is_passed_over() {
        let expectation = Expectation::new();
        assert_eq!(expectation.take_over(0, 0), None);
        expectation.set(6, 7, Resume::Skip(2));
        assert_eq!(expectation.take_over(6, 8), None);
        assert_eq!(expectation.take_over(5, 7), None);
        assert_eq!(expectation.take_over(6, 7), Some(Resume::Skip(2)));
        let far = Resume::At(0xffff_ffff_8000_1234);
        expectation.set(0, 0, far);
        assert_eq!(expectation.take_over(0, 0), Some(far));
        assert_eq!(expectation.count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_expected_fault_resumes_behind_the_instruction() {
        let expected = expect(13, Resume::Skip(3)).unwrap();
        assert!(expect(14, Resume::Skip(3)).is_none());
        let mut frame = TrapFrame {
            vector: 13,
            rip: 0x2000,
            ..TrapFrame::default()
        };
        handle(&mut frame);
        assert_eq!((frame.rip, expected.count()), (0x2003, 1));
        drop(expected);
        assert!(expect(14, Resume::Skip(3)).is_some());
    }
}
