//! The frame allocator: who may use which page of guest-physical memory.

use alloc::sync::Arc;

use hypercall_abi::types::PAGE_SIZE;
use hypercall_abi::{Frame, GuestPhys};
use spin::Once;

use super::MapError;
use super::direct::to_virt;
use super::spans::{MAX_SPANS, Spans};
use super::zone::{Taken, Zone, words_for};
use crate::sync::SpinLock;

static FRAMES: SpinLock<FrameAllocator<'static>> = SpinLock::new(FrameAllocator::new());

/// Who has frames that nobody needs, and wants to know of others. Called from anywhere, with whatever
/// locks held: must not wait, allocate, or take a lock that is held while memory is allocated.
pub trait Spare: Send + Sync {
    /// Frames are short: give some back. `false` when there are none.
    fn relieve(&self) -> bool;
    /// Many frames have been given back since this was last called.
    fn freed(&self);
}

static SPARE: Once<Arc<dyn Spare>> = Once::new();
/// So many frames are many.
const MANY: u64 = 512;

/// Name who has spare frames. The first one named stays.
pub fn set_spare(spare: Arc<dyn Spare>) {
    SPARE.call_once(|| spare);
}

/// Take something; if it is short, after whoever has spare frames gave some back.
fn take_or_relieve<T>(take: impl Fn(&mut FrameAllocator<'_>) -> Option<T>) -> Option<T> {
    loop {
        let taken = take(&mut FRAMES.lock());
        if taken.is_some() || !SPARE.get().is_some_and(|spare| spare.relieve()) {
            return taken;
        }
    }
}

/// Frames in use and free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// Frames that the kernel has at all.
    pub total: u64,
    /// Frames that nobody uses.
    pub free: u64,
}

/// The frames of all memory, a zone for each usable range.
#[derive(Debug)]
pub struct FrameAllocator<'a> {
    zones: [Option<Zone<'a>>; MAX_SPANS],
    /// Frames that were given back, since there were many.
    freed: u64,
}

impl<'a> FrameAllocator<'a> {
    /// An allocator without frames.
    pub const fn new() -> Self {
        Self {
            zones: [const { None }; MAX_SPANS],
            freed: 0,
        }
    }

    /// Add the frames of a zone; `false` when there is no room for another one.
    pub fn add(&mut self, zone: Zone<'a>) -> bool {
        let place = self.zones.iter_mut().find(|place| place.is_none());
        place.map(|place| *place = Some(zone)).is_some()
    }

    /// Take one frame.
    pub fn take(&mut self) -> Option<Taken> {
        self.zones.iter_mut().flatten().find_map(Zone::take)
    }

    /// Take `count` adjacent frames, the first one's number a multiple of `align`.
    pub fn take_run(&mut self, count: u64, align: u64) -> Option<Taken> {
        let mut zones = self.zones.iter_mut().flatten();
        zones.find_map(|zone| zone.take_run(count, align))
    }

    /// Take adjacent frames that were given back; see [`Zone::take_freed`].
    pub fn take_freed(&mut self, from: u64, least: u64, most: u64) -> Option<(u64, u64)> {
        let mut zones = self.zones.iter_mut().flatten();
        zones.find_map(|zone| zone.take_freed(from, least, most))
    }

    /// Give frames back; `false` when they were not taken.
    #[must_use]
    pub fn put(&mut self, frame: u64, count: u64) -> bool {
        let mut zones = self.zones.iter_mut().flatten();
        zones
            .find(|zone| zone.holds(frame))
            .is_some_and(|zone| zone.put(frame, count))
    }

    /// Frames in use and free.
    pub fn counts(&self) -> FrameCounts {
        let zero = FrameCounts::default();
        self.zones
            .iter()
            .flatten()
            .fold(zero, |sum, zone| FrameCounts {
                total: sum.total + zone.total(),
                free: sum.free + zone.free(),
            })
    }
}

impl Default for FrameAllocator<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// Take these spans over. The bits of all frames go to the first span that has room for them.
pub(super) fn init(spans: &Spans) -> Result<(), MapError> {
    let mut spans = spans.clone();
    let words: u64 = spans.iter().map(|s| words_for(s.len / PAGE_SIZE)).sum();
    let bytes = (words * 8).next_multiple_of(PAGE_SIZE);
    let home = spans
        .iter_mut()
        .find(|span| span.len > bytes)
        .ok_or(MapError::NoFrame)?;
    let bits_at = home.start;
    (home.start, home.len) = (home.start + bytes, home.len - bytes);
    // SAFETY: these bytes are usable memory, which the boot tables and the kernel's own map at the
    // direct map; the span they were cut from no longer holds them, so no zone hands them out.
    let mut bits: &'static mut [u64] =
        unsafe { core::slice::from_raw_parts_mut(to_virt(bits_at) as *mut u64, words as usize) };
    let mut frames = FRAMES.lock();
    for span in spans.iter() {
        let count = span.len / PAGE_SIZE;
        let (own, rest) = bits.split_at_mut(words_for(count) as usize);
        bits = rest;
        frames.add(Zone::new(span.start / PAGE_SIZE, count, own));
    }
    Ok(())
}

/// Take a frame. What it holds is undefined.
pub fn take() -> Option<Frame> {
    let taken = take_or_relieve(|frames| frames.take())?;
    Some(Frame(taken.frame))
}

/// Take a frame of zeros.
///
/// The interface promises that memory in which the hypervisor placed nothing is zero at entry, so
/// a frame that nobody had before need not be cleared: on some hosts that is most of the boot.
pub fn take_zeroed() -> Option<Frame> {
    let taken = take_or_relieve(|frames| frames.take())?;
    let frame = Frame(taken.frame);
    if !taken.is_fresh {
        let page = to_virt(frame.start().0) as *mut u8;
        // SAFETY: the allocator hands each frame out once; nothing else refers to this one, and
        // the direct map holds all of them.
        unsafe { page.write_bytes(0, PAGE_SIZE as usize) };
    }
    Some(frame)
}

/// Take `count` adjacent frames, the first at a multiple of `align` frames.
pub fn take_run(count: u64, align: u64) -> Option<Frame> {
    let taken = take_or_relieve(|frames| frames.take_run(count, align))?;
    Some(Frame(taken.frame))
}

/// Take up to `most` adjacent frames, as long as more than `reserve` are left; what they hold is
/// undefined. For who takes frames because nobody else needs them.
pub(crate) fn take_spare(most: u64, reserve: u64) -> Option<(Frame, u64)> {
    let mut frames = FRAMES.lock();
    let room = frames.counts().free.checked_sub(reserve)?;
    let mut count = most.min(room);
    while count > 0 {
        if let Some(taken) = frames.take_run(count, 1) {
            return Some((Frame(taken.frame), count));
        }
        count /= 2;
    }
    None
}

/// Take adjacent frames that were given back, at or above a frame; for a while, to tell of them.
pub(crate) fn take_freed(from: Frame, least: u64, most: u64) -> Option<(Frame, u64)> {
    let taken = FRAMES.lock().take_freed(from.0, least, most);
    taken.map(|(frame, count)| (Frame(frame), count))
}

/// Give a frame back.
///
/// # Panics
/// When nobody had taken it: then somebody still uses it.
pub fn put(frame: Frame) {
    put_run(frame, 1);
}

/// Give adjacent frames back.
///
/// # Panics
/// When any of them was not taken.
pub fn put_run(first: Frame, count: u64) {
    if put_quietly(first, count)
        && let Some(spare) = SPARE.get()
    {
        spare.freed();
    }
}

/// Give adjacent frames back, and tell nobody. Returns whether there have been many by now.
///
/// # Panics
/// As [`put_run`].
pub(crate) fn put_quietly(first: Frame, count: u64) -> bool {
    let mut frames = FRAMES.lock();
    let was_taken = frames.put(first.0, count);
    assert!(
        was_taken,
        "frame {:#x} was given back, but not taken",
        first.0
    );
    frames.freed += count;
    let are_many = frames.freed >= MANY;
    if are_many {
        frames.freed = 0;
    }
    are_many
}

/// Frames in use and free.
pub fn counts() -> FrameCounts {
    FRAMES.lock().counts()
}

/// The frame behind a physical address.
pub const fn frame_of(phys: u64) -> Frame {
    Frame::containing(GuestPhys(phys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_used_in_turn_and_frames_find_their_way_home() {
        let (mut low, mut high) = ([0; 1], [0; 1]);
        let mut frames = FrameAllocator::new();
        assert!(frames.add(Zone::new(16, 2, &mut low)));
        assert!(frames.add(Zone::new(1 << 20, 40, &mut high)));
        let numbers = [(); 3].map(|()| frames.take().map(|taken| taken.frame));
        assert_eq!(numbers, [Some(16), Some(17), Some(1 << 20)]);
        assert_eq!(frames.take_run(8, 8).map(|t| t.frame), Some((1 << 20) + 8));
        assert!(frames.put(17, 1) && !frames.put(17, 1) && !frames.put(18, 1));
        assert_eq!(frames.take().map(|taken| taken.frame), Some(17));
        let (total, free) = (42, 42 - 11);
        assert_eq!(frames.counts(), FrameCounts { total, free });
    }
}
