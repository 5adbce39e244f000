//! What is known of pages with code, as it is kept in a file: all but the guest's own bytes, which who reads it
//! has to have.

use std::borrow::Cow;
use std::hash::Hasher;
use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashMap, FxHasher};
use serde::{Deserialize, Serialize};
use zerocopy::IntoBytes;

use super::page::{Bits, Copy, Own};
use super::{COPIES, Copies, END, End, LONGEST, PAGE, TRAP};

const BYTES: usize = PAGE as usize;
/// Bytes that hold a bit for each byte of a page.
const BITS: usize = BYTES / 8;
/// What there are bits for: bytes of known instructions, their first bytes, and bytes that are the guest's own.
const KINDS: usize = 3;

/// [`Copies`], without the guest's own bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored<'a> {
    #[serde(borrow)]
    pages: Vec<StoredPage<'a>>,
    /// By frame: ranges of data that code names.
    named: Vec<(u64, Vec<(u16, u16)>)>,
    /// By the frame of the end: the frame that the instruction begins in, and the bytes.
    ends: Vec<(u64, u64, Vec<u8>)>,
    /// By frame: offsets that are branched to, and how often.
    targets: Vec<(u64, Vec<(u16, u32)>)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredPage<'a> {
    frame: u64,
    /// Of the guest's own bytes.
    hash: u64,
    /// [`KINDS`] times [`BITS`].
    #[serde(borrow, with = "serde_bytes")]
    bits: Cow<'a, [u8]>,
    /// Offsets of what stays a trap, of what overlaps, and of what was moved.
    few: [Vec<u16>; 3],
    /// What is executed where that is neither the guest's own byte nor a trap.
    others: Vec<(u16, u8)>,
}

impl Stored<'_> {
    /// What copies know.
    pub fn of(copies: &Copies) -> Self {
        let narrow = |offset: usize| u16::try_from(offset).unwrap_or(u16::MAX);
        let named = copies.named.iter().map(|(frame, ranges)| {
            let ranges = ranges.iter();
            let ranges = ranges.map(|(start, end)| (narrow(*start), narrow((*end).min(BYTES))));
            let mut ranges: Vec<(u16, u16)> = ranges.collect();
            ranges.sort_unstable();
            ranges.dedup();
            (*frame, ranges)
        });
        let targets = copies.targets.iter().map(|(frame, targets)| {
            let targets = targets.iter();
            let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            let targets = targets.map(|(at, times)| (narrow(*at), count(*times)));
            (*frame, targets.collect())
        });
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
    pub fn revive(&self, own: impl Fn(u64) -> Option<Own>) -> Option<Copies> {
        let mut copies = Copies {
            used: self.pages.len() as u64,
            ..Copies::default()
        };
        let pages = (COPIES..END).step_by(BYTES);
        for (stored, page) in self.pages.iter().zip(pages) {
            let copy = stored.revive(page, own(stored.frame)?)?;
            copies.by_frame.insert(stored.frame, copy);
        }
        // As many as there are frames, and no more than there is room for.
        (copies.by_frame.len() == self.pages.len()).then_some(())?;
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
        for (frame, found) in &self.targets {
            let mut targets = FxHashMap::with_capacity_and_hasher(found.len(), FxBuildHasher);
            targets.extend(
                found
                    .iter()
                    .map(|(at, count)| (usize::from(*at), *count as usize)),
            );
            let are_offsets = found.iter().all(|(at, _)| usize::from(*at) < BYTES);
            all_targets.insert(frame_of(*frame)?, are_offsets.then_some(targets)?);
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

/// The bits that are set.
fn offsets(bits: &Bits) -> Vec<u16> {
    let all = 0..PAGE as u16;
    all.filter(|at| bits.has(usize::from(*at))).collect()
}

fn hash(bytes: &[u8; 4096]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

impl StoredPage<'_> {
    fn of(frame: u64, copy: &Copy) -> Self {
        let (shown, own) = (copy.shown(), &*copy.original);
        let mut plain = Bits::none();
        let mut others = Vec::new();
        for (at, (byte, own)) in shown.bytes.iter().zip(own).enumerate() {
            match *byte {
                // Whoever wrote a trap over a trap meant the trap: no difference.
                TRAP => {}
                byte if byte == *own => plain.set(at),
                byte => others.push((at as u16, byte)),
            }
        }
        let bits = [&shown.known, &shown.starts, &plain];
        let few = [&shown.traps, &shown.overlaps, &shown.patched];
        Self {
            frame,
            hash: hash(own),
            bits: bits.map(|bits| bits.0.as_bytes()).concat().into(),
            few: few.map(offsets),
            others,
        }
    }

    fn revive(&self, page: u64, own: Own) -> Option<Copy> {
        frame_of(self.frame)?;
        if self.hash != hash(&own) || self.bits.len() != KINDS * BITS {
            return None;
        }
        let mut copy = Copy::new(page, own);
        let (shown, own) = copy.change();
        let mut plain = Bits::none();
        let kinds = [&mut shown.known, &mut shown.starts, &mut plain];
        for (bits, stored) in kinds.into_iter().zip(self.bits.chunks_exact(BITS)) {
            bits.0.as_mut_bytes().copy_from_slice(stored);
        }
        let few = [&mut shown.traps, &mut shown.overlaps, &mut shown.patched];
        for (bits, offsets) in few.into_iter().zip(&self.few) {
            offsets.iter().for_each(|at| bits.set(usize::from(*at)));
        }
        let eights = shown.bytes.chunks_exact_mut(8).zip(own.chunks_exact(8));
        for ((to, own), bits) in eights.zip(plain.0.as_bytes()) {
            for (bit, (to, own)) in to.iter_mut().zip(own).enumerate() {
                *to = if bits >> bit & 1 == 1 { *own } else { TRAP };
            }
        }
        for (at, byte) in &self.others {
            *shown.bytes.get_mut(usize::from(*at))? = *byte;
        }
        Some(copy)
    }
}
