//! Thread stacks, each with pages below it that nothing is mapped to: an overflow faults.

use core::ops::Range;

use hypercall_abi::types::PAGE_SIZE;

use super::{Access, STACKS, frames, image, map, unmap};
use crate::sync::SpinLock;

/// Bytes that a stack can hold.
pub const STACK_SIZE: u64 = 4 * PAGE_SIZE;
/// Address space for each stack: the upper half is the stack, the lower half its guard.
const SLOT_SIZE: u64 = 2 * STACK_SIZE;
/// How many stacks there can be: one for each thread.
const SLOTS: usize = crate::sched::MAX_THREADS;
/// Stacks without a thread that stay mapped, because the next thread is likely to come soon.
const CACHED: u32 = 4;
/// Words of a set of slots.
const WORDS: usize = SLOTS / 64;

const _: () = assert!(SLOTS.is_multiple_of(64));
const _: () = assert!(STACKS + SLOTS as u64 * SLOT_SIZE <= super::DEVICES);

static SLOTS_USED: SpinLock<Slots> = SpinLock::new(Slots::new());

/// Which slots are taken: a bit each.
#[derive(Debug)]
struct Slots {
    /// A [`Stack`] owns it.
    owned: [u64; WORDS],
    /// The stack is mapped, and nobody's.
    cached: [u64; WORDS],
}

impl Slots {
    const fn new() -> Self {
        Self {
            owned: [0; WORDS],
            cached: [0; WORDS],
        }
    }

    /// Take a slot, one that is mapped if there is any; the answer says whether it is.
    fn take(&mut self) -> Option<(usize, bool)> {
        if let Some(slot) = first_one(self.cached.iter().copied()) {
            flip(&mut self.cached, slot);
            flip(&mut self.owned, slot);
            return Some((slot, true));
        }
        let slot = first_one(self.owned.iter().map(|word| !word))?;
        flip(&mut self.owned, slot);
        Some((slot, false))
    }

    /// Give a slot back; it stays mapped when the answer is `true`.
    fn put(&mut self, slot: usize) -> bool {
        flip(&mut self.owned, slot);
        let cached: u32 = self.cached.iter().map(|word| word.count_ones()).sum();
        let is_kept = cached < CACHED;
        if is_kept {
            flip(&mut self.cached, slot);
        }
        is_kept
    }
}

/// The index of the lowest bit that is set.
fn first_one(words: impl Iterator<Item = u64>) -> Option<usize> {
    let (at, word) = words.enumerate().find(|(_, word)| *word != 0)?;
    Some(at * 64 + word.trailing_zeros() as usize)
}

fn flip(words: &mut [u64; WORDS], slot: usize) {
    if let Some(word) = words.get_mut(slot / 64) {
        *word ^= 1 << (slot % 64);
    }
}

/// A mapped stack, owned.
#[derive(Debug)]
pub struct Stack {
    slot: usize,
}

impl Stack {
    /// Take a stack; `None` when neither a slot nor frames are left.
    pub fn new() -> Option<Self> {
        let (slot, is_mapped) = SLOTS_USED.lock().take()?;
        if !is_mapped && !map_pages(range_of(slot)) {
            flip(&mut SLOTS_USED.lock().owned, slot);
            return None;
        }
        Some(Self { slot })
    }

    /// The addresses of the stack.
    pub fn range(&self) -> Range<u64> {
        range_of(self.slot)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut slots = SLOTS_USED.lock();
        if !slots.put(self.slot) {
            unmap_pages(self.range());
        }
    }
}

/// Map a stack's pages, all or none.
fn map_pages(range: Range<u64>) -> bool {
    for at in range.clone().step_by(PAGE_SIZE as usize) {
        let Some(frame) = frames::take() else {
            unmap_pages(range.start..at);
            return false;
        };
        if map(at, frame, Access::Write).is_err() {
            frames::put(frame);
            unmap_pages(range.start..at);
            return false;
        }
    }
    true
}

fn unmap_pages(range: Range<u64>) {
    for at in range.step_by(PAGE_SIZE as usize) {
        if let Some(frame) = unmap(at) {
            frames::put(frame);
        }
    }
}

fn range_of(slot: usize) -> Range<u64> {
    let end = STACKS + (slot as u64 + 1) * SLOT_SIZE;
    end - STACK_SIZE..end
}

/// The slot that an address lies in.
fn slot_of(at: u64) -> Option<usize> {
    let slot = (at.checked_sub(STACKS)? / SLOT_SIZE) as usize;
    (slot < SLOTS).then_some(slot)
}

/// Whether an address lies in the guard below a stack.
pub fn is_guard(at: u64) -> bool {
    slot_of(at).is_some_and(|slot| !range_of(slot).contains(&at))
}

/// The mapped memory around an address of a stack: a thread's, or within the image, where the boot
/// stack is. Takes no lock that a faulting context may hold.
pub fn around(at: u64) -> Option<Range<u64>> {
    let data = image().data;
    if data.contains(&at) {
        return Some(data);
    }
    let slot = slot_of(at)?;
    let range = range_of(slot);
    range.contains(&at).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_a_guard_and_then_a_stack() {
        let first = range_of(0);
        assert_eq!(first, STACKS + STACK_SIZE..STACKS + SLOT_SIZE);
        assert!(is_guard(first.start - 1) && is_guard(STACKS));
        assert!(!is_guard(first.start) && !is_guard(first.end - 1));
        assert!(is_guard(first.end), "the next slot's guard");
        assert!(!is_guard(STACKS - 1) && !is_guard(0));
        assert_eq!(around(first.end - 8), Some(first.clone()));
        assert_eq!(around(first.start - 8), None);
        assert!(around(image().data.start).is_some());
    }

    #[test]
    fn a_mapped_slot_is_taken_before_an_empty_one() {
        let mut slots = Slots::new();
        for expected in 0..70 {
            assert_eq!(slots.take(), Some((expected, false)));
        }
        let kept: std::vec::Vec<_> = (60..70).filter(|slot| slots.put(*slot)).collect();
        assert_eq!(kept, [60, 61, 62, 63]);
        assert_eq!(slots.take(), Some((60, true)));
        assert!(slots.put(0));
        let next: std::vec::Vec<_> = (0..5).map_while(|_| slots.take()).collect();
        assert_eq!(
            next,
            [(0, true), (61, true), (62, true), (63, true), (64, false)]
        );
    }

    #[test]
    fn slots_run_out() {
        let mut slots = Slots::new();
        assert_eq!(core::iter::from_fn(|| slots.take()).count(), SLOTS);
        assert!(slots.put(SLOTS - 1));
        assert_eq!(slots.take(), Some((SLOTS - 1, true)));
    }
}
