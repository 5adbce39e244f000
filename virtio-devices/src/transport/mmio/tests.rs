//! Registers, in and out of turn; and queues that break the rules, over a device that draws random numbers.

use proptest::prelude::*;

use super::*;
use crate::driver::{BUFFERS, DESC, Driver, INDIRECT, MEMORY, NEXT, SIZE, WRITE};
use crate::rng::Rng;
use crate::{EVENT_IDX, INDIRECT_DESC};

fn rng() -> Rng {
    Rng::new().unwrap()
}

#[test]
fn a_driver_finds_what_it_is() {
    let mut driver = Driver::found(rng());
    assert_eq!(driver.get(0), MAGIC);
    assert_eq!((driver.get(4), driver.get(8)), (2, 4));
    for (half, bits) in [(0, EVENT_IDX | INDIRECT_DESC), (1, VERSION_1 >> 32), (2, 0)] {
        driver.set(0x14, half);
        assert_eq!(u64::from(driver.get(0x10)), bits);
    }
    for (queue, max) in [(0, 256), (1, 0), (u32::MAX, 0)] {
        driver.set(0x30, queue);
        assert_eq!(driver.get(0x34), max);
    }
    // Shared memory: none (4.2.2.1).
    for register in [0xb0, 0xb4, 0xb8, 0xbc] {
        assert_eq!(driver.get(register), u32::MAX);
    }
}

#[test]
fn random_bytes_come_with_an_interrupt() {
    for features in [0, EVENT_IDX] {
        let mut driver = Driver::ready(rng(), features);
        let used = driver.ask(&[
            (BUFFERS, 64, WRITE | NEXT, 1),
            (BUFFERS + 4096, 32, WRITE, 0),
        ]);
        assert_eq!(used, (0, 96));
        assert_eq!(driver.get(0x60), 1);
        driver.set(0x64, 1);
        assert_eq!(driver.get(0x60), 0);
        assert_ne!(driver.bytes(BUFFERS, 64), [0; 64]);
        assert_ne!(driver.bytes(BUFFERS + 4096, 32), [0; 32]);
        assert_eq!(driver.bytes(BUFFERS + 4096 + 32, 8), [0; 8]);
    }
}

#[test]
fn no_interrupt_comes_where_the_driver_wants_none() {
    let mut driver = Driver::ready(rng(), 0);
    driver.put(crate::driver::AVAIL, &[1, 0]); // VIRTQ_AVAIL_F_NO_INTERRUPT
    driver.offer(&[(BUFFERS, 8, WRITE, 0)]);
    driver.ring();
    while driver.used() == 0 {
        std::thread::yield_now();
    }
    driver.put(crate::driver::AVAIL, &[0, 0]);
    driver.ask(&[(BUFFERS, 8, WRITE, 0)]);
    assert!(driver.is_quiet(), "one interrupt for two requests");
}

#[test]
fn indirect_descriptors_are_followed_once() {
    let mut driver = Driver::ready(rng(), INDIRECT_DESC);
    let table = BUFFERS + 0x8000;
    driver.write_descriptor(table, 0, (BUFFERS, 16, WRITE | NEXT, 1));
    driver.write_descriptor(table, 1, (BUFFERS + 32, 16, WRITE, 0));
    assert_eq!(driver.ask(&[(table, 32, INDIRECT, 0)]), (0, 32));
    // A table in a table (2.7.5.3.1).
    driver.write_descriptor(table, 0, (table, 16, INDIRECT, 0));
    driver.break_it(&[(table, 16, INDIRECT, 0)]);
}

#[test]
fn what_breaks_a_chain_is_reported_and_a_reset_mends_it() {
    let end = MEMORY as u64;
    let mut driver = Driver::ready(rng(), INDIRECT_DESC);
    let broken: &[&[crate::driver::Descriptor]] = &[
        &[(BUFFERS, 8, WRITE | NEXT, 0)],                         // a cycle
        &[(BUFFERS, 8, WRITE | NEXT, SIZE)],                      // beyond the table
        &[(BUFFERS, 0, WRITE, 0)],                                // no bytes
        &[(end - 4, 8, WRITE, 0)],                                // leaves memory
        &[(u64::MAX - 3, 8, WRITE, 0)],                           // wraps
        &[(BUFFERS, 8, WRITE | NEXT, 1), (BUFFERS + 8, 8, 0, 0)], // readable behind writable
        &[(BUFFERS, 24, INDIRECT, 0)],                            // no whole descriptors
        &[(end, 16, INDIRECT, 0)],                                // a table outside of memory
    ];
    for chain in broken {
        driver.break_it(chain);
        // The queue stays stopped.
        let used = driver.used();
        driver.offer(&[(BUFFERS, 8, WRITE, 0)]);
        driver.ring();
        assert_eq!(driver.used(), used);
        driver.set(0x70, 0);
        assert_eq!((driver.get(0x70), driver.get(0x60)), (0, 0));
        driver.start(INDIRECT_DESC);
        assert_eq!(driver.ask(&[(BUFFERS, 8, WRITE, 0)]), (0, 8), "{chain:?}");
    }
}

#[test]
fn an_index_that_jumps_further_than_the_queue_is_long_breaks_it() {
    let mut driver = Driver::ready(rng(), 0);
    driver.write_descriptor(DESC, 0, (BUFFERS, 8, WRITE, 0));
    driver.put(crate::driver::AVAIL + 2, &(SIZE + 1).to_le_bytes());
    driver.ring();
    driver.wait();
    assert_eq!(driver.get(0x70), 15 | status::NEEDS_RESET);
}

#[test]
fn registers_out_of_turn_change_nothing() {
    let mut driver = Driver::found(rng());
    // Before FEATURES_OK there are no queues to set.
    driver.set_queue();
    assert_eq!(driver.get(0x44), 0);
    // Without DRIVER, or without VERSION_1, features are not settled.
    driver.set(0x70, 8);
    assert_eq!(driver.get(0x70), 0);
    driver.set(0x70, 3);
    driver.accept(EVENT_IDX);
    driver.set(0x70, 11);
    assert_eq!(driver.get(0x70), 3);
    // Nor with one that is not offered.
    driver.accept(VERSION_1 | 1);
    driver.set(0x70, 15);
    assert_eq!(driver.get(0x70), 3);
    driver.accept(VERSION_1);
    driver.set(0x70, 11);
    assert_eq!(driver.get(0x70), 11);
    // Features stay, and a ready queue's registers too.
    driver.accept(VERSION_1 | EVENT_IDX);
    driver.set_queue();
    driver.set(0x80, 0x5000);
    driver.set(0x38, 8);
    driver.set(0x70, 15);
    assert_eq!(driver.transport.accepted, VERSION_1);
    driver.set(0x44, 0);
    assert_eq!(driver.get(0x44), 1, "after DRIVER_OK nothing is set");
    assert_eq!(driver.ask(&[(BUFFERS, 8, WRITE, 0)]), (0, 8));
    // A driver does not clear bits.
    driver.set(0x70, 1);
    assert_eq!(driver.get(0x70), 15);
}

#[test]
fn a_queue_that_is_not_whole_in_memory_never_gets_ready() {
    for (register, at) in [
        (0x80, MEMORY as u64),
        (0x90, MEMORY as u64 - 8),
        (0xa0, u64::MAX - 0xfff),
    ] {
        let mut driver = Driver::found(rng());
        driver.set(0x70, 3);
        driver.accept(VERSION_1);
        driver.set(0x70, 11);
        driver.set_queue();
        driver.set(0x44, 0);
        driver.set(register, at as u32);
        driver.set(register + 4, (at >> 32) as u32);
        driver.set(0x44, 1);
        assert_eq!(driver.get(0x44), 0, "{register:#x}");
        // The device works without it: there is nothing to serve.
        driver.set(0x70, 15);
        driver.ring();
        assert!(driver.is_quiet());
    }
}

#[test]
fn a_start_before_features_are_settled_needs_a_reset() {
    let mut driver = Driver::found(rng());
    driver.set(0x70, 7);
    assert_eq!(driver.get(0x70), 7 | status::NEEDS_RESET);
    driver.set(0x70, 0);
    driver.start(0);
}

proptest! {
    /// Whatever is written and read, at any width, the registers answer, and a reset recovers.
    #[test]
    fn no_access_is_too_odd(
        accesses in prop::collection::vec((0..0x200_u64, any::<u32>(), 0..9_usize, any::<bool>()), 1..100),
    ) {
        let mut driver = Driver::found(rng());
        for (offset, value, width, is_write) in accesses {
            let mut bytes = u64::from(value).to_le_bytes();
            match is_write {
                true => driver.transport.write(offset, &bytes[..width]),
                false => driver.transport.read(offset, &mut bytes[..width]),
            }
        }
        driver.set(0x70, 0);
        driver.start(0);
        while !driver.is_quiet() {}
        prop_assert_eq!(driver.ask(&[(BUFFERS, 8, WRITE, 0)]), (0, 8));
    }

    /// Whatever is in the rings, the device answers or says that it cannot go on, writes only where it may, and can
    /// be reset.
    #[test]
    fn no_queue_is_too_odd(
        descriptors in prop::collection::vec((0..0x2_0000_u64, 0..5000_u32, 0..8_u16, 0..20_u16), 1..16),
        heads in prop::collection::vec(0..20_u16, 1..16),
        index in any::<u16>(),
    ) {
        let mut driver = Driver::ready(rng(), INDIRECT_DESC);
        for (number, descriptor) in descriptors.iter().enumerate() {
            let at = BUFFERS + descriptor.0;
            driver.write_descriptor(DESC, number as u16, (at, descriptor.1, descriptor.2, descriptor.3));
        }
        let before = driver.bytes(0, 0x3000);
        for (slot, head) in heads.iter().enumerate() {
            driver.put(crate::driver::AVAIL + 4 + slot as u64 * 2, &head.to_le_bytes());
        }
        let count = if index % 4 == 0 { index } else { heads.len() as u16 };
        driver.put(crate::driver::AVAIL + 2, &count.to_le_bytes());
        driver.ring();
        // The reset waits for what is under way.
        driver.set(0x70, 0);
        let after = driver.bytes(0, 0x2000);
        prop_assert_eq!(&after[..], &before[..0x2000]);
        driver.start(0);
        while !driver.is_quiet() {}
        prop_assert_eq!(driver.ask(&[(BUFFERS, 8, WRITE, 0)]), (0, 8));
    }
}
