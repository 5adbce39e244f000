//! The room for patched code: pages of the kernel view within a jump's reach.

use std::collections::BTreeMap;

use super::Refusal;
use super::plan::{JUMP, Plan};
use crate::monitor::native::layout::{
    PATCH_CODE, PATCH_FIRST, PATCHES, PATCHES_LEN, patch_linear, phys,
};

const PAGE: u64 = 4096;
/// HLT.
const TRAP: u8 = 0xf4;
/// Where no low byte of the displacement is given, code begins at such multiples.
const STEP: usize = 16;

/// The pages, and what of them is taken.
#[derive(Debug, Default)]
pub struct Area {
    /// By page of `layout::PATCHES`: which page of the monitor's it shows, and a flag for each byte.
    pages: BTreeMap<u64, Page>,
}

#[derive(Debug)]
struct Page {
    phys: u64,
    taken: Box<[bool; 4096]>,
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
        let step = if mask & 0xff == 0 { STEP } else { 1 };
        let known = self.pages.keys().copied().collect::<Vec<_>>();
        let more = PATCH_FIRST..PATCHES_LEN / PAGE;
        let all = known
            .into_iter()
            .chain(more.filter(|page| !self.pages.contains_key(page)));
        let found = all
            .flat_map(|page| {
                // With a low byte given, one address in 256 fits.
                let first = patch_linear(page);
                let low = (bits as u64).wrapping_add(next) & 0xff;
                let (from, step) = match step {
                    1 => (low, 256),
                    step => (0, step as u64),
                };
                (from..PAGE)
                    .step_by(step as usize)
                    .map(move |offset| first + offset)
            })
            .find(|at| fits(*at) && self.is_free(*at, len));
        let at = found.ok_or(Refusal::Full)?;
        let mut new = Vec::new();
        for byte in at..at + len as u64 {
            let number = (byte - PATCHES) / PAGE;
            let next = phys(PATCH_CODE.start + self.pages.len() as u64);
            let page = self.pages.entry(number).or_insert_with(|| {
                new.push((patch_linear(number), next));
                Page {
                    phys: next,
                    taken: Box::new([false; 4096]),
                }
            });
            if let Some(taken) = page.taken.get_mut((byte % PAGE) as usize) {
                *taken = true;
            }
        }
        Ok(Place { at, new })
    }

    /// Give all room back. The pages stay where they are.
    pub fn clear(&mut self) {
        for page in self.pages.values_mut() {
            page.taken.fill(false);
        }
    }

    /// The guest-physical address of a byte of the area.
    pub fn phys(&self, at: u64) -> Option<u64> {
        let page = self.pages.get(&(at.checked_sub(PATCHES)? / PAGE))?;
        Some(page.phys + at % PAGE)
    }

    fn is_free(&self, at: u64, len: usize) -> bool {
        let end = at + len as u64;
        let pages = (at - PATCHES) / PAGE..=(end - 1 - PATCHES) / PAGE;
        let new = pages.filter(|page| !self.pages.contains_key(page)).count() as u64;
        end <= PATCHES + PATCHES_LEN
            && self.pages.len() as u64 + new <= PATCH_CODE.len
            && (at..end).all(|byte| {
                let page = self.pages.get(&((byte - PATCHES) / PAGE));
                page.is_none_or(|page| page.taken.get((byte % PAGE) as usize) == Some(&false))
            })
    }
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
