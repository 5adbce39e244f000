//! Chains of frame pointers, whole and broken.

use std::collections::HashMap;

use proptest::prelude::*;

use super::builder::{BASE, FUNC, kernel_with, sym};
use crate::loader::Symbols;
use crate::loader::backtrace::{render, walk};

const STACK: u64 = BASE + 0x80_0000;
const CODE: u64 = BASE + 0x10_0000;

/// Walks over frames given as (address, caller's frame, return address).
fn over(frames: &[(u64, u64, u64)], rbp: u64, limit: usize) -> Vec<u64> {
    let words = frames
        .iter()
        .flat_map(|(at, caller, ret)| [(*at, *caller), (at + 8, *ret)]);
    let memory: HashMap<u64, u64> = words.collect();
    walk(CODE, rbp, |address| memory.get(&address).copied(), limit)
}

#[test]
fn chain_is_walked_to_its_end() {
    let frames = [(STACK, STACK + 64, CODE + 1), (STACK + 64, 0, CODE + 2)];
    assert_eq!(over(&frames, STACK, 16), [CODE, CODE + 1, CODE + 2]);
}

#[test]
fn limit_holds() {
    let frames = [(STACK, STACK + 64, CODE + 1), (STACK + 64, 0, CODE + 2)];
    assert_eq!(over(&frames, STACK, 2), [CODE, CODE + 1]);
    assert!(over(&frames, STACK, 0).is_empty());
}

#[test]
fn chain_that_loops_or_descends_ends() {
    assert_eq!(
        over(&[(STACK, STACK, CODE + 1)], STACK, 16),
        [CODE, CODE + 1]
    );
    let down = [(STACK, STACK - 64, CODE + 1), (STACK - 64, STACK, CODE + 2)];
    assert_eq!(over(&down, STACK, 16), [CODE, CODE + 1]);
}

#[test]
fn frame_pointer_that_cannot_be_one_ends_the_chain() {
    for rbp in [
        0,
        8,
        STACK + 1,
        STACK + 4,
        1 << 47,
        u64::MAX,
        u64::MAX - 7,
        (1 << 47) - 8,
    ] {
        assert_eq!(
            walk(CODE, rbp, |address| (address > 8).then_some(CODE), 16),
            [CODE],
            "{rbp:#x}"
        );
    }
}

#[test]
fn return_address_that_cannot_be_one_ends_the_chain() {
    assert_eq!(over(&[(STACK, STACK + 64, 0)], STACK, 16), [CODE]);
    assert_eq!(over(&[(STACK, STACK + 64, 1 << 50)], STACK, 16), [CODE]);
}

#[test]
fn names_are_those_of_the_callers() {
    let image = kernel_with(&[
        sym("boot", CODE, 16, FUNC),
        sym("idle", CODE + 16, 16, FUNC),
    ]);
    // The second: `boot` ends with a call that does not return.
    let lines = render(&[CODE + 16, CODE + 16, 0x1000], &Symbols::read(&image));
    let expected = [
        "#0  0xffffffff80100010 idle+0x0",
        "#1  0xffffffff80100010 boot+0x10",
        "#2  0x0000000000001000",
    ];
    assert_eq!(lines, expected);
}

proptest! {
    #[test]
    fn any_memory_gives_a_bounded_walk(
        rip: u64, rbp: u64, seed: u64, limit in 0usize..100,
    ) {
        let mut reads = 0;
        // Mostly upwards, so that the walk is long.
        let addresses = walk(rip, rbp & !7, |at| {
            reads += 1;
            Some(at.wrapping_add((at ^ seed) & 0xff8))
        }, limit);
        prop_assert!(addresses.len() <= limit);
        prop_assert!(reads <= 2 * limit + 2);
    }
}
