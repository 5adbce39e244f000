//! What filling and verification cost in this build on this machine, printed and not asserted:
//! `cargo test --release -p hypervisor --lib shadow::tests::cost -- --nocapture`.

use std::time::Instant;

use super::world::{A, D, P, PS, Sabotage, U, W, World};
use crate::machine::shadow::{PREFILL, View};

const USED: u64 = P | W | U | A | D;
const TABLES: u64 = 8;
const ROUNDS: u32 = 200;

/// The fastest of some rounds, in nanoseconds.
fn fastest(mut round: impl FnMut() -> u128) -> u128 {
    (0..ROUNDS).map(|_| round()).min().unwrap_or_default()
}

#[test]
fn costs() {
    let mut world = World::new(&[], 256, Sabotage::None);
    world.store(1, 0, 2 << 12 | USED);
    world.store(2, 0, 3 << 12 | USED);
    for table in 0..TABLES {
        world.store(3, table, (4 + table) << 12 | USED);
        for slot in 0..512 {
            world.store(4 + table, slot, 15 << 12 | USED);
        }
    }
    for table in TABLES..2 * TABLES {
        world.store(3, table, table << 21 | USED | PS);
    }

    let fault = |world: &mut World, at: u64| {
        let start = Instant::now();
        let (shadow, owner) = (&mut world.shadow, &mut world.owner);
        shadow.fault(&world.ram, &world.paging, View::Kernel, at, 6, owner);
        start.elapsed().as_nanos()
    };
    let mut fills = Vec::new();
    for at in (0..TABLES << 21).step_by(PREFILL << 12) {
        fills.push(fault(&mut world, at));
    }
    println!(
        "a fault that fills {PREFILL} pages: {:?} ns",
        fills.iter().min()
    );
    let large = (TABLES..2 * TABLES).map(|table| fault(&mut world, table << 21));
    println!("a fault that fills a large page: {:?} ns", large.min());

    let select = |world: &mut World| {
        let start = Instant::now();
        let root = world.shadow.select(&world.ram, &world.paging, View::Kernel);
        assert!(root.is_ok());
        start.elapsed().as_nanos()
    };
    let entries = u128::from(TABLES * 512);
    let verify = fastest(|| {
        world.shadow.load_root();
        select(&mut world)
    });
    println!(
        "a CR3 load: {verify} ns for {entries} small pages and {TABLES} large ones, {} ps a page",
        verify * 1000 / entries
    );
    println!(
        "an entry without a flush: {} ns",
        fastest(|| select(&mut world))
    );
    let invalidate = fastest(|| {
        let start = Instant::now();
        world.shadow.invalidate(&world.ram, &world.paging, 0x1000);
        start.elapsed().as_nanos()
    });
    println!("an INVLPG: {invalidate} ns");
    let changed = fastest(|| {
        let start = Instant::now();
        world.shadow.frame_changed(14 << 12, &mut world.owner);
        start.elapsed().as_nanos()
    });
    println!(
        "a frame's change, {} tables: {changed} ns",
        world.shadow.tables()
    );
    assert_eq!(world.edits, 0);
}
