//! What a plan lets a device do: which bytes of memory it may write. Worked out from the plan alone, so
//! that a device which oversteps is caught whatever it says of itself.
//!
//! A descriptor may be seen between any two stores to it: x86 reads its 16 aligned bytes at once. One that
//! the second thread stores to may be any address with any length. Tables that are where tables belong are
//! known to the byte; a plan that has the device look for descriptors elsewhere, or write over them, is not
//! exact, and then only memory that no driver can name is compared.

use std::collections::HashMap;
use std::ops::Range;

use virtio_bindings::virtio_mmio as register;
use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_WRITE};

use super::layout::{self, HEADERS, MEMORY, RINGS, Rings, SLOT, TABLES, meet};
use super::plan::{Op, Plan, Store};

/// The largest queue of any device, in descriptors.
const LARGEST: u16 = 1024;
/// Nothing is ever stored there: a descriptor table at address 0, where a register starts, is full of
/// addresses that are none.
const NOTHING: Range<u64> = 0..0x1000;

/// A descriptor slot: what it was after each store, as an address and a length with flags.
#[derive(Default)]
struct Slot {
    states: Vec<(u64, u64)>,
    is_scribbled: bool,
}

impl Slot {
    fn stored(&mut self, at: u64, value: u64) {
        // At first there is an address that is none, with a length that is none.
        let (address, rest) = self.states.last().copied().unwrap_or((u64::MAX, 0));
        self.states.push(match at % SLOT {
            0 => (value, rest),
            _ => (address, value),
        });
    }

    /// Each address with each length that it may be seen with.
    fn descriptors(&self) -> Vec<(u64, u64)> {
        let mut all = self.states.clone();
        if self.is_scribbled {
            let rests = || self.states.iter().map(|(_, rest)| *rest);
            let pairs = self
                .states
                .iter()
                .flat_map(|(at, _)| rests().map(move |rest| (*at, rest)));
            all = pairs.collect();
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// See the module.
#[derive(Default)]
pub struct Ledger {
    /// What a device may write, each range wholly in memory.
    writable: Vec<Range<u64>>,
    /// Used rings at address 0, where a register starts.
    unplaced: Vec<Range<u64>>,
    /// What the second thread stores to.
    scribbled: Vec<Range<u64>>,
    /// What a device may be told to read, each range wholly in memory.
    readable: Vec<Range<u64>>,
    /// Descriptors may be where they are not known.
    has_other_tables: bool,
    /// How much a device may be told to read in one request, in bytes.
    pub most_read: u64,
    /// The words of the headers, and where they are.
    pub headers: Vec<(u64, u64)>,
}

impl Ledger {
    /// What this plan lets a device do.
    #[must_use]
    pub fn of(plan: &Plan) -> Ledger {
        let mut ledger = Ledger {
            has_other_tables: plan.is_messy,
            ..Ledger::default()
        };
        let ops = plan.ops.iter().filter_map(|op| match op {
            Op::Store(store) => Some(store),
            _ => None,
        });
        let mut slots = HashMap::<u64, Slot>::new();
        for store in ops.chain(&plan.scribbles) {
            ledger.stored(store, &mut slots);
        }
        for store in &plan.scribbles {
            let (at, bytes) = store.parts();
            ledger.scribbled.push(at..at + bytes.len() as u64);
            if let Some(slot) = slots.get_mut(&(at / SLOT * SLOT)) {
                slot.is_scribbled = true;
            }
        }
        slots.values().for_each(|slot| ledger.described(slot));
        ledger.registers(plan);
        ledger
    }

    /// Take a store in.
    fn stored(&mut self, store: &Store, slots: &mut HashMap<u64, Slot>) {
        let (at, bytes) = store.parts();
        let range = at..at + bytes.len() as u64;
        match store {
            Store::Word { at, value } if TABLES.contains(at) => {
                slots
                    .entry(at / SLOT * SLOT)
                    .or_default()
                    .stored(*at, *value);
            }
            Store::Word { at, value } if HEADERS.contains(at) => self.headers.push((*at, *value)),
            // Whoever stores anything else there makes descriptors that are not counted.
            _ => {
                self.has_other_tables |= [TABLES, HEADERS, NOTHING]
                    .iter()
                    .any(|area| meet(area, &range))
            }
        }
    }

    /// Take a descriptor in, as all that it ever was.
    fn described(&mut self, slot: &Slot) {
        let mut longest = 0;
        for (at, rest) in slot.descriptors() {
            let (len, flags) = (rest & 0xffff_ffff, (rest >> 32) as u32);
            let range = at..at.saturating_add(len);
            if flags & VRING_DESC_F_INDIRECT != 0 {
                // A table that starts nowhere has no descriptor.
                let is_known = TABLES.start <= range.start && range.end <= TABLES.end;
                let is_known = is_known && at.is_multiple_of(SLOT);
                self.has_other_tables |= !is_known && layout::place(at).is_some();
            } else if !layout::is_memory(at, len) {
                // Refused as a whole.
            } else if flags & VRING_DESC_F_WRITE != 0 {
                self.writable.push(range);
            } else {
                longest = longest.max(len);
                self.readable.push(range);
            }
        }
        self.most_read += longest;
    }

    /// Take in used rings and descriptor tables, as the registers may have said: a half may have come
    /// without its other half.
    fn registers(&mut self, plan: &Plan) {
        let sizes = written(plan, register::VIRTIO_MMIO_QUEUE_NUM);
        let sizes = sizes
            .into_iter()
            .filter_map(|size| u16::try_from(size).ok());
        let sizes = sizes.filter(|size| size.is_power_of_two() && *size <= LARGEST);
        let sizes: Vec<_> = sizes.map(Rings::lengths).collect();
        for at in addresses(plan, register::VIRTIO_MMIO_QUEUE_USED_LOW) {
            let lens = sizes.iter().map(|[.., len]| *len);
            let rings = lens.filter(|len| at.is_multiple_of(4) && layout::is_memory(at, *len));
            let rings = rings.map(|len| at..at + len);
            match at {
                0 => self.unplaced.extend(rings),
                _ => self.writable.extend(rings),
            }
        }
        for at in addresses(plan, register::VIRTIO_MMIO_QUEUE_DESC_LOW) {
            let lens = sizes.iter().map(|[len, ..]| *len);
            let mut tables =
                lens.filter(|len| at.is_multiple_of(SLOT) && layout::is_memory(at, *len));
            let is_known = |len| TABLES.start <= at && at + len <= TABLES.end;
            self.has_other_tables |= at != 0 && !tables.all(is_known);
        }
    }

    /// Whether it is known to the byte what a device may write.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        let is_torn = self
            .writable
            .iter()
            .any(|range| meet(range, &TABLES) || meet(range, &NOTHING));
        !self.has_other_tables && !is_torn
    }

    /// Whether it is known, besides, which headers a device may have seen.
    #[must_use]
    pub fn has_known_headers(&self) -> bool {
        let is_torn = self.writable.iter().any(|range| meet(range, &HEADERS));
        let is_elsewhere = self
            .readable
            .iter()
            .any(|range| meet(range, &RINGS) || meet(range, &NOTHING));
        self.is_exact() && !is_torn && !is_elsewhere
    }

    /// The first byte that a device changed and may not have, of what was and what is, one range behind
    /// the other. Of what was, bytes that may change are taken over from what is.
    #[must_use]
    pub fn first_wrong(&self, was: &mut [u8], is: &[u8]) -> Option<u64> {
        let mut forgive =
            |start: usize, end: usize| was[start..end].copy_from_slice(&is[start..end]);
        for range in self
            .writable
            .iter()
            .chain(&self.unplaced)
            .chain(&self.scribbled)
        {
            if let Some(start) = layout::place(range.start) {
                forgive(start, start + (range.end - range.start) as usize);
            }
        }
        if !self.is_exact() {
            let [near @ .., _far] = MEMORY;
            forgive(
                0,
                near.iter()
                    .map(|range| (range.end - range.start) as usize)
                    .sum(),
            );
        }
        let at = was
            .chunks(4096)
            .zip(is.chunks(4096))
            .position(|(was, is)| was != is)?
            * 4096;
        let at = at
            + was[at..]
                .iter()
                .zip(&is[at..])
                .position(|(was, is)| was != is)?;
        layout::address(at)
    }
}

/// All that was ever written to a register, and its value before that.
fn written(plan: &Plan, register: u32) -> Vec<u32> {
    let values = plan.ops.iter().filter_map(|op| match op {
        Op::Write { offset, bytes } if *offset == u64::from(register) => {
            <[u8; 4]>::try_from(bytes.as_slice())
                .ok()
                .map(u32::from_le_bytes)
        }
        _ => None,
    });
    let mut values: Vec<u32> = values.chain([0]).collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// All addresses that a low register and the high one after it may have had together.
fn addresses(plan: &Plan, low: u32) -> Vec<u64> {
    let (lows, highs) = (written(plan, low), written(plan, low + 4));
    let pairs = lows
        .iter()
        .flat_map(|low| highs.iter().map(move |high| (*low, *high)));
    pairs
        .map(|(low, high)| u64::from(high) << 32 | u64::from(low))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::layout::{BUFFERS, Guest};
    use crate::virtio::plan::Mood;

    const WRITE: u64 = 2 << 32;

    fn plan(words: &[(u64, u64)]) -> Plan {
        let store = |(at, value): &(u64, u64)| {
            Op::Store(Store::Word {
                at: *at,
                value: *value,
            })
        };
        Plan {
            mood: Mood::Bent,
            ops: words.iter().map(store).collect(),
            scribbles: Vec::new(),
            is_messy: false,
        }
    }

    /// What a device that changes this byte is caught at.
    fn caught(words: &[(u64, u64)], at: u64) -> Option<u64> {
        let guest = Guest::new().expect("memory");
        let mut was = Vec::new();
        guest.refill(&mut was);
        let mut is = was.clone();
        is[layout::place(at).expect("memory")] ^= 1;
        Ledger::of(&plan(words)).first_wrong(&mut was, &is)
    }

    #[test]
    fn a_device_may_write_what_it_was_given_and_no_byte_more() {
        let buffer = BUFFERS[0].start;
        let words = [
            (0x1000, buffer),
            (0x1008, WRITE | 16),
            (0x1010, buffer + 64),
            (0x1018, 16),
        ];
        assert!(Ledger::of(&plan(&words)).is_exact());
        assert_eq!(caught(&words, buffer), None);
        assert_eq!(caught(&words, buffer + 15), None);
        for at in [
            buffer - 1,
            buffer + 16,
            buffer + 64,
            0x1000,
            layout::FAR.start,
        ] {
            assert_eq!(caught(&words, at), Some(at));
        }
    }

    #[test]
    fn a_descriptor_that_changes_is_all_that_it_may_be() {
        let buffer = BUFFERS[0].start;
        let words = [
            (0x1000, buffer),
            (0x1008, WRITE | 8),
            (0x1000, buffer + 64),
            (0x1008, 16),
        ];
        assert_eq!(caught(&words, buffer + 7), None);
        assert_eq!(caught(&words, buffer + 8), Some(buffer + 8));
        // Between two stores.
        assert_eq!(caught(&words, buffer + 64 + 7), None);
        let words = [
            (0x1000, buffer),
            (0x1008, WRITE | 8),
            (0x1008, 0),
            (0x1000, buffer + 64),
            (0x1008, 16),
        ];
        assert_eq!(caught(&words, buffer + 64 + 7), Some(buffer + 64 + 7));
        let mut scribbled = plan(&words);
        scribbled.scribbles.push(Store::Word {
            at: 0x1008,
            value: 16,
        });
        assert!(
            Ledger::of(&scribbled)
                .writable
                .contains(&(buffer + 64..buffer + 72))
        );
    }

    #[test]
    fn a_device_that_writes_descriptors_may_write_anything_but_what_is_far() {
        let words = [(0x1000, 0x2000), (0x1008, WRITE | 1)];
        assert!(!Ledger::of(&plan(&words)).is_exact());
        assert_eq!(caught(&words, 0x5000), None);
        assert_eq!(
            caught(&words, layout::FAR.start + 9),
            Some(layout::FAR.start + 9)
        );
        let indirect = [(0x1000, BUFFERS[0].start), (0x1008, 4 << 32 | 32)];
        assert!(!Ledger::of(&plan(&indirect)).is_exact());
        // What does not lie in memory as a whole is refused as a whole.
        let words = [(0x1000, 0xb_ffff), (0x1008, WRITE | 2)];
        assert_eq!(caught(&words, 0xb_ffff), Some(0xb_ffff));
    }
}
