//! The disk, driven by hand, over files.

use std::io::Write;
use std::path::Path;

use tempfile::NamedTempFile;

use super::*;
use crate::driver::{BUFFERS, Driver, NEXT, WRITE};

const SECTORS: u64 = 64;
const HEADER: u64 = BUFFERS;
const DATA: u64 = BUFFERS + 0x1000;
const STATUS: u64 = BUFFERS + 0x800;

fn image() -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = (0..SECTORS * SECTOR)
        .map(|at| (at / SECTOR * 7 + at) as u8)
        .collect();
    file.write_all(&bytes).unwrap();
    file
}

fn disk(file: &NamedTempFile, read_only: bool) -> Driver {
    let raw = RawFile::open(file.path(), read_only, false).unwrap();
    let disk = Blk::new(Box::new(raw));
    let features = disk.features();
    Driver::ready(disk, features & !EVENT_IDX)
}

/// One request with payload in one buffer; its status.
fn ask(driver: &mut Driver, kind: u32, sector: u64, len: u32, is_write: bool) -> (u8, u32) {
    header(driver, kind, sector);
    driver.put(STATUS, &[0xee]);
    let data = if is_write { NEXT } else { NEXT | WRITE };
    let (_, written) = match len {
        0 => driver.ask(&[(HEADER, 16, NEXT, 1), (STATUS, 1, WRITE, 0)]),
        _ => driver.ask(&[
            (HEADER, 16, NEXT, 1),
            (DATA, len, data, 2),
            (STATUS, 1, WRITE, 0),
        ]),
    };
    (driver.bytes(STATUS, 1)[0], written)
}

fn header(driver: &Driver, kind: u32, sector: u64) {
    driver.put(HEADER, &kind.to_le_bytes());
    driver.put(HEADER + 8, &sector.to_le_bytes());
}

fn contents(file: &NamedTempFile) -> Vec<u8> {
    std::fs::read(file.path()).unwrap()
}

#[test]
fn a_driver_reads_its_configuration_at_any_width() {
    let driver = disk(&image(), false);
    assert_eq!(u64::from(driver.get(0x100)), SECTORS);
    assert_eq!(
        (driver.get(0x100 + 12), driver.get(0x100 + 20)),
        (SEG_MAX, 512)
    );
    let mut bytes = [0xff; 8];
    driver.transport.read(0x100, &mut bytes);
    assert_eq!(u64::from_le_bytes(bytes), SECTORS);
    driver.transport.read(0x100 + 58, &mut bytes);
    assert_eq!(bytes, [0; 8], "beyond its end it is zeros");
    driver.transport.read(u64::MAX, &mut bytes);
}

#[test]
fn sectors_are_read_written_and_flushed() {
    let file = image();
    let mut driver = disk(&file, false);
    let before = contents(&file);
    assert_eq!(ask(&mut driver, 0, 3, 1024, false), (0, 1025));
    assert_eq!(driver.bytes(DATA, 1024), before[3 * 512..5 * 512]);
    driver.put(DATA, &[0x5a; 1024]);
    assert_eq!(ask(&mut driver, 1, 9, 1024, true), (0, 1));
    assert_eq!(ask(&mut driver, 4, 0, 0, false), (0, 1));
    let after = contents(&file);
    assert_eq!(after[9 * 512..11 * 512], [0x5a; 1024]);
    assert_eq!(
        (&after[..9 * 512], &after[11 * 512..]),
        (&before[..9 * 512], &before[11 * 512..])
    );
}

#[test]
fn a_request_may_be_laid_out_in_any_way() {
    let file = image();
    let mut driver = disk(&file, false);
    header(&driver, 0, 1);
    // The header in three pieces, and the status behind payload in one buffer (2.7.4).
    let used = driver.ask(&[
        (HEADER, 4, NEXT, 1),
        (HEADER + 4, 8, NEXT, 2),
        (HEADER + 12, 4, NEXT, 3),
        (DATA, 100, NEXT | WRITE, 4),
        (DATA + 0x800, 413, WRITE, 0),
    ]);
    assert_eq!(used, (0, 513));
    let mut read = driver.bytes(DATA, 100);
    read.extend(driver.bytes(DATA + 0x800, 412));
    assert_eq!(read, contents(&file)[512..1024]);
    assert_eq!(driver.bytes(DATA + 0x800 + 412, 1), [0]);
}

#[test]
fn ranges_become_zeros() {
    let file = image();
    let mut driver = disk(&file, false);
    for (kind, sector, count, flags, status) in [
        (13, 4_u64, 2_u32, 0_u32, 0),
        (13, 8, 1, 1, 0),
        (11, 16, 8, 0, 0),
        (11, 16, 8, 1, 2),
        (13, 0, 1, 2, 2),
        (13, SECTORS, 1, 0, 1),
        (13, 0, ZEROES_MAX + 1, 0, 1),
        (13, u64::MAX, 1, 0, 1),
    ] {
        driver.put(DATA, &sector.to_le_bytes());
        driver.put(DATA + 8, &count.to_le_bytes());
        driver.put(DATA + 12, &flags.to_le_bytes());
        assert_eq!(
            ask(&mut driver, kind, 0, 16, true).0,
            status,
            "{kind} {sector} {count} {flags}"
        );
    }
    let after = contents(&file);
    for (range, is_zero) in [
        (4..6, true),
        (8..9, true),
        (16..24, true),
        (6..8, false),
        (24..25, false),
    ] {
        let bytes = &after[range.start * 512..range.end * 512];
        assert_eq!(bytes.iter().all(|byte| *byte == 0), is_zero, "{range:?}");
    }
    assert_eq!(after.len() as u64, SECTORS * SECTOR);
}

#[test]
fn what_cannot_be_done_is_said_and_changes_nothing() {
    let file = image();
    let before = contents(&file);
    let mut driver = disk(&file, false);
    for (kind, sector, len, is_write, status) in [
        (0, SECTORS, 512, false, 1),
        (0, SECTORS - 1, 1024, false, 1),
        (0, u64::MAX, 512, false, 1),
        (0, 0, 100, false, 1), // no whole sector
        (1, SECTORS, 512, true, 1),
        (99, 0, 512, false, 2),
        (8, 0, 19, false, 1), // GET ID needs 20 bytes
    ] {
        let answer = ask(&mut driver, kind, sector, len, is_write);
        assert_eq!(answer, (status, 1), "{kind} {sector} {len}");
    }
    assert_eq!(ask(&mut driver, 8, 0, 20, false), (0, 21));
    let name = file
        .path()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    assert!(String::from_utf8_lossy(&driver.bytes(DATA, 20)).starts_with(&name));
    drop(driver);
    let mut driver = disk(&file, true);
    for kind in [1, 11, 13] {
        assert_eq!(ask(&mut driver, kind, 0, 512, true), (1, 1));
    }
    assert_eq!(contents(&file), before);
}

#[test]
fn a_request_that_cannot_be_answered_stops_the_disk() {
    let file = image();
    for chain in [
        [(HEADER, 15, NEXT, 1), (STATUS, 1, WRITE, 0)].as_slice(),
        &[(HEADER, 16, 0, 0)],
        &[(STATUS, 1, WRITE, 0)],
    ] {
        disk(&file, false).break_it(chain);
    }
}

#[test]
fn an_image_that_was_cut_gives_errors_and_keeps_its_size() {
    let file = image();
    let mut driver = disk(&file, true);
    file.as_file().set_len(8 * SECTOR).unwrap();
    assert_eq!(ask(&mut driver, 0, 7, 512, false).0, 0);
    assert_eq!(ask(&mut driver, 0, 8, 512, false).0, 1);
}

#[test]
fn a_file_that_is_in_use_or_no_disk_is_refused_with_the_mend() {
    let file = image();
    let open = |read_only| RawFile::open(file.path(), read_only, false);
    let writer = open(false).unwrap();
    for read_only in [false, true] {
        let error = open(read_only).unwrap_err().to_string();
        assert!(error.contains("in use by another process"), "{error}");
    }
    drop(writer);
    let readers = [open(true).unwrap(), open(true).unwrap()];
    assert!(matches!(open(false), Err(OpenError::Locked { .. })));
    drop(readers);
    let short = NamedTempFile::new().unwrap();
    for len in [0, 100, 513] {
        short.as_file().set_len(len).unwrap();
        let error = RawFile::open(short.path(), false, false).unwrap_err();
        assert!(
            error.to_string().contains(&format!("has {len} bytes")),
            "{error}"
        );
    }
    let missing = RawFile::open(Path::new("/nonexistent.img"), false, false).unwrap_err();
    assert!(missing.to_string().contains("truncate -s"), "{missing}");
    for kind in ["/dev/null", "/"] {
        let error = RawFile::open(Path::new(kind), true, false).unwrap_err();
        assert!(matches!(error, OpenError::Kind { .. }), "{error}");
    }
}
