//! Interrupt handlers by vector: the top halves. Called by `trap`, with interrupts off.
//!
//! A device of the kernel's own registers a function. A driver attaches [`Halves`]: its top half
//! runs here, its bottom half in the thread of `bottom`.

mod bottom;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use driver_api::{EnvError, Halves};
use hypercall_abi::{Vector, layout};
use spin::Once;

use crate::hooks;

/// A top half: short, with interrupts off; it moves data and wakes sleepers.
pub type Handler = fn();

/// How many vectors a guest may use.
const VECTORS: usize = (Vector::LAST - Vector::FIRST) as usize + 1;

/// Who handles a vector.
enum Entry {
    Handler(Handler),
    Halves(Arc<dyn Halves>),
}

static HANDLERS: [Once<Entry>; VECTORS] = [const { Once::new() }; VECTORS];
static COUNTS: [AtomicU64; VECTORS] = [const { AtomicU64::new(0) }; VECTORS];
/// The vectors that are triggered by level, a bit for each.
static LEVEL: AtomicU32 = AtomicU32::new(0);
static UNHANDLED: AtomicU64 = AtomicU64::new(0);
static ARRIVED_AT: AtomicU64 = AtomicU64::new(0);

/// Name the handler of a vector. The first one named stays; `false` when there was one already.
pub fn register(vector: Vector, handler: Handler) -> bool {
    enter(vector, Entry::Handler(handler))
}

/// Let a driver handle a vector.
///
/// # Errors
/// [`EnvError`] for a vector that a device must not have, or when somebody else has it.
pub fn attach(number: u8, halves: Arc<dyn Halves>) -> Result<(), EnvError> {
    let vector = Vector::new(number).filter(|_| number != layout::SPURIOUS_VECTOR);
    let vector = vector.ok_or(EnvError::BadVector(number))?;
    bottom::prepare().map_err(|_| EnvError::NoThread)?;
    let is_new = enter(vector, Entry::Halves(halves));
    is_new.then_some(()).ok_or(EnvError::VectorInUse(number))
}

/// A vector that nobody handles, for a device that has none of its own: below the timer's and virtio's.
pub fn free_vector() -> Option<Vector> {
    let mut vectors = (Vector::FIRST..layout::TIMER_VECTOR).filter_map(Vector::new);
    vectors.find(|vector| {
        let place = HANDLERS.get(index(*vector));
        place.is_some_and(|place| !place.is_completed())
    })
}

/// From now on a vector is triggered by level: it is ended behind its top half, which has to have its line
/// lowered.
pub fn end_late(vector: Vector) {
    LEVEL.fetch_or(1 << index(vector), Ordering::Relaxed);
}

fn is_level(place: usize) -> bool {
    LEVEL.load(Ordering::Relaxed) & 1 << place != 0
}

fn enter(vector: Vector, entry: Entry) -> bool {
    let mut is_new = false;
    if let Some(place) = HANDLERS.get(index(vector)) {
        place.call_once(|| {
            is_new = true;
            entry
        });
    }
    is_new
}

/// How often the bottom half of a vector has run.
pub fn bottoms(vector: Vector) -> u64 {
    bottom::count(index(vector))
}

/// Run the bottom half of a place, with interrupts on.
fn run_bottom(place: usize) {
    if let Some(Entry::Halves(halves)) = HANDLERS.get(place).and_then(Once::get) {
        halves.bottom();
    }
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
/// would signal it. Interrupts are off, so the vector does not arrive again meanwhile. But for what is
/// triggered by level: its line is raised yet, and would ask again at once.
pub(crate) fn dispatch(number: u8) {
    ARRIVED_AT.store(hooks::ticks(), Ordering::Relaxed);
    let place = Vector::new(number).map(index);
    let is_level = place.is_some_and(is_level);
    // SDM vol. 3, 11.9: a spurious interrupt is not in service, so it has no end.
    if number != layout::SPURIOUS_VECTOR && !is_level {
        hooks::end_of_interrupt();
    }
    if let Some(count) = place.and_then(|at| COUNTS.get(at)) {
        bump(count);
    }
    let Some(place) = place else {
        return bump(&UNHANDLED);
    };
    match HANDLERS.get(place).and_then(Once::get) {
        Some(Entry::Handler(handler)) => handler(),
        Some(Entry::Halves(halves)) if halves.top() => bottom::raise(place),
        Some(Entry::Halves(_)) => {}
        None => bump(&UNHANDLED),
    }
    if is_level {
        hooks::end_of_interrupt();
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

    struct Counted(AtomicU64, AtomicU64, bool);

    impl Halves for Counted {
        fn top(&self) -> bool {
            bump(&self.0);
            self.2
        }
        fn bottom(&self) {
            bump(&self.1);
        }
    }

    #[test]
    fn the_top_half_decides_whether_there_is_a_bottom_half() {
        let counts = |halves: &Counted| {
            let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
            (count(&halves.0), count(&halves.1))
        };
        for (number, wants_bottom) in [(0x2cu8, true), (0x2d, false)] {
            let vector = Vector::new(number).unwrap();
            let halves = Arc::new(Counted(AtomicU64::new(0), AtomicU64::new(0), wants_bottom));
            assert!(enter(vector, Entry::Halves(halves.clone())));
            dispatch(number);
            assert_eq!(counts(&halves), (1, 0));
            run_bottom(index(vector));
            assert_eq!(counts(&halves), (1, 1));
        }
    }

    #[test]
    fn a_level_is_ended_behind_its_top_half() {
        static AT_TOP: AtomicU64 = AtomicU64::new(9);
        let vector = Vector::new(0x2e).unwrap();
        assert!(register(vector, || AT_TOP.store(fake::ended(), Ordering::Relaxed)));
        end_late(vector);
        dispatch(0x2e);
        assert_eq!(AT_TOP.load(Ordering::Relaxed), 0);
        assert_eq!(fake::ended(), 1);
    }

    #[test]
    fn a_driver_gets_no_vector_of_somebody_else_s() {
        let halves = || Arc::new(Counted(AtomicU64::new(0), AtomicU64::new(0), false));
        for number in [0x1f, 0x40, layout::SPURIOUS_VECTOR] {
            let result = attach(number, halves());
            assert_eq!(result, Err(EnvError::BadVector(number)));
        }
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
