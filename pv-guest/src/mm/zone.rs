//! The frames of one range of memory: a bit for each, used or free.
//!
//! Frames from `fresh` on were never handed out, and their bits were never written: taking a large
//! range over costs nothing, and a frame that comes from there still holds what the hypervisor left
//! there, which is zeros.

use core::ops::Range;

/// A frame that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The first frame's number.
    pub frame: u64,
    /// Whether nobody had it before.
    pub is_fresh: bool,
}

/// The frames `first .. first + frames`; indices below count from `first`.
#[derive(Debug)]
pub struct Zone<'a> {
    first: u64,
    frames: u64,
    /// From here on no frame was ever taken.
    fresh: u64,
    /// Below here no frame is free.
    hint: u64,
    /// How many frames below `fresh` are free.
    freed: u64,
    /// A bit a frame, 1 when used; valid below `fresh`.
    used: &'a mut [u64],
}

/// How many words of bits a zone of this many frames needs.
pub const fn words_for(frames: u64) -> u64 {
    frames.div_ceil(64)
}

impl<'a> Zone<'a> {
    /// The zone of these frames, all free; as many as there are bits for.
    pub fn new(first: u64, frames: u64, used: &'a mut [u64]) -> Self {
        let room = (used.len() as u64).saturating_mul(64);
        Self {
            first,
            frames: frames.min(room),
            fresh: 0,
            hint: 0,
            freed: 0,
            used,
        }
    }

    /// How many frames the zone has.
    pub fn total(&self) -> u64 {
        self.frames
    }

    /// How many frames are free.
    pub fn free(&self) -> u64 {
        self.frames - self.fresh + self.freed
    }

    /// Whether a frame belongs to this zone.
    pub fn holds(&self, frame: u64) -> bool {
        frame
            .checked_sub(self.first)
            .is_some_and(|index| index < self.frames)
    }

    /// Take one frame.
    pub fn take(&mut self) -> Option<Taken> {
        if let Some(index) = self.find_free() {
            self.hint = index + 1;
            self.freed -= 1;
            self.mark(index..index + 1, true);
            return Some(self.taken(index, false));
        }
        self.take_fresh(self.fresh, 1)
    }

    /// Take `count` adjacent frames, the first one's number a multiple of `align`.
    pub fn take_run(&mut self, count: u64, align: u64) -> Option<Taken> {
        if count == 1 && align <= 1 {
            return self.take();
        }
        let start = self
            .first
            .checked_add(self.fresh)?
            .checked_next_multiple_of(align.max(1))?
            - self.first;
        self.take_fresh(start, count)
            .or_else(|| self.take_used_run(count, align.max(1)))
    }

    /// Give frames back. `false`, and nothing happens, when they are not all this zone's and used.
    #[must_use]
    pub fn put(&mut self, frame: u64, count: u64) -> bool {
        let Some(start) = frame.checked_sub(self.first) else {
            return false;
        };
        let is_known = start
            .checked_add(count)
            .is_some_and(|end| end <= self.fresh);
        if !is_known || (start..start + count).any(|index| !self.is_used(index)) {
            return false;
        }
        self.mark(start..start + count, false);
        self.freed += count;
        self.hint = self.hint.min(start);
        true
    }

    /// Take frames that were never taken, from `start >= fresh` on; those skipped are free.
    fn take_fresh(&mut self, start: u64, count: u64) -> Option<Taken> {
        let end = start.checked_add(count)?;
        if end > self.frames {
            return None;
        }
        for word in words_for(self.fresh)..words_for(end) {
            if let Some(bits) = self.used.get_mut(word as usize) {
                *bits = 0;
            }
        }
        self.freed += start - self.fresh;
        self.fresh = end;
        self.mark(start..end, true);
        Some(self.taken(start, true))
    }

    /// Take the first run of at least `least` adjacent frames that were given back, at or above a
    /// frame: as many of them as `most`. Returns the first one's number, and how many.
    pub fn take_freed(&mut self, from: u64, least: u64, most: u64) -> Option<(u64, u64)> {
        let mut start = from.saturating_sub(self.first);
        while self.freed >= least.max(1) && start < self.fresh {
            let end = (start..self.fresh).find(|index| self.is_used(*index));
            let end = end.unwrap_or(self.fresh).min(start.saturating_add(most));
            if end - start >= least.max(1) {
                self.mark(start..end, true);
                self.freed -= end - start;
                return Some((self.first + start, end - start));
            }
            start = self.next_free(end + 1);
        }
        None
    }

    /// The first free frame at or above an index, or `fresh`. Passes words of used frames at once.
    fn next_free(&self, index: u64) -> u64 {
        let mut index = index;
        while index < self.fresh && self.is_used(index) {
            let word = self.used.get((index / 64) as usize).copied();
            index = match word {
                Some(u64::MAX) => (index / 64 + 1) * 64,
                _ => index + 1,
            };
        }
        index.min(self.fresh)
    }

    /// Take a run among frames that were given back.
    fn take_used_run(&mut self, count: u64, align: u64) -> Option<Taken> {
        let mut start = self.hint;
        loop {
            let frame = self.first.checked_add(start)?;
            start = frame.checked_next_multiple_of(align)? - self.first;
            let end = start.checked_add(count)?;
            if end > self.fresh {
                return None;
            }
            match (start..end).rev().find(|index| self.is_used(*index)) {
                Some(used) => start = used + 1,
                None => {
                    self.mark(start..end, true);
                    self.freed -= count;
                    return Some(self.taken(start, false));
                }
            }
        }
    }

    /// The lowest free frame below `fresh`.
    fn find_free(&mut self) -> Option<u64> {
        if self.freed == 0 {
            return None;
        }
        let skipped = self.hint / 64;
        let words = self.used.iter().enumerate().skip(skipped as usize);
        let (at, free) = words
            .map(|(at, bits)| (at as u64, !bits))
            .find(|(_, free)| *free != 0)?;
        let index = at * 64 + u64::from(free.trailing_zeros());
        (index < self.fresh).then_some(index)
    }

    fn taken(&self, index: u64, is_fresh: bool) -> Taken {
        Taken {
            frame: self.first + index,
            is_fresh,
        }
    }

    fn is_used(&self, index: u64) -> bool {
        let bits = self.used.get((index / 64) as usize);
        bits.is_none_or(|bits| bits & (1 << (index % 64)) != 0)
    }

    /// Write the bits of a range, word by word.
    fn mark(&mut self, range: Range<u64>, is_used: bool) {
        let mut index = range.start;
        while index < range.end {
            let end = range.end.min((index / 64 + 1) * 64);
            let mask = (u64::MAX >> (64 - (end - index))) << (index % 64);
            if let Some(bits) = self.used.get_mut((index / 64) as usize) {
                *bits = if is_used { *bits | mask } else { *bits & !mask };
            }
            index = end;
        }
    }
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
