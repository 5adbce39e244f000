//! Damage of every kind: never a panic, and what is accepted keeps the promises of [`Plan`].

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;

use super::builder::{BASE, HEADER_LEN, R, ROW_LEN, RW, RX, Row, image, kernel, kernel_rows};
use crate::loader::elf::{Plan, Segment, plan};

/// Plans `image`, and checks any plan by arithmetic that cannot overflow. Whether there was one.
fn survives(image: &[u8]) -> bool {
    match plan(image) {
        Ok(plan) => {
            assert_sound(&plan, image.len());
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

fn assert_sound(plan: &Plan, len: usize) {
    assert!(!plan.segments.is_empty());
    assert!(
        plan.segments
            .iter()
            .any(|s| s.flags.execute && s.virt_range().contains(&plan.entry))
    );
    for (at, a) in plan.segments.iter().enumerate() {
        assert!(a.file.start <= a.file.end && a.file.end <= len);
        assert!(a.file.len() as u64 <= a.mem_len && a.mem_len > 0);
        assert!(!(a.flags.write && a.flags.execute));
        assert!(wide(a.virt, a.mem_len).1 < 1 << 64 && wide(a.phys, a.mem_len).1 < 1 << 64);
        assert_eq!(a.virt % 4096, a.phys % 4096);
        plan.segments[at + 1..]
            .iter()
            .for_each(|b| assert_apart(a, b));
    }
}

fn assert_apart(a: &Segment, b: &Segment) {
    for (a_start, b_start) in [(a.virt, b.virt), (a.phys, b.phys)] {
        let (a_at, b_at) = (wide(a_start, a.mem_len), wide(b_start, b.mem_len));
        assert!(
            a_at.1 <= b_at.0 || b_at.1 <= a_at.0,
            "{a:?} and {b:?} overlap"
        );
        let (a_last, b_last) = ((a_at.1 - 1) / 4096, (b_at.1 - 1) / 4096);
        let shares = a_at.0 / 4096 <= b_last && b_at.0 / 4096 <= a_last;
        assert!(
            !shares || a.flags == b.flags,
            "{a:?} and {b:?} share a page"
        );
    }
}

fn wide(start: u64, len: u64) -> (u128, u128) {
    (start.into(), u128::from(start) + u128::from(len))
}

#[test]
fn every_value_of_every_header_byte_is_survived() {
    let good = kernel();
    assert!(survives(&good));
    let mut accepted = 0;
    for at in 0..HEADER_LEN + kernel_rows().len() * ROW_LEN {
        let mut image = good.clone();
        for value in 0..=u8::MAX {
            image[at] = value;
            accepted += usize::from(survives(&image));
        }
    }
    // Some bytes mean nothing to a loader: padding, flags, section headers, unused address bits.
    assert!(accepted > 0);
}

#[test]
fn every_truncation_is_survived() {
    let good = kernel();
    let is_planned = (0..=good.len()).map(|len| survives(&good[..len]));
    let shortest = is_planned
        .into_iter()
        .position(|is_planned| is_planned)
        .unwrap();
    assert_eq!(shortest, HEADER_LEN + kernel_rows().len() * ROW_LEN);
}

/// Addresses and lengths where the edges are: few values, so that rows collide often.
fn edge() -> impl Strategy<Value = u64> {
    let near = (
        0u64..8,
        prop::sample::select(vec![0, 1, 0x10, 0x800, 0xfff]),
    );
    prop_oneof![
        20 => near.prop_map(|(page, offset)| page * 0x1000 + offset),
        1 => prop::sample::select(vec![u64::MAX, 1 << 47, 1 << 63, u64::MAX - 0xfff]),
        1 => any::<u64>(),
    ]
}

fn row() -> impl Strategy<Value = Row> {
    let kind = prop::sample::select(vec![1, 1, 1, 1, 1, 4, 6]);
    let flags = prop::sample::select(vec![R, RW, RX]);
    (kind, flags, edge(), edge(), edge(), any::<bool>()).prop_map(
        |(kind, flags, phys, len, other, is_alias)| {
            let virt = if is_alias {
                (other & !0xfff) | (phys & 0xfff)
            } else {
                phys
            }
            .wrapping_add(BASE);
            let file_len = len.min(0x20);
            Row {
                kind,
                flags,
                offset: other & 0x1f,
                virt,
                phys,
                file_len,
                mem_len: len,
                align: 1,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_rows_are_survived(rows in prop::collection::vec(row(), 0..5), entry in edge()) {
        survives(&image(BASE.wrapping_add(entry), &rows));
    }

    #[test]
    fn any_changes_and_cut_are_survived(
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6), cut: Index,
    ) {
        let mut image = kernel();
        for (at, value) in changes {
            let at = at.index(image.len());
            image[at] = value;
        }
        survives(&image);
        image.truncate(cut.index(image.len() + 1));
        survives(&image);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        survives(&bytes);
    }
}

#[test]
fn the_rows_above_are_often_accepted() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let rows = prop::collection::vec(row(), 1..5);
    let mut tree = || rows.new_tree(&mut runner).unwrap().current();
    let accepted = (0..2000).filter(|_| {
        let rows = tree();
        survives(&image(rows[0].virt, &rows))
    });
    let accepted = accepted.count();
    assert!(
        accepted > 100,
        "{accepted} of 2000: too few to show anything"
    );
}
