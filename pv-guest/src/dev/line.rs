//! Interrupt lines of devices. The top half runs with interrupts off: it counts, and wakes who waits. All else, the
//! bottom half, is done by the thread that was woken.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::Vector;
use hypercall_abi::layout::DEVICE_VECTORS;

use crate::irq::{self, Handler};
use crate::sync::WaitQueue;

/// How many lines there are.
const LINES: usize = (*DEVICE_VECTORS.end() - *DEVICE_VECTORS.start()) as usize + 1;

/// A device's interrupt.
pub struct Line {
    waiters: WaitQueue,
    count: AtomicU64,
}

static ALL: [Line; LINES] = [const {
    Line {
        waiters: WaitQueue::new(),
        count: AtomicU64::new(0),
    }
}; LINES];

/// A handler has no argument: so there is one a line.
static TOP_HALVES: [Handler; LINES] = [
    top::<0>, top::<1>, top::<2>, top::<3>, top::<4>, top::<5>, top::<6>, top::<7>, top::<8>,
    top::<9>, top::<10>, top::<11>, top::<12>, top::<13>,
];

fn top<const LINE: usize>() {
    if let Some(line) = ALL.get(LINE) {
        line.count.fetch_add(1, Ordering::Relaxed);
        line.waiters.wake_all();
    }
}

impl Line {
    /// The line of a vector, with its top half in place; `None` when it is no device's, or taken.
    pub fn of(vector: u8) -> Option<&'static Self> {
        let number = usize::from(vector.checked_sub(*DEVICE_VECTORS.start())?);
        let handler = TOP_HALVES.get(number)?;
        let is_new = irq::register(Vector::new(vector)?, *handler);
        ALL.get(number).filter(|_| is_new)
    }

    /// Sleep until the condition yields a value; it is asked at once, and after each interrupt.
    pub fn wait_until<T>(&self, condition: impl FnMut() -> Option<T>) -> T {
        self.waiters.wait_until(condition)
    }

    /// How many interrupts have come.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}
