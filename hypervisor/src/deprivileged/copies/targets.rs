//! Where known branches lead to in a page.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

/// Offsets that are branched to, ascending, each with how many branches there are.
#[derive(Clone, Debug, Default)]
pub struct Targets(Vec<[U16; 2]>);

/// [`Targets`], as a file has them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredTargets<'a>(#[serde(borrow, with = "serde_bytes")] Cow<'a, [u8]>);

impl Targets {
    /// Note that an offset is branched to, by `count` branches more.
    pub fn add(&mut self, offset: usize, count: usize) {
        let offset = offset as u16;
        let count = count_of(count);
        match self.0.binary_search_by_key(&offset, |[at, _]| at.get()) {
            Ok(place) => {
                if let Some([_, known]) = self.0.get_mut(place) {
                    known.set(known.get().saturating_add(count));
                }
            }
            Err(place) => self.0.insert(place, [U16::new(offset), U16::new(count)]),
        }
    }

    /// Note that offsets are branched to, which ascend: each as often as it comes.
    pub fn add_sorted(&mut self, offsets: &[u16]) {
        let is_empty = self.0.is_empty();
        for same in offsets.chunk_by(PartialEq::eq) {
            let Some(offset) = same.first().copied() else {
                continue;
            };
            match is_empty {
                true => self
                    .0
                    .push([U16::new(offset), U16::new(count_of(same.len()))]),
                false => self.add(offset.into(), same.len()),
            }
        }
    }

    /// How many branches lead to an offset: 65535, where there are more.
    pub fn count(&self, offset: usize) -> usize {
        let place = self
            .0
            .binary_search_by_key(&offset, |[at, _]| at.get().into());
        let found = place.ok().and_then(|place| self.0.get(place));
        found.map_or(0, |[_, count]| count.get().into())
    }

    /// For a file.
    pub fn stored(&self) -> StoredTargets<'_> {
        StoredTargets(self.0.as_bytes().into())
    }
}

/// A count, as it is kept.
fn count_of(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

impl StoredTargets<'_> {
    /// Of a file. `None` where it is damaged.
    pub fn revive(&self) -> Option<Targets> {
        let all = <[[U16; 2]]>::ref_from_bytes(&self.0).ok()?;
        let is_sorted = all.is_sorted_by(|[one, _], [next, _]| one < next);
        is_sorted.then(|| Targets(all.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_counted_and_comes_out_of_a_file_again() {
        let mut targets = Targets::default();
        for (offset, count) in [(7, 1), (4095, 2), (0, 1), (7, 3), (9, 1 << 20)] {
            targets.add(offset, count);
        }
        let again = targets.stored().revive().unwrap();
        for (offset, count) in [(0, 1), (1, 0), (7, 4), (9, 65535), (4095, 2)] {
            assert_eq!(targets.count(offset), count);
            assert_eq!(again.count(offset), count);
        }
    }

    #[test]
    fn what_is_added_at_once_is_counted_as_what_is_added_alone() {
        let (mut once, mut alone) = (Targets::default(), Targets::default());
        for offsets in [[1, 1, 4, 9, 9, 9], [0, 1, 4, 5, 5, 4095]] {
            once.add_sorted(&offsets);
            offsets
                .into_iter()
                .for_each(|offset| alone.add(offset.into(), 1));
        }
        assert_eq!(once.0, alone.0);
    }

    #[test]
    fn a_list_that_is_cut_or_out_of_order_is_none() {
        assert!(StoredTargets(Cow::Borrowed(&[1, 0, 1])).revive().is_none());
        let twice = [1, 0, 1, 0, 1, 0, 1, 0];
        assert!(StoredTargets(Cow::Borrowed(&twice)).revive().is_none());
    }
}
