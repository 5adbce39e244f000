//! What one fault fills, and what frames become.

use super::world::{
    A, D, DEVICE, DIRECTORY, HOLE, MONITOR, NX, P, POOL, PS, Sabotage, U, W, World,
};
use crate::machine::paging::PageFault;
use crate::machine::shadow::{PREFILL, Resolution, View};
use hypercall_abi::layout::MONITOR_GIB;

const ALL: u64 = P | W | U | A;
const USED: u64 = ALL | D;

/// Tables at frames 1 to 4 for the first 2 MiB, with no page in it yet.
fn world(pages: &[u64]) -> World {
    let mut world = World::new(pages, 64, Sabotage::None);
    for table in 1..4 {
        world.store(table, 0, (table + 1) << 12 | ALL);
    }
    world
}

fn fault(world: &mut World, view: View, at: u64, code: u32) -> Resolution {
    let (shadow, owner) = (&mut world.shadow, &mut world.owner);
    shadow.fault(&world.ram, &world.paging, view, at, code, owner)
}

/// The leaf that the real processor finds for a page.
fn leaf(world: &mut World, view: View, page: u64) -> Option<u64> {
    let select = world.shadow.select(&world.ram, &world.paging, view);
    let root = select.expect("room");
    world.hardware_walk(root, page)
}

#[test]
fn one_fault_fills_the_used_neighbours() {
    let pages: Vec<u64> = (0..64).map(|page| page << 12).collect();
    let mut world = world(&pages);
    for slot in 0..64 {
        world.store(4, slot, 9 << 12 | USED);
    }
    for page in &pages {
        assert_eq!(world.access(View::User, *page, true, false), Ok(()));
    }
    assert_eq!(world.faults, 64_usize.div_ceil(PREFILL));
}

#[test]
fn neighbours_that_need_a_bit_set_wait_for_their_own_fault() {
    let mut world = world(&[0, 0x1000, 0x2000, 0x3000, 0x4000]);
    for (slot, bits) in [
        (0, USED),
        (1, P | W | U),
        (2, ALL),
        (3, USED & !U),
        (4, USED | 1 << 45),
    ] {
        world.store(4, slot, 9 << 12 | bits);
    }
    assert_eq!(world.access(View::User, 0, true, false), Ok(()));
    let unused = 9 << 12 | P | U | NX;
    assert_eq!(leaf(&mut world, View::User, 0x1000), None, "not accessed");
    let read_only = leaf(&mut world, View::User, 0x2000).map(|leaf| leaf | NX);
    assert_eq!(read_only, Some(unused), "not dirty");
    assert_eq!(leaf(&mut world, View::User, 0x3000), None, "not a user's");
    assert_eq!(leaf(&mut world, View::User, 0x4000), None, "malformed");
    for page in [0x1000, 0x2000] {
        assert_eq!(world.access(View::User, page, true, false), Ok(()));
    }
    assert_eq!(world.faults, 3);
}

#[test]
fn one_fault_fills_a_large_page() {
    let pages: Vec<u64> = (0..512).map(|page| page << 12).collect();
    let mut world = world(&pages);
    world.store(3, 0, ALL | PS | D);
    for page in &pages {
        assert_eq!(world.access(View::Kernel, *page, true, false), Ok(()));
    }
    assert_eq!(world.faults, 1);
}

#[test]
fn a_clean_large_page_faults_once_to_be_written() {
    let mut world = world(&[0, 0x1000]);
    world.store(3, 0, ALL | PS);
    assert_eq!(world.access(View::User, 0, false, false), Ok(()));
    assert_eq!(world.access(View::User, 0x1000, true, false), Ok(()));
    assert_eq!(world.access(View::User, 0, true, false), Ok(()));
    assert_eq!(world.faults, 2);
}

#[test]
fn each_2_mib_of_a_huge_page_is_filled_when_it_is_touched() {
    let mut world = world(&[0x1000, 0x2000, 0x20_1000, 0x40_0000]);
    world.store(2, 0, USED | PS);
    for (page, faults) in [(0x1000, 1), (0x20_1000, 2), (0x2000, 2), (0x40_0000, 3)] {
        assert_eq!(world.access(View::Kernel, page, false, false), Ok(()));
        assert_eq!(world.faults, faults);
    }
}

#[test]
fn the_monitors_gigabyte_is_in_every_root_and_no_guests() {
    let mut world = world(&[]);
    for table in [1, 2] {
        // What the guest has there does not matter.
        world.store(table, 511, 2 << 12 | USED);
    }
    for (view, root) in [(View::Kernel, 1), (View::User, 1), (View::Kernel, 5)] {
        world.load(root);
        // Root 5 is empty: what the guest does not map faults there as anywhere.
        let is_mapped = root != 5;
        for (at, code) in [(MONITOR_GIB, 4), (u64::MAX, 6)] {
            let resolution = fault(&mut world, view, at, code);
            match resolution {
                Resolution::Monitor => assert!(is_mapped),
                other => assert!(
                    matches!(other, Resolution::True(_)) && !is_mapped,
                    "{other:?}"
                ),
            }
        }
        let root = world.shadow.select(&world.ram, &world.paging, view);
        let words = world.shadow.words_mut();
        let word = |at: u64| words.words[((at - POOL) / 8) as usize];
        let third = word(root.expect("room") + 511 * 8) & !0xfff;
        // The directory's own entries say what CPL 3 may touch.
        assert_eq!(word(third + 511 * 8), DIRECTORY | P | W | U | A);
    }
}

#[test]
fn devices_are_uncached_and_nothing_is_fetched_from_them() {
    let mut world = world(&[0, 0x1000]);
    let nowhere = 0x99 << 12;
    world.store(4, 0, DEVICE | USED);
    world.store(4, 1, nowhere | USED);
    for (page, frame) in [(0, DEVICE), (0x1000, nowhere)] {
        assert_eq!(world.access(View::User, page, true, false), Ok(()));
        let expected = frame | P | W | U | 0x18 | NX;
        assert_eq!(leaf(&mut world, View::User, page), Some(expected));
        let refused = Resolution::Refused { frame };
        assert_eq!(fault(&mut world, View::User, page, 0x14), refused);
    }
}

#[test]
fn what_the_vmm_has_in_memory_is_a_hole_to_the_guest() {
    let mut world = world(&[0, 0x1000, 0x2000]);
    for (slot, frame) in [(0, POOL), (1, POOL + 63 * 4096), (2, MONITOR + 0x2000)] {
        world.store(4, slot, frame | USED);
    }
    for page in [0, 0x1000, 0x2000] {
        assert_eq!(world.access(View::Kernel, page, true, false), Ok(()));
        let expected = HOLE | P | W | U | 0x18 | NX;
        assert_eq!(leaf(&mut world, View::Kernel, page), Some(expected));
    }
    assert_eq!(world.owner.asked, 0);
}

#[test]
fn the_kernel_view_has_what_users_may_not_touch() {
    let mut world = world(&[0]);
    world.store(4, 0, 9 << 12 | USED & !U);
    assert_eq!(world.access(View::Kernel, 0, true, false), Ok(()));
    let denied = PageFault { code: 0b0111 };
    assert_eq!(
        fault(&mut world, View::User, 0, 7),
        Resolution::True(denied)
    );
    assert_eq!(leaf(&mut world, View::User, 0), None);
}

#[test]
fn without_write_protect_the_kernel_alone_writes_read_only_pages() {
    let mut world = world(&[0]);
    world.store(4, 0, 9 << 12 | P | U | A);
    let denied = |code| Resolution::True(PageFault { code });
    assert_eq!(fault(&mut world, View::Kernel, 0, 7), denied(0b011));
    world.control_bits(false, true);
    assert_eq!(world.access(View::Kernel, 0, true, false), Ok(()));
    assert_eq!(fault(&mut world, View::User, 0, 7), denied(0b111));
    world.control_bits(true, true);
    assert_eq!(fault(&mut world, View::Kernel, 0, 7), denied(0b011));
}

#[test]
fn code_of_the_kernel_runs_from_a_copy_that_nobody_writes() {
    let mut world = world(&[0, 0x1000]);
    // Two addresses of one frame.
    world.store(4, 0, 9 << 12 | USED);
    world.store(4, 1, 9 << 12 | USED);
    for view in [View::User, View::Kernel] {
        assert_eq!(world.access(view, 0x1000, true, false), Ok(()));
    }
    assert_eq!(world.access(View::Kernel, 0, false, true), Ok(()));
    for (view, page) in [(View::User, 0x1000), (View::Kernel, 0x1000)] {
        let writable = leaf(&mut world, view, page).is_some_and(|leaf| leaf & W != 0);
        assert!(!writable, "{view:?}");
    }
    assert_eq!(world.access(View::User, 0x1000, true, false), Ok(()));
    assert_eq!(leaf(&mut world, View::Kernel, 0), None, "the copy is stale");
}

#[test]
fn a_fault_on_what_is_there_invalidates_the_address() {
    let mut world = world(&[0]);
    world.store(4, 0, 9 << 12 | USED);
    assert_eq!(world.access(View::User, 0, true, false), Ok(()));
    let before = leaf(&mut world, View::User, 0).expect("filled");
    assert_eq!(fault(&mut world, View::User, 0x10, 7), Resolution::Filled);
    let edits = world.shadow.take_edits().expect("room");
    let [edit] = edits.list[..] else {
        panic!("{edits:?}");
    };
    // No processor has to set the bits that say that it was used.
    assert_eq!(edit.value & (A | D), A | D);
    assert_eq!((edit.value & !(A | D), edit.linear), (before & !(A | D), 0));
    assert!(!edits.flush);
}

#[test]
fn more_rights_for_a_page_need_no_edit() {
    let mut world = world(&[0]);
    world.store(4, 0, 9 << 12 | ALL);
    for write in [false, true] {
        assert_eq!(world.access(View::User, 0, write, false), Ok(()));
    }
    assert_eq!((world.faults, world.edits), (2, 0));
}
