//! The room for patched code: pages of the kernel view within a jump's reach.

use std::collections::BTreeMap;
use std::iter::StepBy;
use std::ops::Range;
use std::sync::Arc;

use super::plan::{JUMP, Plan};
use super::{Patch, Refusal};
use crate::monitor::native::layout::{
    PATCH_CODE, PATCH_FIRST, PATCHES, PATCHES_LEN, patch_linear, phys,
};

const PAGE: u64 = 4096;
/// HLT.
const TRAP: u8 = 0xf4;
/// Where no low byte of the displacement is given, code begins at such multiples.
const STEP: u64 = 16;

/// The pages, and what of them is taken. A page that a guest gets while it runs has a frame of its own; those of patches
/// that are known from the start may share frames. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Area {
    /// By page of `layout::PATCHES`: which frame of `layout::PATCH_CODE` it shows.
    pages: Arc<BTreeMap<u64, usize>>,
    frames: Arc<Vec<Box<Frame>>>,
    /// The numbers of the pages that there are.
    known: Vec<u64>,
    /// Where the last code ended: there is room behind it, mostly.
    next: u64,
    /// Whether new pages share frames, where their code allows it.
    pub may_share: bool,
}

/// A frame: its bytes, and a bit for each that is taken.
#[derive(Clone, Debug)]
struct Frame {
    bytes: [u8; PAGE as usize],
    taken: [u64; 64],
}

impl Default for Frame {
    fn default() -> Self {
        Self {
            bytes: [0; PAGE as usize],
            taken: [0; 64],
        }
    }
}

impl Frame {
    /// The words of a range of bytes that have bits, and those bits.
    fn words(range: Range<u64>) -> impl Iterator<Item = (usize, u64)> {
        let below = |bits: u64| {
            1u64.checked_shl(bits as u32)
                .map_or(u64::MAX, |bit| bit - 1)
        };
        (range.start / 64..range.end.div_ceil(64)).map(move |word| {
            let start = range.start.saturating_sub(word * 64);
            let end = (range.end - word * 64).min(64);
            (word as usize, below(end) & !below(start))
        })
    }

    /// Take a range for code of its length.
    fn take(&mut self, range: Range<u64>, code: &[u8]) {
        for (word, bits) in Self::words(range.clone()) {
            if let Some(word) = self.taken.get_mut(word) {
                *word |= bits;
            }
        }
        let bytes = self.bytes.get_mut(range.start as usize..range.end as usize);
        if let Some(to) = bytes.filter(|to| to.len() == code.len()) {
            to.copy_from_slice(code);
        }
    }

    fn is_free(&self, range: Range<u64>) -> bool {
        let mut words = Self::words(range);
        words.all(|(word, bits)| {
            let word = self.taken.get(word);
            word.is_some_and(|word| word & bits == 0)
        })
    }
}

impl Area {
    /// The room that patches take. `may_share`: in as few frames as their code allows. `None`: not all of them are in the
    /// area, or some overlap.
    pub fn with(patches: &[Patch], may_share: bool) -> Option<Self> {
        let mut by_page: BTreeMap<u64, Vec<Part<'_>>> = BTreeMap::new();
        for patch in patches {
            let (at, code) = (patch.at, patch.code.as_slice());
            if at < patch_linear(PATCH_FIRST) || code.is_empty() || !is_inside(at, code.len()) {
                return None;
            }
            for part in parts(at, code) {
                by_page.entry(part.page).or_default().push(part);
            }
        }
        let mut area = Self::default();
        for (page, parts) in by_page {
            let fits = |frame: &Frame| parts.iter().all(|part| frame.is_free(part.range.clone()));
            let shared = area
                .frames
                .iter()
                .position(|frame| may_share && fits(frame));
            for part in &parts {
                let frame = area.pages.get(&page).copied().or(shared);
                let shown = frame.and_then(|frame| area.frames.get(frame));
                if shown.is_some_and(|frame| !frame.is_free(part.range.clone())) {
                    return None;
                }
                area.put(part, frame);
            }
        }
        (area.frames() <= PATCH_CODE.len).then_some(area)
    }

    /// Find room for `len` bytes of code, such that the jump that stands at the linear address
    /// `from` and leads there has HLT in the bytes that a plan names.
    ///
    /// # Errors
    /// [`Refusal::Reach`] and [`Refusal::Full`].
    pub fn find(&self, from: u64, plan: &Plan, len: usize) -> Result<u64, Refusal> {
        let next = from.wrapping_add(JUMP as u64);
        let ends = [PATCHES, PATCHES + PATCHES_LEN].map(|end| displacement(next, end));
        let [Some(_), Some(_)] = ends else {
            return Err(Refusal::Reach);
        };
        let (mask, bits) = pattern(plan.traps);
        let fits = |at: u64| at.wrapping_sub(next) as u32 & mask == bits;
        let is_anywhere = mask & 0xffff == 0;
        let at_next = is_anywhere.then(|| self.next());
        let within = pages(next, mask, bits);
        let known = self.known.iter().copied();
        let known = known.filter(|page| within.iter().any(|range| range.contains(page)));
        let more = within.iter().cloned().flatten();
        let more = more.filter(|page| !self.pages.contains_key(page));
        let all = known.chain(more).flat_map(|page| {
            let first = patch_linear(page);
            offsets(next.wrapping_sub(first), mask, bits).map(move |offset| first + offset)
        });
        let found = at_next
            .into_iter()
            .chain(all)
            .find(|at| fits(*at) && self.is_free(*at, len));
        found.ok_or(Refusal::Full)
    }

    /// Take room that is free for code; the pages that were not in the area before: linear and guest-physical address of
    /// each.
    pub fn take(&mut self, at: u64, code: &[u8]) -> Vec<(u64, u64)> {
        self.next = (at + code.len() as u64).next_multiple_of(STEP);
        let mut new = Vec::new();
        for part in parts(at, code) {
            let known = self.pages.get(&part.page).copied();
            let frame = self.put(&part, known.or_else(|| self.shared(&part)));
            if known.is_none() {
                new.push((patch_linear(part.page), phys_of(frame)));
            }
        }
        new
    }

    /// A frame where a new page's first code fits, if it may share one.
    fn shared(&self, part: &Part<'_>) -> Option<usize> {
        if !self.may_share {
            return None;
        }
        let mut frames = self.frames.iter();
        frames.position(|frame| frame.is_free(part.range.clone()))
    }

    /// Put a part of code into a frame, a new one if none is given, which its page shows. The frame.
    fn put(&mut self, part: &Part<'_>, frame: Option<usize>) -> usize {
        let frames = Arc::make_mut(&mut self.frames);
        let frame = frame.unwrap_or_else(|| {
            frames.push(Box::default());
            frames.len() - 1
        });
        if let Some(frame) = frames.get_mut(frame) {
            frame.take(part.range.clone(), part.code);
        }
        if !self.pages.contains_key(&part.page) {
            Arc::make_mut(&mut self.pages).insert(part.page, frame);
            self.known.push(part.page);
        }
        frame
    }

    /// Whether pages share frames: what would fit may find its place taken by another page's code.
    pub fn is_shared(&self) -> bool {
        self.frames.len() < self.pages.len()
    }

    /// Where the next code goes that may be anywhere, mostly.
    fn next(&self) -> u64 {
        self.next.max(patch_linear(PATCH_FIRST))
    }

    /// The pages with code: linear and guest-physical address of each.
    pub fn pages(&self) -> impl Iterator<Item = (u64, u64)> {
        let pages = self.pages.iter();
        pages.map(|(number, frame)| (patch_linear(*number), phys_of(*frame)))
    }

    /// How many frames they show: the first of `layout::PATCH_CODE`.
    pub fn frames(&self) -> u64 {
        self.frames.len() as u64
    }

    /// The frames' bytes, each with its guest-physical address.
    pub fn bytes(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let frames = self.frames.iter().enumerate();
        frames.map(|(frame, shown)| (phys_of(frame), shown.bytes.as_slice()))
    }

    /// Give all room back. The pages stay where they are.
    pub fn clear(&mut self) {
        for frame in Arc::make_mut(&mut self.frames) {
            **frame = Frame::default();
        }
        self.next = 0;
    }

    /// The guest-physical address of a byte of the area.
    pub fn phys(&self, at: u64) -> Option<u64> {
        let frame = self.pages.get(&(at.checked_sub(PATCHES)? / PAGE))?;
        Some(phys_of(*frame) + at % PAGE)
    }

    /// Whether there is room at an address.
    pub fn is_free(&self, at: u64, len: usize) -> bool {
        if !is_inside(at, len) {
            return false;
        }
        let mut new = 0;
        ranges(at, len).all(|(page, range)| match self.pages.get(&page) {
            Some(frame) => self
                .frames
                .get(*frame)
                .is_some_and(|frame| frame.is_free(range)),
            None => {
                new += 1;
                self.frames() + new <= PATCH_CODE.len
            }
        })
    }
}

/// Whether code at an address ends in the area, where it begins behind its start.
fn is_inside(at: u64, len: usize) -> bool {
    let end = at.checked_add(len as u64);
    end.is_some_and(|end| end <= PATCHES + PATCHES_LEN)
}

/// What of a piece of code is in one page.
struct Part<'a> {
    /// The page's number.
    page: u64,
    /// Offsets in it.
    range: Range<u64>,
    code: &'a [u8],
}

/// The parts of code at an address.
fn parts(at: u64, code: &[u8]) -> impl Iterator<Item = Part<'_>> {
    ranges(at, code.len()).scan(code, |rest, (page, range)| {
        let (code, behind) = rest.split_at_checked((range.end - range.start) as usize)?;
        *rest = behind;
        Some(Part { page, range, code })
    })
}

/// The pages of so many bytes at an address, each with the offsets in it.
fn ranges(at: u64, len: usize) -> impl Iterator<Item = (u64, Range<u64>)> {
    let (from, end) = (at - PATCHES, at - PATCHES + len as u64);
    (from / PAGE..end.div_ceil(PAGE)).map(move |page| {
        let first = page * PAGE;
        (page, from.max(first) - first..end.min(first + PAGE) - first)
    })
}

fn phys_of(frame: usize) -> u64 {
    phys(PATCH_CODE.start + frame as u64)
}

/// The pages that may suit: all, or those few that the displacement's third byte leaves.
fn pages(next: u64, mask: u32, bits: u32) -> [Range<u64>; 2] {
    /// What the displacement's two low bytes reach.
    const REACH: u64 = 1 << 16;
    let all = PATCH_FIRST..PATCHES_LEN / PAGE;
    if mask & 0xff_0000 == 0 {
        return [all, 0..0];
    }
    let third = u64::from(bits) & 0xff_0000;
    let start = next.wrapping_add(third).wrapping_sub(PATCHES) % PATCHES_LEN;
    let end = start + REACH;
    let within =
        |start: u64, end: u64| (start / PAGE).max(all.start)..end.div_ceil(PAGE).min(all.end);
    // Beyond the area's end it is its start again: the fourth byte is free.
    [
        within(start, end),
        within(0, end.saturating_sub(PATCHES_LEN)),
    ]
}

/// The offsets in a page that may suit: `next` is how far the jump's next instruction is behind the page's
/// first byte. Not all of them do, where the displacement's third byte is given, too.
fn offsets(next: u64, mask: u32, bits: u32) -> StepBy<Range<u64>> {
    let at = next.wrapping_add(u64::from(bits)) & 0xffff;
    let (range, step) = match (mask & 0xff != 0, mask & 0xff00 != 0) {
        (false, false) => (0..PAGE, STEP),
        (true, false) => (at & 0xff..PAGE, 256),
        (false, true) => (at.next_multiple_of(STEP)..PAGE.min(at + 256), STEP),
        (true, true) => (at..PAGE.min(at + 1), 1),
    };
    range.step_by(step as usize)
}

/// The displacement of a jump whose next instruction is at `next`. Addresses wrap.
pub fn displacement(next: u64, to: u64) -> Option<i32> {
    i32::try_from(to.wrapping_sub(next) as i64).ok()
}

/// What bits of the displacement are given, and their values.
fn pattern(traps: [bool; 4]) -> (u32, u32) {
    let bytes = |value: u8| u32::from_le_bytes(traps.map(|trap| if trap { value } else { 0 }));
    (bytes(0xff), bytes(TRAP))
}
