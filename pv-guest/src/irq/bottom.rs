//! Bottom halves: run soon after their interrupt, in a thread of their own, with interrupts on.
//!
//! The thread is made when the first device asks for one. It goes ahead of all others when there is
//! work, so a bottom half does not wait for a time slice of whoever was interrupted.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::{VECTORS, bump, run_bottom};
use crate::sched::{self, SpawnError};
use crate::sync::WaitQueue;

const _: () = assert!(VECTORS <= u32::BITS as usize);

/// The vectors whose bottom half is to run, a bit for each.
static PENDING: AtomicU32 = AtomicU32::new(0);
static WORKER: WaitQueue = WaitQueue::new();
static HAS_WORKER: AtomicBool = AtomicBool::new(false);
static COUNTS: [AtomicU64; VECTORS] = [const { AtomicU64::new(0) }; VECTORS];

/// Make the thread, unless it is there.
pub(super) fn prepare() -> Result<(), SpawnError> {
    if HAS_WORKER.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let worker = sched::spawn("bottom", work);
    HAS_WORKER.store(worker.is_ok(), Ordering::Relaxed);
    worker.map(drop)
}

/// Ask for the bottom half of a vector's place. Called by `dispatch`, with interrupts off.
pub(super) fn raise(place: usize) {
    PENDING.fetch_or(1 << place, Ordering::Relaxed);
    WORKER.wake_ahead();
}

/// How often the bottom half of a vector's place has run.
pub(super) fn count(place: usize) -> u64 {
    COUNTS
        .get(place)
        .map_or(0, |count| count.load(Ordering::Relaxed))
}

fn work() {
    loop {
        let pending = WORKER.wait_until(take_pending);
        for (place, count) in COUNTS.iter().enumerate() {
            if pending & 1 << place != 0 {
                bump(count);
                run_bottom(place);
            }
        }
    }
}

/// What is to be done, if anything. An interrupt from here on asks again.
fn take_pending() -> Option<u32> {
    Some(PENDING.swap(0, Ordering::Relaxed)).filter(|pending| *pending != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_raised_is_taken_once_however_often_it_was_raised() {
        raise(3);
        raise(17);
        raise(3);
        assert_eq!(take_pending(), Some(1 << 3 | 1 << 17));
        assert_eq!(take_pending(), None);
    }
}
