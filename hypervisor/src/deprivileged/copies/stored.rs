//! What is known of pages with code, as it is kept in a file: all but the guest's own bytes, which who reads it
//! has to have.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::packed::Packed;
use super::page::{Copy, Own};
use super::targets::StoredTargets;
use super::{COPIES, Copies, END, End, LONGEST, PAGE};

const BYTES: usize = PAGE as usize;

/// [`Copies`], without the guest's own bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored<'a> {
    pages: Vec<StoredPage>,
    /// By frame: ranges of data that code names.
    named: Vec<(u64, Vec<(u16, u16)>)>,
    /// By the frame of the end: the frame that the instruction begins in, and the bytes.
    ends: Vec<(u64, u64, Vec<u8>)>,
    /// By frame.
    #[serde(borrow)]
    targets: Vec<(u64, StoredTargets<'a>)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredPage {
    frame: u64,
    /// Checksum of the guest's own bytes.
    check: u32,
    packed: Packed,
}

impl<'a> Stored<'a> {
    /// What copies know.
    pub fn of(copies: &'a Copies) -> Self {
        let narrow = |offset: usize| u16::try_from(offset).unwrap_or(u16::MAX);
        let named = copies.named.iter().map(|(frame, ranges)| {
            let ranges = ranges.iter();
            let ranges = ranges.map(|(start, end)| (narrow(*start), narrow((*end).min(BYTES))));
            let mut ranges: Vec<(u16, u16)> = ranges.collect();
            ranges.sort_unstable();
            ranges.dedup();
            (*frame, ranges)
        });
        let targets = copies.targets.iter();
        let targets = targets.map(|(frame, targets)| (*frame, targets.stored()));
        let ends = copies.ends.iter();
        Self {
            pages: copies
                .by_frame
                .iter()
                .map(|(frame, copy)| StoredPage::of(*frame, copy))
                .collect(),
            named: named.collect(),
            ends: ends
                .map(|(frame, end)| (*frame, end.begins_in, end.bytes.clone()))
                .collect(),
            targets: targets.collect(),
        }
    }

    /// The copies again. `own` are the guest's bytes of a frame. `None`: they are others, or this is damaged.
    pub fn revive(self, own: impl Fn(u64) -> Option<Own>) -> Option<Copies> {
        let mut copies = Copies {
            used: self.pages.len() as u64,
            ..Copies::default()
        };
        let pages = (COPIES..END).step_by(BYTES);
        let count = self.pages.len();
        for (stored, page) in self.pages.into_iter().zip(pages) {
            let (frame, own) = (stored.frame, own(stored.frame)?);
            copies.by_frame.insert(frame, stored.revive(page, own)?);
        }
        // As many as there are frames, and no more than there is room for.
        (copies.by_frame.len() == count).then_some(())?;
        let (mut all_named, mut all_targets) = (FxHashMap::default(), FxHashMap::default());
        for (frame, ranges) in &self.named {
            let ranges = ranges.iter();
            let ranges = ranges.map(|(start, end)| (usize::from(*start), usize::from(*end)));
            let ranges: Vec<(usize, usize)> = ranges.collect();
            let are_ranges = ranges
                .iter()
                .all(|(start, end)| start <= end && *end <= BYTES);
            all_named.insert(frame_of(*frame)?, are_ranges.then_some(ranges)?);
        }
        for (frame, targets) in &self.targets {
            all_targets.insert(frame_of(*frame)?, targets.revive()?);
        }
        (copies.named, copies.targets) = (Arc::new(all_named), Arc::new(all_targets));
        for (frame, begins_in, bytes) in &self.ends {
            let end = End {
                begins_in: frame_of(*begins_in)?,
                bytes: bytes.clone(),
            };
            (bytes.len() < LONGEST).then_some(())?;
            copies.ends.insert(frame_of(*frame)?, end);
        }
        Some(copies)
    }
}

/// A frame's address, if it is one.
fn frame_of(at: u64) -> Option<u64> {
    at.is_multiple_of(PAGE).then_some(at)
}

impl StoredPage {
    fn of(frame: u64, copy: &Copy) -> Self {
        let own = &*copy.original;
        Self {
            frame,
            check: crc32fast::hash(own),
            packed: Packed::of(copy.shown(), own),
        }
    }

    fn revive(self, page: u64, own: Own) -> Option<Copy> {
        let is_so = self.check == crc32fast::hash(&*own) && self.packed.is_whole();
        frame_of(self.frame)?;
        is_so.then(|| Copy::packed(page, own, self.packed))
    }
}
