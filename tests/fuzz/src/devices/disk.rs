//! Which sectors of a disk a plan lets a device change, from the headers and ranges that it stores.
//!
//! A header or a range may be torn, or be put together of pieces, where a plan is bent. What comes of
//! that is no sector of the disk: the reserved word of a header, buffers, addresses and what lies between
//! headers make numbers that are too large. Below [`FIRST`], sectors may always change.

use std::collections::HashMap;
use std::ops::Range;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};
use virtio_devices::blk::SECTOR;

use crate::virtio::layout::SLOT;
use crate::virtio::ledger::Ledger;

/// The reserved word of a header. No device looks at it.
const RESERVED: u64 = 0x9696_9696;
/// The first sector that is compared: no kind of a request, and no other small number, is one of those.
pub const FIRST: u64 = 64;

/// A header's first word, for a kind of request.
pub fn kind(of: u32) -> u64 {
    u64::from(of) | RESERVED << 32
}

/// A slot's words, whatever they ever were.
#[derive(Default)]
struct Words {
    first: Vec<u64>,
    second: Vec<u64>,
}

/// The sectors of a disk that a plan lets a device change; none where that is not known.
pub fn may_change(ledger: &Ledger) -> Option<Vec<Range<u64>>> {
    if !ledger.has_known_headers() {
        return None;
    }
    let mut slots = HashMap::<u64, Words>::new();
    for (at, word) in &ledger.headers {
        let words = slots.entry(at / SLOT).or_default();
        match at % SLOT {
            0 => words.first.push(*word),
            _ => words.second.push(*word),
        }
    }
    let kinds = |slot: &Words| {
        slot.first
            .iter()
            .map(|word| *word as u32)
            .collect::<Vec<_>>()
    };
    let any = |of: &[u32]| {
        slots
            .values()
            .any(|slot| kinds(slot).iter().any(|kind| of.contains(kind)))
    };
    let is_cleared = any(&[VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES]);
    let longest = ledger.most_read.div_ceil(SECTOR);
    let mut ranges = Vec::new();
    ranges.push(0..FIRST + longest);
    for slot in slots.values() {
        if kinds(slot).contains(&VIRTIO_BLK_T_OUT) {
            ranges.extend(
                slot.second
                    .iter()
                    .map(|sector| *sector..sector.saturating_add(longest)),
            );
        }
        let is_range = is_cleared && slot.first.iter().any(|word| word >> 32 != RESERVED);
        let lengths = slot.second.iter().map(|word| *word & 0xffff_ffff);
        let most = lengths.max().filter(|_| is_range).unwrap_or(0);
        ranges.extend(
            slot.first
                .iter()
                .map(|sector| *sector..sector.saturating_add(most)),
        );
    }
    Some(ranges)
}

/// The first sector of a disk that has changed and may not have. `was` and `is` are all of it.
pub fn first_wrong(may_change: &[Range<u64>], was: &[u8], is: &[u8]) -> Option<u64> {
    let sectors = was
        .chunks_exact(SECTOR as usize)
        .zip(is.chunks_exact(SECTOR as usize));
    let mut changed = (0..)
        .zip(sectors)
        .filter(|(_, (was, is))| was != is)
        .map(|(sector, _)| sector);
    changed.find(|sector| !may_change.iter().any(|range| range.contains(sector)))
}
