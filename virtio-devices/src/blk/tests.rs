//! A driver's half, by hand, against the device and real files, without KVM.

use std::io::Write as _;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::*;
use crate::device::feature;
use crate::driver::{Driver, INDIRECT, WRITE, describe_at};

pub const KINDS: [EngineKind; 3] = [EngineKind::Sync, EngineKind::Threads, EngineKind::IoUring];
pub const SECTORS: u64 = 2048;
/// Where a test's header, status and data are.
const HEADER: u64 = 0x10_0000;
const STATUS: u64 = 0x10_0100;
pub const DATA: u64 = 0x11_0000;
const TABLE: u64 = 0x10_1000;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// A disk whose sectors all differ.
pub fn image() -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    let bytes: Vec<u8> = (0..SECTORS * SECTOR / 8)
        .flat_map(|i| (i | 1 << 63).to_le_bytes())
        .collect();
    file.write_all(&bytes).expect("room");
    file
}

pub fn open(file: &NamedTempFile, engine: EngineKind) -> FileDisk {
    let options = DiskOptions {
        engine,
        ..DiskOptions::default()
    };
    FileDisk::open(file.path(), options).expect("opens")
}

/// A driver that has accepted everything.
pub fn started(disk: FileDisk) -> Driver {
    let mut driver = Driver::new(Box::new(Block::new(Box::new(disk), "a name", 1)));
    let features = driver.offered();
    driver.start(features);
    driver
}

/// A driver of a fresh disk for each engine.
fn each(mut test: impl FnMut(&mut Driver, &NamedTempFile)) {
    for kind in KINDS {
        let file = image();
        test(&mut started(open(&file, kind)), &file);
    }
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend([0; 4]);
    bytes.extend(sector.to_le_bytes());
    bytes
}

/// Submit a chain, wait, and return the status and the used length.
fn submit(driver: &mut Driver, chain: &[(u64, u32, u16)], status_at: u64) -> (u8, u32) {
    driver.put(status_at, &[0xff]);
    let before = driver.rings[0].used_index(&driver.memory);
    driver.submit(0, chain);
    driver.wait_used(0, before.wrapping_add(1));
    let (head, written) = driver.rings[0].used(&driver.memory, before);
    assert_eq!(head, 0);
    (driver.get(status_at, 1)[0], written)
}

/// The plain layout: header, data, status.
fn ask(driver: &mut Driver, kind: u32, sector: u64, data: &[(u64, u32, u16)]) -> (u8, u32) {
    driver.put(HEADER, &header(kind, sector));
    let mut chain = vec![(HEADER, 16, 0)];
    chain.extend(data);
    chain.push((STATUS, 1, WRITE));
    submit(driver, &chain, STATUS)
}

fn on_disk(file: &NamedTempFile, sector: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    file.as_file()
        .read_exact_at(&mut bytes, sector * SECTOR)
        .expect("inside");
    bytes
}

#[test]
fn the_configuration_tells_capacity_segments_and_blocks() {
    let file = image();
    let driver = started(open(&file, EngineKind::Sync));
    let mut bytes = [0; 64];
    driver.transport.read(0x100, &mut bytes);
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
    assert_eq!(bytes[..8], SECTORS.to_le_bytes());
    assert_eq!((u32_at(12), u32_at(20)), (254, 512));
    assert_eq!((bytes[24], bytes[26]), (3, 8), "4096-byte blocks");
    assert_eq!((u32_at(40), u32_at(52), bytes[56]), (8, 8, 1));
    assert_eq!(bytes[60..], [0; 4]);
}

#[test]
fn each_queue_has_its_own_requests() {
    for kind in KINDS {
        let file = image();
        let disk = Block::new(Box::new(open(&file, kind)), "", 3);
        let mut driver = Driver::new(Box::new(disk));
        let features = driver.offered();
        assert_ne!(features & 1 << 12, 0, "VIRTIO_BLK_F_MQ");
        driver.start(features);
        let mut count = [0; 2];
        driver.transport.read(0x100 + 34, &mut count);
        assert_eq!(u16::from_le_bytes(count), 3);
        // One request in each queue before any is rung for, so that all are in flight.
        for queue in 0..3 {
            let place = 0x1000 * queue as u64;
            driver.put(HEADER + place, &header(IN, 7 + queue as u64));
            driver.put(STATUS + place, &[0xff]);
            let (data, status) = (DATA + place, STATUS + place);
            let chain = [
                (HEADER + place, 16, 0),
                (data, 512, WRITE),
                (status, 1, WRITE),
            ];
            driver.lay_out(queue, 0, &chain);
            driver.rings[queue].offer(&driver.memory, 0);
        }
        for queue in [2, 0, 1] {
            driver.kick(queue);
        }
        for queue in 0..3 {
            driver.wait_used(queue, 1);
            let place = 0x1000 * queue as u64;
            assert_eq!(driver.get(STATUS + place, 1), [0], "queue {queue}");
            let expected = on_disk(&file, 7 + queue as u64, 512);
            assert_eq!(driver.get(DATA + place, 512), expected);
        }
    }
}

/// The time is only a lower bound: a busy machine makes it longer.
#[test]
fn a_limited_disk_takes_its_time_and_loses_nothing() {
    for (kind, limit_bytes) in KINDS.into_iter().zip([true, false, true]) {
        let file = image();
        let disk = Block::new(Box::new(open(&file, kind)), "", 1);
        let mut driver = Driver::new(Box::new(disk));
        let rate = std::num::NonZeroU64::new(if limit_bytes { 40 * 4096 } else { 40 });
        driver.transport.limit(crate::rate::Limits {
            bytes_per_second: rate.filter(|_| limit_bytes),
            operations_per_second: rate.filter(|_| !limit_bytes),
        });
        let features = driver.offered();
        driver.start(features);
        let begin = std::time::Instant::now();
        // All at once: they wait in the queue, and not in the device.
        for request in 0..16u16 {
            let (place, sector) = (0x2000 * u64::from(request), 8 * u64::from(request));
            driver.put(HEADER + 0x100 * u64::from(request), &header(IN, sector));
            let chain = [
                (HEADER + 0x100 * u64::from(request), 16, 0),
                (DATA + place, 4096, WRITE),
                (DATA + place + 4096, 1, WRITE),
            ];
            driver.lay_out(0, 3 * request, &chain);
            driver.rings[0].offer(&driver.memory, 3 * request);
        }
        driver.kick(0);
        driver.wait_used(0, 16);
        // 16 of 40 a second are 400 ms, of which 100 may be saved up, and the last overdraws.
        assert!(begin.elapsed().as_millis() >= 200, "{:?}", begin.elapsed());
        for request in 0..16u64 {
            let expected = on_disk(&file, 8 * request, 4096);
            assert!(driver.get(DATA + 0x2000 * request, 4096) == expected);
        }
        // A reset in the middle of waiting.
        for _ in 0..16 {
            driver.submit(
                0,
                &[(HEADER, 16, 0), (DATA, 4096, WRITE), (STATUS, 1, WRITE)],
            );
        }
        driver.set_status(0);
        assert_eq!(driver.status(), 0);
    }
}

#[test]
fn data_goes_both_ways() {
    each(|driver, file| {
        let data: Vec<u8> = (0..8192).map(|i| (i % 251) as u8).collect();
        driver.put(DATA, &data);
        let pieces = [(DATA, 512, 0), (DATA + 512, 7, 0), (DATA + 519, 7673, 0)];
        assert_eq!(ask(driver, OUT, 5, &pieces), (0, 1));
        assert_eq!(on_disk(file, 5, 8192), data);
        let pieces = [
            (DATA + 0x1_0000, 8000, WRITE),
            (DATA + 0x2_0000, 192, WRITE),
        ];
        assert_eq!(ask(driver, IN, 5, &pieces), (0, 8193));
        assert_eq!(driver.get(DATA + 0x1_0000, 8000), data[..8000]);
        assert_eq!(driver.get(DATA + 0x2_0000, 192), data[8000..]);
        assert_eq!(ask(driver, FLUSH, 0, &[]), (0, 1));
    });
}

#[test]
fn any_layout_of_descriptors_is_a_request() {
    each(|driver, file| {
        let sector = on_disk(file, 9, 512);
        // The header in three pieces; data and status in one.
        driver.put(HEADER, &header(IN, 9));
        let chain = [
            (HEADER, 1, 0),
            (HEADER + 1, 8, 0),
            (HEADER + 9, 7, 0),
            (DATA, 513, WRITE),
        ];
        assert_eq!(submit(driver, &chain, DATA + 512), (0, 513));
        assert_eq!(driver.get(DATA, 512), sector);
        // Header and data in one.
        let mut bytes = header(OUT, 10);
        bytes.extend(&sector);
        driver.put(DATA, &bytes);
        assert_eq!(
            submit(driver, &[(DATA, 528, 0), (STATUS, 1, WRITE)], STATUS),
            (0, 1)
        );
        assert_eq!(on_disk(file, 10, 512), sector);
        // All in an indirect table, with an empty buffer.
        driver.put(HEADER, &header(IN, 10));
        driver.put(DATA, &[0; 512]);
        let table = [(HEADER, 16, 1), (0, 0, 1), (DATA, 512, 3), (STATUS, 1, 2)];
        for (index, (at, len, flags)) in (0..).zip(table) {
            describe_at(&driver.memory, TABLE, index, (at, len, flags, index + 1));
        }
        assert_eq!(submit(driver, &[(TABLE, 64, INDIRECT)], STATUS), (0, 513));
        assert_eq!(driver.get(DATA, 512), sector);
    });
}

#[test]
fn the_disk_has_a_name_cut_to_the_buffer() {
    each(|driver, _| {
        driver.put(DATA, &[0xff; 32]);
        assert_eq!(ask(driver, GET_ID, 0, &[(DATA, 20, WRITE)]), (0, 21));
        assert_eq!(
            driver.get(DATA, 21),
            b"a name\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff"
        );
        driver.put(DATA, &[0xff; 32]);
        assert_eq!(ask(driver, GET_ID, 0, &[(DATA, 3, WRITE)]), (0, 4));
        assert_eq!(driver.get(DATA, 4), b"a n\xff");
    });
}

#[test]
fn what_a_driver_must_not_ask_is_an_error_and_changes_nothing() {
    each(|driver, file| {
        let before = on_disk(file, 0, (SECTORS * SECTOR) as usize);
        let (read, write) = ([(DATA, 512, WRITE)], [(DATA, 512, 0)]);
        driver.put(DATA, &[0x55; 1024]);
        for (kind, sector, data) in [
            (IN, SECTORS, &read[..]),
            (OUT, SECTORS, &write),
            (IN, SECTORS - 1, &[(DATA, 1024, WRITE)]),
            (OUT, SECTORS - 1, &[(DATA, 1024, 0)]),
            (IN, u64::MAX, &read),
            (OUT, u64::MAX / 512 + 1, &write),
            (OUT, 1 << 55, &write),
            (IN, 0, &[(DATA, 511, WRITE)]),
            (OUT, 0, &[(DATA, 513, 0)]),
            (IN, 0, &write),
            (OUT, 0, &read),
        ] {
            assert_eq!(
                ask(driver, kind, sector, data).0,
                1,
                "{kind} {sector:#x} {data:?}"
            );
        }
        for kind in [2, 3, 5, 14, 15, 99, u32::MAX] {
            assert_eq!(ask(driver, kind, 0, &[]), (2, 1), "{kind}");
        }
        driver.put(HEADER, &header(IN, 0));
        let short = [(HEADER, 15, 0), (STATUS, 1, WRITE)];
        assert_eq!(submit(driver, &short, STATUS), (1, 1));
        assert_eq!(on_disk(file, 0, before.len()), before);
        assert_eq!(
            ask(driver, IN, SECTORS - 1, &read),
            (0, 513),
            "and it goes on"
        );
    });
}

#[test]
fn a_request_without_room_for_its_status_needs_a_reset() {
    each(|driver, _| {
        driver.put(HEADER, &header(FLUSH, 0));
        driver.submit(0, &[(HEADER, 16, 0)]);
        assert!(driver.wait_fault().contains("no room for its status"));
        let features = driver.offered();
        driver.start(features);
        assert_eq!(ask(driver, FLUSH, 0, &[]), (0, 1));
    });
}

fn ranges(ranges: &[(u64, u32, u32)]) -> Vec<u8> {
    let bytes = |(sector, count, flags): &(u64, u32, u32)| {
        [
            sector.to_le_bytes().as_slice(),
            &count.to_le_bytes(),
            &flags.to_le_bytes(),
        ]
        .concat()
    };
    ranges.iter().flat_map(bytes).collect()
}

fn ask_ranges(driver: &mut Driver, kind: u32, list: &[(u64, u32, u32)]) -> u8 {
    let bytes = ranges(list);
    driver.put(DATA, &bytes);
    ask(driver, kind, 0, &[(DATA, bytes.len() as u32, 0)]).0
}

#[test]
fn zeroes_are_written_exactly_where_they_were_asked_for() {
    each(|driver, file| {
        let mut expected = on_disk(file, 0, (SECTORS * SECTOR) as usize);
        for (list, kind) in [
            (&[(3, 5, 0), (100, 1, 1), (50, 0, 0)][..], WRITE_ZEROES),
            (&[(SECTORS - 1, 1, 0)], WRITE_ZEROES),
            (&[(200, 64, 1)], WRITE_ZEROES),
        ] {
            assert_eq!(ask_ranges(driver, kind, list), 0);
            for (sector, count, _) in list {
                let start = (sector * SECTOR) as usize;
                expected[start..start + *count as usize * 512].fill(0);
            }
            assert_eq!(on_disk(file, 0, expected.len()), expected);
        }
        assert_eq!(ask_ranges(driver, DISCARD, &[(0, 8, 0), (64, 8, 0)]), 0);
        assert_eq!(
            on_disk(file, 8, 1024),
            expected[8 * 512..10 * 512],
            "only its own"
        );
        assert_eq!(
            file.as_file().metadata().expect("there").len(),
            SECTORS * SECTOR
        );
    });
}

#[test]
fn bad_ranges_are_refused_whole() {
    each(|driver, file| {
        let before = on_disk(file, 0, (SECTORS * SECTOR) as usize);
        let good = (0, 1, 0);
        for (kind, list, status) in [
            (DISCARD, vec![good, (0, 1, 1)], 2),
            (DISCARD, vec![(0, 1, 2)], 2),
            (WRITE_ZEROES, vec![good, (0, 1, 2)], 2),
            (WRITE_ZEROES, vec![good, (SECTORS, 1, 0)], 1),
            (DISCARD, vec![good, (u64::MAX, 1, 0)], 1),
            (WRITE_ZEROES, vec![(0, u32::MAX, 0)], 1),
            (DISCARD, vec![(0, (1 << 22) + 1, 0)], 1),
            (WRITE_ZEROES, vec![good; 9], 1),
            (DISCARD, vec![], 1),
        ] {
            assert_eq!(ask_ranges(driver, kind, &list), status, "{kind} {list:?}");
        }
        driver.put(DATA, &ranges(&[good]));
        assert_eq!(ask(driver, DISCARD, 0, &[(DATA, 15, 0)]).0, 1);
        assert_eq!(on_disk(file, 0, before.len()), before);
    });
}

#[test]
fn features_that_were_not_accepted_do_nothing() {
    for kind in KINDS {
        let file = image();
        let mut driver = Driver::new(Box::new(Block::new(Box::new(open(&file, kind)), "", 1)));
        driver.start(feature::VERSION_1);
        assert_eq!(ask_ranges(&mut driver, DISCARD, &[(0, 1, 0)]), 2);
        assert_eq!(ask_ranges(&mut driver, WRITE_ZEROES, &[(0, 1, 0)]), 2);
        driver.put(DATA, &[7; 512]);
        assert_eq!(
            ask(&mut driver, OUT, 0, &[(DATA, 512, 0)]),
            (0, 1),
            "through to the disk"
        );
        assert_eq!(on_disk(&file, 0, 512), [7; 512]);
    }
}

#[test]
fn a_read_only_disk_refuses_every_write() {
    for kind in KINDS {
        let file = image();
        let options = DiskOptions {
            is_read_only: true,
            engine: kind,
            ..DiskOptions::default()
        };
        let disk = FileDisk::open(file.path(), options).expect("opens");
        let mut driver = started(disk);
        let offered = driver.offered();
        assert_eq!((offered >> 5 & 1, offered >> 13 & 3), (1, 0));
        assert_eq!(ask(&mut driver, OUT, 0, &[(DATA, 512, 0)]).0, 1);
        assert_eq!(ask_ranges(&mut driver, WRITE_ZEROES, &[(0, 1, 0)]), 2);
        assert_eq!(ask(&mut driver, IN, 3, &[(DATA, 512, WRITE)]).0, 0);
        assert_eq!(driver.get(DATA, 512), on_disk(&file, 3, 512));
    }
}

#[test]
fn a_file_that_became_shorter_gives_errors_and_the_device_goes_on() {
    each(|driver, file| {
        file.as_file().set_len(10 * SECTOR).expect("shorter");
        assert_eq!(ask(driver, IN, 9, &[(DATA, 1024, WRITE)]), (1, 0));
        assert_eq!(ask(driver, IN, 1000, &[(DATA, 512, WRITE)]), (1, 0));
        assert_eq!(ask(driver, IN, 9, &[(DATA, 512, WRITE)]), (0, 513));
    });
}

#[test]
fn a_full_queue_of_requests_is_served_and_a_reset_waits_for_it() {
    each(|driver, file| {
        for round in 0..4u64 {
            let before = driver.rings[0].used_index(&driver.memory);
            // 85 writes of three descriptors each, 4 KiB apart, all at once.
            for request in 0..85u64 {
                let at = DATA + request * 0x1000;
                let (head, body) = (3 * request as u16, [round as u8 + 1; 512]);
                driver.put(at, &header(OUT, request * 3 + round));
                driver.put(at + 16, &body);
                let chain = [(at, 16, 0), (at + 16, 512, 0), (at + 600, 1, WRITE)];
                driver.lay_out(0, head, &chain);
                driver.rings[0].offer(&driver.memory, head);
            }
            driver.kick(0);
            if round == 3 {
                driver.set_status(0);
                let used = driver.rings[0].used_index(&driver.memory);
                std::thread::sleep(std::time::Duration::from_millis(50));
                assert_eq!(
                    driver.rings[0].used_index(&driver.memory),
                    used,
                    "after a reset"
                );
                break;
            }
            driver.wait_used(0, before.wrapping_add(85));
            for request in 0..85 {
                assert_eq!(
                    on_disk(file, request * 3 + round, 512),
                    [round as u8 + 1; 512]
                );
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Reads and writes of any size, from any address, by every engine, past the cache or not.
    #[test]
    fn the_disk_holds_what_was_written(
        direct: bool,
        steps in prop::collection::vec(
            (any::<bool>(), 0..SECTORS - 64, 1..64u64, 0..5000u64, any::<u8>()), 1..12),
    ) {
        for kind in KINDS {
            let file = image();
            let mut model = on_disk(&file, 0, (SECTORS * SECTOR) as usize);
            let options = DiskOptions { is_direct: direct, engine: kind, ..DiskOptions::default() };
            let disk = FileDisk::open(file.path(), options).expect("opens");
            let mut driver = started(disk);
            for (is_write, sector, count, shift, fill) in &steps {
                // Some are aligned for direct I/O.
                let (sector, shift) = match fill % 2 {
                    0 => (sector & !7, shift & !0xfff),
                    _ => (*sector, *shift),
                };
                let (at, len) = (DATA + shift, (count * SECTOR) as usize);
                let place = (sector * SECTOR) as usize..(sector * SECTOR) as usize + len;
                if *is_write {
                    let bytes: Vec<u8> = (0..len).map(|i| fill.wrapping_add((i / 3) as u8)).collect();
                    driver.put(at, &bytes);
                    prop_assert_eq!(ask(&mut driver, OUT, sector, &[(at, len as u32, 0)]).0, 0);
                    model[place].copy_from_slice(&bytes);
                } else {
                    prop_assert_eq!(ask(&mut driver, IN, sector, &[(at, len as u32, WRITE)]).0, 0);
                    prop_assert_eq!(&driver.get(at, len), &model[place]);
                }
            }
            prop_assert_eq!(ask(&mut driver, FLUSH, 0, &[]).0, 0);
            prop_assert_eq!(on_disk(&file, 0, model.len()), model);
        }
    }
}
