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

/// The pages, and what of them is taken. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Area {
    /// By page of `layout::PATCHES`: which page of the monitor's it shows, and what is taken.
    pages: Arc<BTreeMap<u64, Page>>,
    /// The numbers of those that there are.
    known: Vec<u64>,
    /// Where the last code without a low byte of the displacement ended: there is room behind it, mostly.
    next: u64,
}

#[derive(Clone, Debug)]
struct Page {
    phys: u64,
    /// A bit for each byte.
    taken: [u64; 64],
}

impl Page {
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

    fn take(&mut self, range: Range<u64>) {
        for (word, bits) in Self::words(range) {
            if let Some(word) = self.taken.get_mut(word) {
                *word |= bits;
            }
        }
    }

    fn is_free(&self, range: Range<u64>) -> bool {
        let mut words = Self::words(range);
        words.all(|(word, bits)| self.taken.get(word).is_some_and(|word| word & bits == 0))
    }
}

/// A place in the area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its linear address.
    pub at: u64,
    /// Pages that were not in the area before: linear and guest-physical address.
    pub new: Vec<(u64, u64)>,
}

impl Area {
    /// The room that patches take. `None`: not all of them are in the area, or some overlap.
    pub fn with(patches: &[Patch]) -> Option<Self> {
        let mut area = Self::default();
        for patch in patches {
            let (at, len) = (patch.at, patch.code.len());
            if at < patch_linear(PATCH_FIRST) || len == 0 || !area.is_free(at, len) {
                return None;
            }
            area.occupy(at, len);
        }
        Some(area)
    }

    /// Find and take room for `len` bytes of code, such that the jump that stands at the linear address
    /// `from` and leads there has HLT in the bytes that a plan names.
    ///
    /// # Errors
    /// [`Refusal::Reach`] and [`Refusal::Full`].
    pub fn take(&mut self, from: u64, plan: &Plan, len: usize) -> Result<Place, Refusal> {
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
        let more = more.filter(|page| self.page(*page).is_none());
        let all = known.chain(more).flat_map(|page| {
            let first = patch_linear(page);
            offsets(next.wrapping_sub(first), mask, bits).map(move |offset| first + offset)
        });
        let found = at_next
            .into_iter()
            .chain(all)
            .find(|at| fits(*at) && self.is_free(*at, len));
        let at = found.ok_or(Refusal::Full)?;
        if is_anywhere {
            self.next = (at + len as u64).next_multiple_of(STEP);
        }
        let new = self.occupy(at, len);
        Ok(Place { at, new })
    }

    /// Take room; the pages that were not in the area before.
    fn occupy(&mut self, at: u64, len: usize) -> Vec<(u64, u64)> {
        let end = at + len as u64;
        let mut new = Vec::new();
        for number in (at - PATCHES) / PAGE..=(end - 1 - PATCHES) / PAGE {
            new.extend(self.add_page(number));
            let first = patch_linear(number);
            let range = at.max(first) - first..end.min(first + PAGE) - first;
            if let Some(page) = Arc::make_mut(&mut self.pages).get_mut(&number) {
                page.take(range);
            }
        }
        new
    }

    /// A page for code, unless it is one: its linear and guest-physical address.
    fn add_page(&mut self, number: u64) -> Option<(u64, u64)> {
        if self.page(number).is_some() {
            return None;
        }
        let phys = phys(PATCH_CODE.start + self.known.len() as u64);
        let page = Page {
            phys,
            taken: [0; 64],
        };
        Arc::make_mut(&mut self.pages).insert(number, page);
        self.known.push(number);
        Some((patch_linear(number), phys))
    }

    /// Where the next code goes, mostly.
    pub fn next(&self) -> u64 {
        self.next.max(patch_linear(PATCH_FIRST))
    }

    /// The pages with code: linear and guest-physical address of each.
    pub fn pages(&self) -> impl Iterator<Item = (u64, u64)> {
        let phys = |number| self.page(number).map(|page: &Page| page.phys);
        let known = self.known.iter();
        known.filter_map(move |number| Some((patch_linear(*number), phys(*number)?)))
    }

    /// Give all room back. The pages stay where they are.
    pub fn clear(&mut self) {
        for page in Arc::make_mut(&mut self.pages).values_mut() {
            page.taken = [0; 64];
        }
        self.next = 0;
    }

    /// The guest-physical address of a byte of the area.
    pub fn phys(&self, at: u64) -> Option<u64> {
        let page = self.page(at.checked_sub(PATCHES)? / PAGE)?;
        Some(page.phys + at % PAGE)
    }

    fn page(&self, number: u64) -> Option<&Page> {
        self.pages.get(&number)
    }

    fn is_free(&self, at: u64, len: usize) -> bool {
        let Some(end) = at.checked_add(len as u64) else {
            return false;
        };
        if end > PATCHES + PATCHES_LEN {
            return false;
        }
        let pages = (at - PATCHES) / PAGE..=(end - 1 - PATCHES) / PAGE;
        let new = pages.clone().filter(|page| self.page(*page).is_none());
        self.known.len() as u64 + new.count() as u64 <= PATCH_CODE.len
            && pages.into_iter().all(|number| {
                let first = patch_linear(number);
                let range = at.max(first) - first..end.min(first + PAGE) - first;
                self.page(number).is_none_or(|page| page.is_free(range))
            })
    }
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
