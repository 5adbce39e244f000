//! Queues filled with what a driver must not write: nothing panics or hangs, and no byte changes that
//! the driver did not offer.

use proptest::prelude::*;

use super::tests::{KINDS, image, open, started};
use crate::driver::{INDIRECT, MEMORY, NEXT, PATIENCE, Raw, WRITE};

/// Where buffers and headers are: away from the rings.
const BUFFERS: u64 = 0x10_0000;

/// Where headers are: a page of them, before the buffers.
const HEADERS: u64 = 0x0f_0000;
/// How many descriptors the table has in use.
const TABLE: usize = 12;

/// A descriptor that is nearly right.
fn wild() -> impl Strategy<Value = Raw> {
    let plausible = (
        (0..64u64).prop_map(|slot| BUFFERS + slot * 0x400),
        prop_oneof![Just(16u32), Just(1), Just(512), Just(513), 0..0x300u32],
        0..8u16,
        0..13u16,
    );
    prop_oneof![3 => plausible, 1 => any::<Raw>()]
}

/// Requests of four descriptors each: a header, two buffers, a status.
fn table() -> impl Strategy<Value = Vec<Raw>> {
    let len = || prop_oneof![4 => Just(512u32), 1 => Just(1024), 1 => 0..0x300u32];
    let request = (0..16u64, 0..60u64, len(), 0..60u64, len(), 0..3u16);
    prop::collection::vec(request, TABLE / 4).prop_map(|requests| {
        let each = |(place, (header, a, a_len, b, b_len, kind)): (u16, _)| {
            let first = place * 4;
            let (a_flags, b_flags) = match kind {
                0 => (NEXT, NEXT),
                1 => (NEXT, NEXT | WRITE),
                _ => (NEXT | WRITE, NEXT | WRITE),
            };
            let (a, b): (u64, u64) = (BUFFERS + a * 0x400, BUFFERS + b * 0x400);
            [
                (HEADERS + header * 16, 16, NEXT, first + 1),
                (a, a_len, a_flags, first + 2),
                (b, b_len, b_flags, first + 3),
                (BUFFERS + 0x1_0000 + u64::from(place) * 64, 1, WRITE, 0),
            ]
        };
        (0..).zip(requests).flat_map(each).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn no_queue_makes_the_device_touch_other_memory(
        mut table in table(),
        bends in prop::collection::vec((0..TABLE, wild()), 0..3),
        indirect in prop::collection::vec(wild(), TABLE),
        heads in prop::collection::vec(
            prop_oneof![6 => (0..3u16).prop_map(|chain| chain * 4), 1 => 0..13u16], 1..12),
        headers in prop::collection::vec(
            (prop_oneof![4 => Just(0u32), 2 => Just(1), 1 => 0..16u32],
             prop_oneof![4 => 0..16u64, 1 => any::<u64>()]),
            16),
        skip in prop_oneof![8 => Just(0u16), 1 => any::<u16>()],
    ) {
        for (place, raw) in bends {
            table[place] = raw;
        }
        for kind in KINDS {
            let file = image();
            let mut driver = started(open(&file, kind));
            for (slot, (kind, sector)) in headers.iter().enumerate() {
                let mut bytes = kind.to_le_bytes().to_vec();
                bytes.extend([0; 4]);
                bytes.extend(sector.to_le_bytes());
                driver.put(HEADERS + slot as u64 * 16, &bytes);
            }
            let rings = driver.rings[0];
            for (index, raw) in (0..).zip(&table) {
                rings.describe(&driver.memory, index, *raw);
            }
            // Tables may be anywhere among the buffers: one is certain.
            for (index, raw) in (0..).zip(&indirect) {
                crate::driver::describe_at(&driver.memory, BUFFERS + 0x400, index, *raw);
            }
            for head in &heads {
                rings.offer(&driver.memory, *head);
            }
            let index = rings.available_index(&driver.memory).wrapping_add(skip);
            rings.set_available_index(&driver.memory, index);
            let before = driver.get(0, MEMORY);
            driver.kick(0);
            let start = std::time::Instant::now();
            while rings.used_index(&driver.memory) != index && !driver.transport.needs_reset() {
                prop_assert!(start.elapsed() < PATIENCE, "the device hangs");
                std::thread::yield_now();
            }
            driver.set_status(0);
            let after = driver.get(0, MEMORY);
            // The used ring, and buffers that a descriptor offers, in the table or an indirect one;
            // nothing else.
            let mut may_change = vec![(rings.used, 4 + 8 * u64::from(rings.size) + 2)];
            let indirect = table.iter().filter(|raw| raw.2 & INDIRECT != 0);
            let indirect = indirect.flat_map(|raw| entries(&before, *raw));
            let all = table.iter().copied().chain(indirect);
            let is_writable = |raw: &Raw| raw.2 & WRITE != 0;
            may_change.extend(all.filter(is_writable).map(|raw| (raw.0, u64::from(raw.1))));
            // Page by page: byte by byte, 4 MiB would take long.
            for (page, (old, new)) in before.chunks(4096).zip(after.chunks(4096)).enumerate() {
                if old == new {
                    continue;
                }
                for (at, (old, new)) in (page as u64 * 4096..).zip(old.iter().zip(new)) {
                    let is_offered = |(start, len): &(u64, u64)| {
                        (*start..start.saturating_add(*len)).contains(&at)
                    };
                    let is_fine = old == new || may_change.iter().any(is_offered);
                    prop_assert!(is_fine, "{:#x} has changed", at);
                }
            }
            let features = driver.offered();
            driver.start(features);
        }
    }
}

/// The descriptors of an indirect table, as far as it is in memory.
fn entries(memory: &[u8], table: Raw) -> Vec<Raw> {
    let start = usize::try_from(table.0).unwrap_or(usize::MAX);
    let rest = memory.get(start..).unwrap_or_default();
    let bytes = rest.get(..table.1 as usize).unwrap_or(rest);
    bytes.chunks_exact(16).map(raw).collect()
}

/// A descriptor from memory.
fn raw(bytes: &[u8]) -> Raw {
    let number = |from: usize, to: usize| {
        bytes[from..to]
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    (
        number(0, 8),
        number(8, 12) as u32,
        number(12, 14) as u16,
        number(14, 16) as u16,
    )
}
