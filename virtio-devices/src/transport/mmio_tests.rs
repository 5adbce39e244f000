use proptest::prelude::*;
use virtio_bindings::virtio_mmio::*;

use super::*;
use crate::driver::{Driver, Rings, WRITE};
use crate::echo::Echo;

const ALL: u64 = feature::QUEUE;

fn driver() -> Driver {
    Driver::new(Echo::new().0)
}

/// One request of the echo, end to end.
fn assert_echoes(driver: &mut Driver, queue: usize) {
    let before = driver.rings[queue].used_index(&driver.memory);
    driver.put(0x10_0000, b"hello");
    driver.put(0x10_1000, &[0; 8]);
    driver.submit(queue, &[(0x10_0000, 5, 0), (0x10_1000, 8, WRITE)]);
    driver.wait_used(queue, before.wrapping_add(1));
    assert_eq!(driver.get(0x10_1000, 8), b"hello\0\0\0");
    assert_eq!(driver.rings[queue].used(&driver.memory, before), (0, 5));
}

#[test]
fn a_driver_finds_negotiates_and_uses_a_device() {
    let mut driver = driver();
    assert_eq!(driver.read(VIRTIO_MMIO_MAGIC_VALUE).to_le_bytes(), *b"virt");
    assert_eq!(driver.read(VIRTIO_MMIO_VERSION), 2);
    assert_eq!(driver.read(VIRTIO_MMIO_DEVICE_ID), 42);
    assert_eq!(driver.offered(), ALL | 0b101);
    driver.start(ALL | 0b100);
    assert_echoes(&mut driver, 0);
    assert_eq!(driver.interrupted(), VIRTIO_MMIO_INT_VRING);
    assert_echoes(&mut driver, 1);
}

#[test]
fn queues_have_maximum_sizes_and_there_are_no_others() {
    let mut driver = driver();
    for (queue, max) in [(0, 16), (1, 8), (2, 0), (u32::MAX, 0)] {
        driver.write(VIRTIO_MMIO_QUEUE_SEL, queue);
        assert_eq!(driver.read(VIRTIO_MMIO_QUEUE_NUM_MAX), max);
        assert_eq!(driver.read(VIRTIO_MMIO_QUEUE_READY), 0);
    }
    driver.negotiate(ALL);
    let rings = Rings::at(2, 8);
    driver.place(2, rings);
    assert_eq!(driver.set_ready(2, 1), 0);
    assert_eq!(driver.set_ready(usize::MAX, 1), 0);
}

#[test]
fn there_is_no_shared_memory() {
    let mut driver = driver();
    for id in [0, 1, u32::MAX] {
        driver.write(VIRTIO_MMIO_SHM_SEL, id);
        for register in [VIRTIO_MMIO_SHM_LEN_LOW, VIRTIO_MMIO_SHM_LEN_HIGH] {
            assert_eq!(driver.read(register), u32::MAX);
        }
    }
}

#[test]
fn every_width_and_alignment_is_defined() {
    let mut driver = driver();
    for width in [0, 1, 2, 3, 4, 5, 8, 16] {
        for offset in (0..CONFIG).chain([CONFIG - 1, CONFIG + 7, MMIO_SIZE, u64::MAX]) {
            let mut bytes = vec![0xaa; width];
            driver.transport.read(offset, &mut bytes);
            if offset < CONFIG && (width != 4 || offset % 4 != 0) {
                assert!(bytes.iter().all(|byte| *byte == 0), "{offset:#x}, {width}");
            }
        }
    }
    // A write of another width changes nothing, even where the status is.
    driver.set_status(1);
    for (offset, bytes) in [
        (0x70, &[3u8] as &[u8]),
        (0x70, &[3, 0]),
        (0x70, &[3, 0, 0, 0, 0, 0, 0, 0]),
        (0x71, &[3, 0, 0, 0]),
        (0x6f, &[0, 3, 0, 0]),
        (0x70, &[]),
    ] {
        driver.transport.write(offset, bytes);
        assert_eq!(driver.status(), 1);
    }
}

#[test]
fn configuration_space_takes_any_width_and_ends_in_zeros() {
    let mut driver = driver();
    let mut bytes = [0xaa; 8];
    driver.transport.read(CONFIG + 3, &mut bytes);
    assert_eq!(bytes, [4, 5, 6, 0, 0, 0, 0, 0]);
    driver.transport.write(CONFIG + 1, &[9]);
    driver.transport.write(CONFIG + 5, &[7, 7]);
    driver.transport.write(u64::MAX, &[7, 7]);
    driver.transport.read(CONFIG, &mut bytes);
    assert_eq!(bytes, [1, 9, 3, 4, 5, 7, 0, 0]);
}

#[test]
fn steps_are_taken_in_order_alone() {
    let mut driver = driver();
    for (value, status) in [
        (2, 0),
        (4, 0),
        (8, 0),
        (64, 0),
        (1, 1),
        (8, 1),
        (4, 1),
        (3, 3),
        (7, 3),
        (2, 3),
        (0x40, 3),
        (0x83, 0x83),
        (3, 0x83),
        (0, 0),
    ] {
        driver.set_status(value);
        assert_eq!(driver.status(), status, "after {value:#x}");
    }
}

#[test]
fn only_offered_features_with_version_1_are_taken() {
    for features in [0, ALL & !feature::VERSION_1, ALL | 2, ALL | 1 << 63] {
        let mut driver = driver();
        driver.set_status(1);
        driver.set_status(3);
        driver.accept(features);
        driver.set_status(11);
        assert_eq!(driver.status(), 3, "{features:#x}");
        driver.set_status(15);
        assert_eq!(driver.status(), 3, "{features:#x}");
        // The driver may choose again.
        driver.accept(ALL);
        driver.set_status(11);
        assert_eq!(driver.status(), 11);
    }
    let mut driver = driver();
    driver.set_status(3);
    driver.accept(ALL);
    driver.write(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
    driver.write(VIRTIO_MMIO_DRIVER_FEATURES, 0);
    driver.write(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
    assert_eq!(driver.read(VIRTIO_MMIO_DEVICE_FEATURES), 0);
    driver.write(VIRTIO_MMIO_DRIVER_FEATURES, 1);
    driver.set_status(11);
    assert_eq!(driver.status(), 3, "a feature above bit 63");
}

#[test]
fn features_stand_after_features_ok() {
    let mut driver = driver();
    driver.accept(ALL | 2);
    driver.negotiate(ALL & !feature::INDIRECT_DESC);
    driver.accept(ALL | 2);
    assert_eq!(
        driver.transport.driver_features,
        ALL & !feature::INDIRECT_DESC
    );
    let rings = driver.rings[0];
    driver.place(0, rings);
    driver.set_ready(0, 1);
    driver.set_status(15);
    driver.submit(0, &[(0x10_0000, 16, crate::driver::INDIRECT)]);
    assert!(driver.wait_fault().contains("not negotiated"));
}

#[test]
fn queues_are_set_up_between_features_ok_and_driver_ok() {
    let mut driver = driver();
    let rings = driver.rings[0];
    driver.set_status(3);
    driver.accept(ALL);
    driver.place(0, rings);
    assert_eq!(driver.set_ready(0, 1), 0);
    driver.set_status(11);
    assert_eq!(
        driver.transport.queues[0].size, 0,
        "the writes were ignored"
    );
    driver.place(0, rings);
    assert_eq!(driver.set_ready(0, 1), 1);
    driver.set_status(15);
    let rings = driver.rings[1];
    driver.place(1, rings);
    assert_eq!(driver.set_ready(1, 1), 0);
    assert_echoes(&mut driver, 0);
}

#[test]
fn the_registers_of_a_ready_queue_stand() {
    let mut driver = driver();
    driver.negotiate(ALL);
    let rings = driver.rings[0];
    driver.place(0, rings);
    assert_eq!(driver.set_ready(0, 1), 1);
    driver.place(
        0,
        Rings {
            size: 2,
            ..Rings::at(3, 2)
        },
    );
    driver.set_status(15);
    driver.place(
        0,
        Rings {
            size: 2,
            ..Rings::at(3, 2)
        },
    );
    assert_echoes(&mut driver, 0);
}

#[test]
fn bad_rings_are_refused_and_a_driver_that_goes_on_must_reset() {
    let end = crate::driver::MEMORY as u64;
    let good = Rings::at(0, 16);
    let bad = |change: fn(&mut Rings, u64)| {
        let mut rings = good;
        change(&mut rings, end);
        rings
    };
    for rings in [
        bad(|r, _| r.size = 0),
        bad(|r, _| r.size = 3),
        bad(|r, _| r.size = 32),
        bad(|r, _| r.descriptors += 8),
        bad(|r, _| r.available += 1),
        bad(|r, _| r.used += 2),
        bad(|r, end| r.descriptors = end),
        bad(|r, end| r.descriptors = end - 128),
        bad(|r, end| r.available = end - 4),
        bad(|r, end| r.used = end - 4),
        bad(|r, _| r.used = u64::MAX - 3),
        bad(|r, _| r.descriptors = u64::MAX - 15),
        bad(|r, _| r.available = r.descriptors),
        bad(|r, _| r.used = r.descriptors + 252),
        bad(|r, _| r.used = r.available + 36),
        bad(|r, _| r.available = 0),
    ] {
        let mut driver = driver();
        driver.negotiate(ALL);
        driver.place(0, rings);
        assert_eq!(driver.set_ready(0, 1), 0);
        driver.place(0, good);
        driver.set_status(15);
        assert!(driver.wait_fault().starts_with("queue 0 has "));
        assert_eq!(driver.status(), 15 | 64);
        assert_eq!(driver.interrupted(), VIRTIO_MMIO_INT_CONFIG);
        driver.start(ALL);
        assert_echoes(&mut driver, 0);
    }
    // What lies as close as it may is taken.
    let mut driver = driver();
    driver.negotiate(ALL);
    for close in [
        bad(|r, end| r.descriptors = end - 256),
        bad(|r, _| r.used = r.descriptors + 256),
        bad(|r, _| r.used = r.available + 40),
    ] {
        driver.place(0, close);
        assert_eq!(driver.set_ready(0, 1), 1);
        assert_eq!(driver.set_ready(0, 0), 0);
    }
}

#[test]
fn a_queue_size_above_16_bits_is_not_cut() {
    let mut driver = driver();
    driver.negotiate(ALL);
    let rings = driver.rings[0];
    driver.place(0, rings);
    driver.write(VIRTIO_MMIO_QUEUE_NUM, 0x1_0010);
    assert_eq!(driver.set_ready(0, 1), 0);
}

#[test]
fn a_queue_that_was_left_out_is_never_used() {
    let mut driver = driver();
    driver.negotiate(ALL);
    let rings = driver.rings[1];
    driver.place(1, rings);
    driver.set_ready(1, 1);
    driver.set_status(15);
    driver.submit(0, &[(0x10_0000, 5, 0)]);
    assert_echoes(&mut driver, 1);
    assert_eq!(driver.rings[0].used_index(&driver.memory), 0);
}

#[test]
fn the_device_is_done_with_a_queue_when_ready_is_0() {
    let mut driver = driver();
    driver.start(ALL);
    assert_echoes(&mut driver, 0);
    assert_eq!(driver.set_ready(0, 0), 0);
    driver.submit(0, &[(0x10_0000, 5, 0)]);
    assert_echoes(&mut driver, 1);
    assert_eq!(driver.rings[0].used_index(&driver.memory), 1);
}

#[test]
fn a_doorbell_before_driver_ok_is_ignored_and_one_of_no_queue_always() {
    let (echo, seen) = Echo::new();
    let mut driver = Driver::new(echo);
    driver.negotiate(ALL);
    driver.kick(0);
    assert!(driver.transport.doorbells[0].read().is_err(), "not rung");
    driver.start(ALL);
    for queue in [2, 0x1_0000, u32::MAX] {
        driver.kick(queue);
    }
    assert_echoes(&mut driver, 0);
    assert_eq!(seen.made.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn the_eventfd_of_a_doorbell_does_what_the_register_does() {
    let mut driver = driver();
    driver.start(ALL);
    driver.put(0x10_0000, b"hello");
    driver.lay_out(0, 0, &[(0x10_0000, 5, 0), (0x10_1000, 5, WRITE)]);
    driver.rings[0].offer(&driver.memory, 0);
    driver.transport.doorbells()[0].write(1).expect("rings");
    driver.wait_used(0, 1);
    assert_eq!(driver.get(0x10_1000, 5), b"hello");
}

#[test]
fn interrupt_causes_stay_until_acknowledged() {
    let mut driver = driver();
    driver.start(ALL);
    driver.transport.shared.used();
    driver.transport.shared.config_changed();
    assert_eq!(driver.read(VIRTIO_MMIO_INTERRUPT_STATUS), 3);
    driver.write(VIRTIO_MMIO_INTERRUPT_ACK, 1);
    assert_eq!(driver.read(VIRTIO_MMIO_INTERRUPT_STATUS), 2);
    driver.write(VIRTIO_MMIO_INTERRUPT_ACK, u32::MAX);
    assert_eq!(driver.read(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

#[test]
fn the_generation_follows_the_configuration_and_only_a_running_driver_is_told() {
    let mut driver = driver();
    let before = driver.read(VIRTIO_MMIO_CONFIG_GENERATION);
    driver.transport.shared.config_changed();
    assert_eq!(driver.read(VIRTIO_MMIO_CONFIG_GENERATION), before + 1);
    assert_eq!(driver.read(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    driver.start(ALL);
    driver.transport.shared.config_changed();
    assert_eq!(driver.interrupted(), VIRTIO_MMIO_INT_CONFIG);
}

#[test]
fn a_device_that_the_host_refuses_asks_for_a_reset() {
    let (mut echo, _) = Echo::new();
    echo.refuses = true;
    let mut driver = Driver::new(echo);
    driver.start(ALL);
    assert!(driver.wait_fault().contains("a test's wish"));
}

#[test]
fn a_reset_at_any_point_recovers() {
    for step in 0..8 {
        let (echo, seen) = Echo::new();
        let mut driver = Driver::new(echo);
        for done in 0..step {
            match done {
                0 => driver.set_status(1),
                1 => driver.set_status(3),
                2 => driver.accept(ALL),
                3 => driver.set_status(11),
                4 => {
                    let rings = driver.rings[0];
                    driver.place(0, rings);
                    driver.set_ready(0, 1);
                }
                5 => driver.set_status(15),
                _ => driver.submit(0, &[(0x10_0000, 5, 0), (0x10_1000, 5, WRITE)]),
            }
        }
        driver.set_status(0);
        assert_eq!(driver.status(), 0);
        assert_eq!(driver.read(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
        assert_eq!(driver.set_ready(0, 1), 0);
        let count = |counter: &std::sync::atomic::AtomicUsize| {
            counter.load(std::sync::atomic::Ordering::SeqCst)
        };
        assert_eq!(count(&seen.made), count(&seen.dropped));
        driver.start(ALL);
        assert_echoes(&mut driver, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Any accesses at all: no panic, no hang, and a reset after them recovers.
    #[test]
    fn any_accesses_leave_a_device_that_a_reset_recovers(
        accesses in prop::collection::vec(
            (0..0x110u64, prop_oneof![Just(4usize), 0..9usize], any::<u64>(), any::<bool>(), 0..4u8), 0..200)
    ) {
        let mut driver = driver();
        for (offset, width, value, is_write, kind) in accesses {
            // Most accesses are plausible: aligned, and with small values.
            let offset = if kind == 0 { offset } else { offset & !3 };
            let value = if kind < 2 { value } else { value & 0xf };
            let mut bytes = value.to_le_bytes();
            if is_write {
                driver.transport.write(offset, &bytes[..width]);
            } else {
                driver.transport.read(offset, &mut bytes[..width]);
            }
        }
        driver.start(ALL);
        assert_echoes(&mut driver, 0);
    }
}
