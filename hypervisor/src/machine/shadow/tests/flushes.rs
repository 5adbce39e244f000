//! What survives a flush, and what does not.

use super::world::{A, D, NX, P, PS, Sabotage, U, W, World};
use crate::machine::shadow::{MAX_DROPS, MAX_EDITS, PREFILL, View};

const ALL: u64 = P | W | U | A;
const USED: u64 = ALL | D;
const UPPER: u64 = 0xffff_8800_0000_0000;

fn pages(count: u64) -> Vec<u64> {
    (0..count).map(|page| page << 12).collect()
}

/// Two processes: roots at frames 1 and 5, each with a page table of its own at frame 4 or 8, and
/// the same upper half, whose page table is frame 11.
fn world(pages: &[u64]) -> World {
    let mut world = World::new(pages, 256, Sabotage::None);
    for first in [1, 5] {
        for table in first..first + 3 {
            world.store(table, 0, (table + 1) << 12 | ALL);
        }
        world.store(first, UPPER >> 39 & 511, 9 << 12 | ALL);
    }
    world.store(9, 0, 10 << 12 | ALL);
    world.store(10, 0, 11 << 12 | ALL);
    world
}

fn touch(world: &mut World, view: View, page: u64) -> usize {
    let before = world.faults;
    assert_eq!(world.access(view, page, true, false), Ok(()));
    world.faults - before
}

#[test]
fn a_process_switch_costs_no_fault() {
    let mut world = world(&[0, UPPER]);
    world.store(4, 0, 12 << 12 | USED);
    world.store(8, 0, 13 << 12 | USED);
    world.store(11, 0, 14 << 12 | USED);
    let mut round = || -> usize {
        let mut faults = 0;
        for root in [1, 5] {
            world.load(root);
            faults += touch(&mut world, View::User, 0);
            faults += touch(&mut world, View::Kernel, UPPER);
        }
        faults
    };
    assert_eq!(round(), 4);
    assert_eq!(round(), 0);
    assert_eq!(world.edits, 0);
}

#[test]
fn a_new_process_has_the_kernels_pages_after_one_fault() {
    let pages: Vec<u64> = (0..512).map(|page| UPPER + (page << 12)).collect();
    let mut world = world(&pages);
    for slot in 0..512 {
        world.store(11, slot, 14 << 12 | USED);
    }
    let all: usize = pages
        .iter()
        .map(|page| touch(&mut world, View::Kernel, *page))
        .sum();
    assert_eq!(all, pages.len() / PREFILL);
    let tables = world.shadow.tables();
    world.load(5);
    let again: usize = pages
        .iter()
        .map(|page| touch(&mut world, View::Kernel, *page))
        .sum();
    assert_eq!(again, 1);
    // A root, and the table that leads to the monitor.
    assert_eq!(world.shadow.tables(), tables + 2);
}

#[test]
fn invlpg_takes_out_what_it_names() {
    let mut world = world(&[0, 0x1000]);
    for slot in [0, 1] {
        world.store(4, slot, 12 << 12 | USED);
    }
    touch(&mut world, View::User, 0);
    for slot in [0, 1] {
        world.store(4, slot, 13 << 12 | USED);
    }
    world.invlpg(0);
    world.enter(View::User);
    assert_eq!(world.edits, 1);
    assert_eq!(touch(&mut world, View::User, 0), 1);
    assert_eq!(
        touch(&mut world, View::User, 0x1000),
        0,
        "stale, as is allowed"
    );
    world.load(1);
    assert_eq!(touch(&mut world, View::User, 0x1000), 1);
}

#[test]
fn a_flush_of_what_did_not_change_takes_nothing_out() {
    let mut world = world(&pages(2));
    world.store(4, 0, 12 << 12 | USED);
    world.store(4, 1, 12 << 12 | P | A);
    touch(&mut world, View::User, 0);
    // More rights, and bits that mean nothing to a processor.
    world.store(4, 0, 12 << 12 | USED | 7 << 9);
    world.store(4, 1, 12 << 12 | USED);
    world.invlpg(0);
    world.load(1);
    assert_eq!(touch(&mut world, View::User, 0), 0);
    assert_eq!(world.edits, 0);
}

#[test]
fn clearing_accessed_or_dirty_bits_shows_the_next_use() {
    for bits in [USED & !A, USED & !D] {
        let mut world = world(&[0]);
        world.store(4, 0, 12 << 12 | USED);
        touch(&mut world, View::User, 0);
        world.store(4, 0, 12 << 12 | bits);
        world.invlpg(0);
        assert_eq!(touch(&mut world, View::User, 0), 1);
    }
}

#[test]
fn a_table_in_which_much_changed_is_given_up_with_one_edit() {
    let count = 2 * MAX_DROPS as u64;
    let mut world = world(&pages(count));
    for slot in 0..count {
        world.store(4, slot, 12 << 12 | USED);
    }
    for page in pages(count) {
        touch(&mut world, View::User, page);
    }
    for slot in 0..count {
        // As fork does: read-only from now on.
        world.store(4, slot, 12 << 12 | USED & !W);
    }
    world.load(1);
    world.enter(View::User);
    assert_eq!(world.check(View::User), Ok(()));
    // The edits that were found before the last one was too much, and the table's.
    assert!(world.edits <= MAX_DROPS + 1, "{}", world.edits);
    world.edits = 0;
    world.load(1);
    world.enter(View::User);
    assert_eq!(world.edits, 0);
}

#[test]
fn a_table_that_one_root_gave_up_is_no_other_roots() {
    let count = MAX_DROPS as u64 + 2;
    let pages: Vec<u64> = (0..count).map(|page| UPPER + (page << 12)).collect();
    let changing = count - 1;
    let mut world = world(&pages);
    // The second root has a way of its own to the same page table.
    world.store(5, UPPER >> 39 & 511, 13 << 12 | ALL);
    world.store(13, 0, 15 << 12 | ALL);
    world.store(15, 0, 11 << 12 | ALL);
    for slot in 0..changing {
        world.store(11, slot, 12 << 12 | USED);
    }
    world.store(11, changing, 14 << 12 | USED);
    for root in [1, 5] {
        world.load(root);
        for page in &pages {
            touch(&mut world, View::Kernel, *page);
        }
    }
    for slot in 0..changing {
        world.store(11, slot, 12 << 12 | USED & !W);
    }
    // The second root finds the rest of what is wrong in a table that the first has given up.
    for root in [5, 1] {
        world.load(root);
        world.enter(View::Kernel);
    }
    touch(&mut world, View::Kernel, UPPER + (changing << 12));
    world.change_frame(14 << 12);
    world.enter(View::Kernel);
    assert_eq!(world.check(View::Kernel), Ok(()));
}

#[test]
fn each_right_that_is_taken_is_gone_after_invlpg() {
    for (taken, view) in [
        (W, View::Kernel),
        (W, View::User),
        (U, View::User),
        (NX, View::User),
        (NX, View::Kernel),
    ] {
        let mut world = world(&[0]);
        world.store(4, 0, 12 << 12 | USED);
        touch(&mut world, view, 0);
        let execute = taken == NX;
        assert_eq!(world.access(view, 0, !execute, execute), Ok(()));
        world.store(4, 0, (12 << 12 | USED) ^ taken);
        world.invlpg(0);
        let before = world.faults;
        assert_eq!(world.access(view, 0, !execute, execute), Ok(()));
        assert_eq!(world.faults, before + 1, "{taken:#x} {view:?}");
    }
}

#[test]
fn a_bit_that_was_cleared_and_set_again_by_a_fault_leaves_the_page_mapped() {
    let mut world = world(&[0]);
    world.store(4, 0, 12 << 12 | ALL);
    assert_eq!(world.access(View::User, 0, false, false), Ok(()));
    // Not flushed: the write faults, finds the page unused, and marks it.
    world.store(4, 0, 12 << 12 | P | W | U);
    assert_eq!(touch(&mut world, View::User, 0), 1);
    assert_eq!(touch(&mut world, View::User, 0), 0);
}

#[test]
fn another_root_is_verified_even_if_nobody_tells_of_the_load() {
    let mut world = world(&[0]);
    world.store(4, 0, 12 << 12 | USED);
    touch(&mut world, View::User, 0);
    world.paging.root = 5 << 12;
    world.enter(View::User);
    world.store(4, 0, 13 << 12 | USED);
    world.paging.root = 1 << 12;
    let control = world.control();
    world.memo.forget(&world.ram, control, None);
    world.enter(View::User);
    assert_eq!(world.check(View::User), Ok(()));
}

#[test]
fn a_root_in_which_too_much_changed_is_replaced_without_a_reset() {
    let tables = MAX_EDITS as u64 + 8;
    let pages: Vec<u64> = (0..tables).map(|table| table << 21).collect();
    let mut world = world(&pages);
    // All large entries lead to one page table of the guest's.
    for slot in 0..tables {
        world.store(3, slot, 4 << 12 | ALL);
    }
    world.store(4, 0, 12 << 12 | USED);
    for page in &pages {
        touch(&mut world, View::User, *page);
    }
    world.store(4, 0, 13 << 12 | USED);
    world.load(1);
    for page in &pages {
        touch(&mut world, View::User, *page);
    }
    assert_eq!(world.resets, 0);
}

#[test]
fn the_table_above_the_monitor_follows_the_guest() {
    let high = 0xffff_ff80_0000_0000;
    let mut world = world(&[high]);
    world.store(4, 0, 12 << 12 | USED);
    world.store(8, 0, 13 << 12 | USED);
    for (table, frame) in [(2, 12), (6, 13), (2, 12)] {
        world.store(1, 511, table << 12 | ALL);
        world.load(1);
        assert_eq!(touch(&mut world, View::Kernel, high), 1, "{frame}");
    }
    world.store(1, 511, 0);
    world.invlpg(high);
    world.enter(View::Kernel);
    assert_eq!(world.check(View::Kernel), Ok(()));
    assert_eq!(world.resets, 0);
}

#[test]
fn splitting_a_large_page_needs_one_invlpg() {
    let mut world = world(&[0, 0x1000]);
    world.store(3, 0, USED | PS);
    touch(&mut world, View::User, 0x1000);
    for slot in 0..512 {
        world.store(4, slot, slot << 12 | USED);
    }
    world.store(4, 1, 0);
    world.store(3, 0, 4 << 12 | ALL);
    world.invlpg(0x1000);
    assert_eq!(world.access(View::User, 0x1000, false, false), Ok(()));
    assert_eq!(world.faults, 2, "one of them a true one");
}
