//! Queues filled with what a driver must not write: nothing panics or hangs, and no byte changes that
//! the driver did not offer.

use proptest::prelude::*;

use super::tests::{KINDS, image, open, started};
use crate::driver::{MEMORY, Raw, WRITE};

/// Where buffers and headers are: away from the rings.
const BUFFERS: u64 = 0x10_0000;

/// A descriptor that is nearly right, most of the time.
fn descriptor() -> impl Strategy<Value = Raw> {
    let plausible = (
        (0..64u64).prop_map(|slot| BUFFERS + slot * 0x400),
        prop_oneof![Just(16u32), Just(1), Just(512), Just(513), 0..0x300u32],
        prop_oneof![4 => 0..4u16, 1 => 0..8u16],
        0..12u16,
    );
    let wild = (any::<u64>(), any::<u32>(), any::<u16>(), any::<u16>());
    prop_oneof![12 => plausible, 1 => wild]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn no_queue_makes_the_device_touch_other_memory(
        table in prop::collection::vec(descriptor(), 12),
        indirect in prop::collection::vec(descriptor(), 12),
        heads in prop::collection::vec(0..13u16, 1..12),
        headers in prop::collection::vec((0..16u32, prop_oneof![0..16u64, any::<u64>()]), 64),
        skip in prop_oneof![8 => Just(0u16), 1 => any::<u16>()],
    ) {
        for kind in KINDS {
            let file = image();
            let mut driver = started(open(&file, kind));
            for (slot, (kind, sector)) in headers.iter().enumerate() {
                let mut bytes = kind.to_le_bytes().to_vec();
                bytes.extend([0; 4]);
                bytes.extend(sector.to_le_bytes());
                driver.put(BUFFERS + slot as u64 * 0x400, &bytes);
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
            driver.set_status(0);
            let after = driver.get(0, MEMORY);
            // Buffers that any descriptor could have meant, in tables that any could have been; the
            // used ring; nothing else.
            let mut may_change = vec![(rings.used, 4 + 8 * u64::from(rings.size) + 2)];
            let tables = before[BUFFERS as usize..BUFFERS as usize + 0x1_0400].chunks(16);
            let all = tables.map(raw).chain(table.iter().copied());
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
