use super::super::spans::tests::empty_info;
use super::super::tables::tests::{Arena, Leaf};
use super::super::{image, stacks};
use super::*;
use hypercall_abi::boot::Range as BootRange;
use hypercall_abi::layout::DIRECT_MAP;
use std::collections::BTreeMap;
use std::vec::Vec;
use x86_64::structures::paging::PageTableFlags as Flags;

fn built(megabytes: u64, is_user: bool) -> Tables<Arena> {
    let mut info = empty_info();
    info.memory_ranges = 1;
    info.memory[0] = BootRange {
        start: 0,
        len: megabytes << 20,
    };
    let mut tables = Tables::new(Arena::default(), is_user).unwrap();
    build(&mut tables, &info, &image()).unwrap();
    tables
}

fn rights(leaf: &Leaf) -> (bool, bool) {
    let is_writable = leaf.flags.contains(Flags::WRITABLE);
    let is_executable = !leaf.flags.contains(Flags::NO_EXECUTE);
    (is_writable, is_executable)
}

#[test]
fn no_frame_is_both_writable_and_executable_through_any_page() {
    for megabytes in [16, 17, 256, 3000] {
        let mut by_frame: BTreeMap<u64, (bool, bool)> = BTreeMap::new();
        for leaf in built(megabytes, true).leaves() {
            let (w, x) = rights(&leaf);
            for frame in (leaf.phys..leaf.phys + leaf.len).step_by(4096) {
                let all = by_frame.entry(frame).or_default();
                *all = (all.0 || w, all.1 || x);
                assert_ne!(*all, (true, true), "frame {frame:#x}");
            }
        }
    }
}

#[test]
fn the_image_has_the_rights_of_its_parts_and_no_alias() {
    let mut tables = built(16, false);
    let image = image();
    let parts = [
        (&image.text, (false, true)),
        (&image.rodata, (false, false)),
        (&image.data, (true, false)),
    ];
    for (part, expected) in parts {
        for at in part.clone().step_by(4096) {
            let mapping = tables.lookup(at).unwrap();
            assert_eq!(mapping.phys, at - KERNEL_BASE);
            let w = mapping.flags.contains(Flags::WRITABLE);
            let x = !mapping.flags.contains(Flags::NO_EXECUTE);
            assert_eq!((w, x), expected, "{at:#x}");
            assert_eq!(tables.lookup(to_virt(at - KERNEL_BASE)), None);
        }
    }
}

#[test]
fn all_other_memory_is_in_the_direct_map_and_nothing_is_low() {
    for megabytes in [16, 255] {
        let mut tables = built(megabytes, true);
        let hole = image().phys();
        for phys in (0..megabytes << 20).step_by(4096) {
            let mapping = tables.lookup(to_virt(phys)).map(|m| m.phys);
            assert_eq!(mapping, (!hole.contains(&phys)).then_some(phys));
        }
        assert_eq!(tables.lookup(to_virt(megabytes << 20)), None);
        assert!(tables.leaves().iter().all(|leaf| leaf.at >= DIRECT_MAP));
    }
}

#[test]
fn every_page_has_the_user_bit_exactly_when_the_kernel_is_deprivileged() {
    for is_user in [false, true] {
        let leaves = built(64, is_user).leaves();
        assert!(leaves.len() > 100);
        assert!(leaves.iter().all(|leaf| leaf.is_user == is_user));
    }
}

#[test]
fn small_guests_need_few_tables_and_large_pages_do_the_rest() {
    let leaves = built(1024, true).leaves();
    let small: Vec<_> = leaves.iter().filter(|leaf| leaf.len == 4096).collect();
    let in_image = (image().phys().end - image().phys().start) / 4096;
    // Only the large page that the image lies in is split.
    assert_eq!(small.len() as u64, 512);
    assert!(in_image < 512);
    assert_eq!(leaves.len() - small.len(), 511);
}

#[test]
fn a_stack_between_guards_leaves_its_guards_unmapped() {
    let mut tables = built(16, true);
    let slot = super::super::STACKS;
    let stack = slot + stacks::STACK_SIZE;
    tables
        .map(stack, 0x50_0000, stacks::STACK_SIZE, Access::Write)
        .unwrap();
    assert!(tables.lookup(stack).is_some());
    assert_eq!(tables.lookup(stack - 1), None);
    assert_eq!(tables.lookup(stack + stacks::STACK_SIZE), None);
    let is_guarded = |at| stacks::is_guard(at);
    assert!(is_guarded(stack - 1) && is_guarded(stack + stacks::STACK_SIZE));
}

#[test]
fn an_image_outside_its_place_is_refused() {
    let mut tables = Tables::new(Arena::default(), true).unwrap();
    let mut odd = image();
    odd.text.start += 1;
    let result = build(&mut tables, &empty_info(), &odd);
    assert_eq!(result, Err(MapError::Misplaced(odd.text.start)));
    let mut far = image();
    far.data.end = DEVICES;
    assert!(build(&mut tables, &empty_info(), &far).is_err());
}
