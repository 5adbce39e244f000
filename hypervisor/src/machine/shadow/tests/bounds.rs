//! Bad guests and full pools: defined, bounded, and mended by a reset.

use super::world::{A, D, P, Sabotage, U, W, World};
use crate::machine::shadow::{Full, MAX_EDITS, Resolution, View};

const USED: u64 = P | W | U | A | D;

#[test]
fn a_table_that_maps_itself_at_every_level_is_shadowed() {
    let at = 0xffff_8000_0000_0000;
    let mut world = World::new(&[at, at + 0x1000], 64, Sabotage::None);
    world.store(1, 256, 1 << 12 | USED);
    world.store(1, 0, 1 << 12 | USED);
    for view in [View::Kernel, View::User] {
        for page in [at, at + 0x1000] {
            assert_eq!(world.access(view, page, true, false), Ok(()));
        }
    }
    assert!(world.shadow.tables() < 20);
}

#[test]
fn a_root_outside_of_memory_maps_nothing() {
    let mut world = World::new(&[0], 64, Sabotage::None);
    world.load(1 << 20);
    assert_eq!(world.access(View::Kernel, 0, false, false), Ok(()));
    world.load(1 << 20);
    assert_eq!(world.access(View::User, 0, false, true), Ok(()));
    assert_eq!(world.faults, 2);
}

#[test]
fn a_full_pool_says_so_and_works_after_a_reset() {
    let pages: Vec<u64> = (0..8u64).map(|page| page << 39).collect();
    let mut world = World::new(&pages, 8, Sabotage::None);
    for slot in 0..8 {
        world.store(1, slot, 2 << 12 | USED);
    }
    for table in [2, 3] {
        world.store(table, 0, (table + 1) << 12 | USED);
    }
    world.store(4, 0, 9 << 12 | USED);
    for _ in 0..2 {
        for page in &pages {
            assert_eq!(world.access(View::User, *page, true, false), Ok(()));
        }
    }
    // A root and its table for the monitor, and two times three tables: one reset for two pages.
    assert_eq!(world.resets, 7);
}

#[test]
fn no_pool_at_all_is_full() {
    for pages in [0, 1] {
        let mut world = World::new(&[0], pages, Sabotage::None);
        let (shadow, ram) = (&mut world.shadow, &world.ram);
        assert_eq!(shadow.select(ram, &world.paging, View::User), Err(Full));
        let answer = shadow.fault(ram, &world.paging, View::User, 0, 4, &mut world.owner);
        assert_eq!(answer, Resolution::Full);
    }
}

#[test]
fn too_many_mappings_of_a_frame_that_changed_are_full() {
    for (mappings, fits) in [(MAX_EDITS as u64, true), (MAX_EDITS as u64 + 1, false)] {
        let pages: Vec<u64> = (0..mappings).map(|page| page << 12).collect();
        let mut world = World::new(&pages, 64, Sabotage::None);
        for table in 1..4 {
            world.store(table, 0, (table + 1) << 12 | USED);
        }
        for slot in 0..mappings {
            world.store(4, slot, 9 << 12 | USED);
        }
        for page in &pages {
            assert_eq!(world.access(View::User, *page, true, false), Ok(()));
        }
        world.owner.copied.push(9 << 12);
        let taken = world.shadow.frame_changed(9 << 12, &mut world.owner);
        assert_eq!(taken as u64, mappings);
        let edits = world.shadow.take_edits();
        assert_eq!(edits.is_ok(), fits);
        // Until the reset, nothing is entered with what is wrong.
        let select = world.shadow.select(&world.ram, &world.paging, View::User);
        assert_eq!(select.is_ok(), fits);
        world.shadow.clear();
        assert_eq!(
            world.shadow.take_edits().map(|edits| edits.list),
            Ok(vec![])
        );
    }
}

#[test]
fn frames_that_are_not_mapped_change_nothing() {
    let mut world = World::new(&[0], 64, Sabotage::None);
    for table in 1..4 {
        world.store(table, 0, (table + 1) << 12 | USED);
    }
    world.store(4, 0, 9 << 12 | USED);
    assert_eq!(world.access(View::User, 0, true, false), Ok(()));
    for frame in [0, 0x8000, 0xa000, 0x000f_ffff_ffff_f000] {
        assert_eq!(world.shadow.frame_changed(frame, &mut world.owner), 0);
    }
    // Nor does one whose owner says what it said before.
    assert_eq!(world.shadow.frame_changed(0x9000, &mut world.owner), 0);
}
