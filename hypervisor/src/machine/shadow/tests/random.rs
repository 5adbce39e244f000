//! Random guests: stores to tables, flushes and accesses in any order, judged by the reference.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::world::{A, D, DEVICE, MONITOR, NX, P, POOL, PS, Sabotage, U, W, World};
use crate::machine::shadow::View;

const SLOTS: [u64; 5] = [0, 1, 2, 33, 511];

/// Addresses of every shape of path that the slots allow, none in the monitor's gigabyte.
fn pages() -> Vec<u64> {
    let mut pages = Vec::new();
    for top in [0, 511] {
        for third in [0, 1] {
            for second in [0, 1] {
                for first in SLOTS {
                    let at: u64 = top << 39 | third << 30 | second << 21 | first << 12;
                    pages.push(if top == 511 { at | 0xffff << 48 } else { at });
                }
            }
        }
    }
    pages
}

#[derive(Clone, Debug)]
enum Op {
    Store {
        table: u64,
        slot: usize,
        value: u64,
    },
    /// Change bits of an entry, and of nothing else.
    Flip {
        table: u64,
        slot: usize,
        bits: u64,
    },
    Invlpg(usize),
    Load(u64),
    Bits {
        wp: bool,
        nxe: bool,
    },
    Frame(u64),
    Take,
    Access {
        view: View,
        page: usize,
        write: bool,
        execute: bool,
    },
}

fn view() -> impl Strategy<Value = View> {
    prop_oneof![Just(View::Kernel), Just(View::User)]
}

fn value() -> impl Strategy<Value = u64> {
    let target = prop_oneof![
        12 => (1u64..16).prop_map(|frame| frame << 12),
        2 => Just(0),
        1 => prop::sample::select(vec![0x20_0000, POOL, POOL + 0x3000, MONITOR, DEVICE, 99 << 12]),
    ];
    let often = prop::bool::weighted;
    let flags = (
        (often(0.93), often(0.8), often(0.75), often(0.8), often(0.6)),
        (often(0.12), often(0.2), often(0.02), often(0.1)),
    );
    (target, flags).prop_map(|(target, ((p, w, u, a, d), (ps, nx, reserved, ignored)))| {
        let bit = |is_set: bool, bit: u64| if is_set { bit } else { 0 };
        let low = bit(p, P) | bit(w, W) | bit(u, U) | bit(a, A) | bit(d, D) | bit(ps, PS);
        let high = bit(nx, NX) | bit(reserved, 1 << 45) | bit(ignored, 7 << 9 | 1 << 55);
        // A large page at 0, or one that is misplaced, as well as a table.
        let target = if ps && !ignored {
            target & !0x1f_ffff
        } else {
            target
        };
        target | low | high
    })
}

fn op() -> impl Strategy<Value = Op> {
    let pages = pages().len();
    let access = (view(), 0..pages, any::<bool>(), prop::bool::weighted(0.3));
    prop_oneof![
        6 => (1u64..9, 0..SLOTS.len(), value())
            .prop_map(|(table, slot, value)| Op::Store { table, slot, value }),
        4 => (1u64..9, 0..SLOTS.len(), prop::sample::select(vec![P, W, U, A, D, NX, 1 << 9, W | D]))
            .prop_map(|(table, slot, bits)| Op::Flip { table, slot, bits }),
        3 => (0..pages).prop_map(Op::Invlpg),
        1 => prop_oneof![Just(1u64), Just(1), Just(5), 1u64..9].prop_map(Op::Load),
        1 => (prop::bool::weighted(0.6), prop::bool::weighted(0.8))
            .prop_map(|(wp, nxe)| Op::Bits { wp, nxe }),
        1 => (0u64..16).prop_map(|frame| Op::Frame(frame << 12)),
        1 => Just(Op::Take),
        12 => access.prop_map(|(view, page, write, execute)| Op::Access {
            view,
            page,
            // No processor does both at once.
            write: write && !execute,
            execute,
        }),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 1..80)
}

/// Two roots that share an upper half, and have a lower half each.
fn start(world: &mut World) {
    let all = P | W | U | A;
    for (table, slot, frame) in [
        (1, 0, 2),
        (1, 511, 6),
        (5, 0, 7),
        (5, 511, 6),
        (2, 0, 3),
        (3, 0, 4),
        (6, 0, 8),
        (6, 1, 8),
        (8, 0, 4),
        (7, 0, 3),
    ] {
        world.store(table, slot, frame << 12 | all);
    }
    for (slot, frame) in [(0, 9), (1, 10), (2, 11), (33, 12)] {
        world.store(4, slot, frame << 12 | all | D);
    }
}

fn play(world: &mut World, ops: &[Op]) -> Result<(), String> {
    let pages = pages();
    for op in ops {
        match *op {
            Op::Store { table, slot, value } => world.store(table, SLOTS[slot], value),
            Op::Flip { table, slot, bits } => {
                let value = world.ram.get(table, SLOTS[slot]) ^ bits;
                world.store(table, SLOTS[slot], value);
            }
            Op::Invlpg(page) => world.invlpg(pages[page]),
            Op::Load(frame) => world.load(frame),
            Op::Bits { wp, nxe } => world.control_bits(wp, nxe),
            Op::Frame(frame) => world.change_frame(frame),
            Op::Take => world.take_edits(),
            Op::Access {
                view,
                page,
                write,
                execute,
            } => world.access(view, pages[page], write, execute)?,
        }
    }
    for view in [View::Kernel, View::User] {
        world.enter(view);
        world.check(view)?;
    }
    Ok(())
}

fn world(pool_pages: u64, sabotage: Sabotage) -> World {
    let mut world = World::new(&pages(), pool_pages, sabotage);
    start(&mut world);
    world
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_shadow_lets_do_what_the_architecture_permits(
        ops in ops(),
        pool in prop::sample::select(vec![10u64, 40, 96]),
        (max_edits, max_drops) in prop::sample::select(vec![(64, 16), (64, 1), (3, 1), (1, 0)]),
    ) {
        let mut world = world(pool, Sabotage::None);
        world.limit(max_edits, max_drops);
        prop_assert_eq!(play(&mut world, &ops), Ok(()));
    }
}

/// Whether one of some random guests notices.
fn is_caught(sabotage: Sabotage) -> bool {
    let mut runner = TestRunner::deterministic();
    let strategy = ops();
    (0..300).any(|_| {
        let ops = strategy.new_tree(&mut runner).expect("a guest").current();
        play(&mut world(96, sabotage), &ops).is_err()
    })
}

#[test]
fn the_checks_catch_every_kind_of_mistake() {
    for sabotage in [
        Sabotage::GrantWrite,
        Sabotage::GrantExecute,
        Sabotage::LoseDrops,
        Sabotage::LoseInvalidations,
        Sabotage::LoseFlushes,
        Sabotage::LoseInvlpg,
        Sabotage::LoseLoads,
        Sabotage::LoseWp,
        Sabotage::LoseFrameChanges,
        Sabotage::LoseDirty,
    ] {
        assert!(is_caught(sabotage), "{sabotage:?}");
    }
}

#[test]
fn random_guests_use_all_that_is_there() {
    let mut runner = TestRunner::deterministic();
    let (mut faults, mut edits, mut resets) = (0, 0, 0);
    for guest in 0..100 {
        let ops = ops().new_tree(&mut runner).expect("a guest").current();
        let mut world = world([10, 96][guest % 2], Sabotage::None);
        play(&mut world, &ops).expect("no difference");
        faults += world.faults;
        edits += world.edits;
        resets += world.resets;
    }
    assert!(
        faults > 1000 && edits > 100 && resets > 10,
        "{faults} {edits} {resets}"
    );
}
