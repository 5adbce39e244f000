//! Interrupt handlers by vector: the top halves. Called by `trap`, with interrupts off.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::{Vector, layout};
use spin::Once;

use crate::hooks;

/// A top half: short, with interrupts off; it moves data and wakes sleepers.
pub type Handler = fn();

/// How many vectors a guest may use.
const VECTORS: usize = (Vector::LAST - Vector::FIRST) as usize + 1;

static HANDLERS: [Once<Handler>; VECTORS] = [const { Once::new() }; VECTORS];
static COUNTS: [AtomicU64; VECTORS] = [const { AtomicU64::new(0) }; VECTORS];
static UNHANDLED: AtomicU64 = AtomicU64::new(0);
static ARRIVED_AT: AtomicU64 = AtomicU64::new(0);

/// Name the handler of a vector. The first one named stays; `false` when there was one already.
pub fn register(vector: Vector, handler: Handler) -> bool {
    let mut is_new = false;
    if let Some(place) = HANDLERS.get(index(vector)) {
        place.call_once(|| {
            is_new = true;
            handler
        });
    }
    is_new
}

/// How often a vector has arrived.
pub fn count(vector: Vector) -> u64 {
    COUNTS
        .get(index(vector))
        .map_or(0, |count| count.load(Ordering::Relaxed))
}

/// The time-stamp counter when the last interrupt reached the kernel: for the benchmark.
pub fn arrived_at() -> u64 {
    ARRIVED_AT.load(Ordering::Relaxed)
}

/// How many interrupts arrived that nobody handles.
pub fn unhandled() -> u64 {
    UNHANDLED.load(Ordering::Relaxed)
}

/// Signal the end of the interrupt, and run its handler.
///
/// The end comes first: the handler may make another thread runnable, and once that runs, nobody
/// would signal it. Interrupts are off, so the vector does not arrive again meanwhile.
pub(crate) fn dispatch(number: u8) {
    ARRIVED_AT.store(hooks::ticks(), Ordering::Relaxed);
    // SDM vol. 3, 11.9: a spurious interrupt is not in service, so it has no end.
    if number != layout::SPURIOUS_VECTOR {
        hooks::end_of_interrupt();
    }
    let place = Vector::new(number).map(index);
    if let Some(count) = place.and_then(|at| COUNTS.get(at)) {
        bump(count);
    }
    match place.and_then(|at| HANDLERS.get(at)).and_then(Once::get) {
        Some(handler) => handler(),
        None => bump(&UNHANDLED),
    }
}

fn index(vector: Vector) -> usize {
    usize::from(vector.number() - Vector::FIRST)
}

/// Count one. Interrupts are off, so nothing else writes between the load and the store.
fn bump(count: &AtomicU64) {
    let next = count.load(Ordering::Relaxed).wrapping_add(1);
    count.store(next, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::fake;

    static SEEN: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn an_interrupt_ends_before_its_handler_runs() {
        let vector = Vector::new(0x2a).unwrap();
        assert!(register(vector, || SEEN.store(fake::ended(), Ordering::Relaxed)));
        assert!(!register(vector, || ()));
        dispatch(0x2a);
        assert_eq!(SEEN.load(Ordering::Relaxed), 1);
        assert_eq!(count(vector), 1);
    }

    #[test]
    fn a_spurious_interrupt_has_no_end_and_a_stray_one_is_counted() {
        let before = unhandled();
        dispatch(layout::SPURIOUS_VECTOR);
        assert_eq!(fake::ended(), 0);
        dispatch(0x2b);
        dispatch(0xff);
        assert_eq!(fake::ended(), 2);
        assert!(unhandled() >= before + 3);
    }
}
