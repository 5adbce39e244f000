//! Images, through the device and its queue, and through the crate that reads them.

use std::fs;
use std::path::{Path, PathBuf};

use imago::qcow2::Qcow2;
use imago::{
    DenyImplicitOpenGate, FormatAccess, FormatCreateBuilder, FormatDriverBuilder,
    StorageCreateOptions, StorageOpenOptions,
};
use tempfile::TempDir;

use super::tests::{DATA, SECTORS, image, started};
use super::*;
use crate::driver::{Driver, WRITE};

type File = imago::file::File;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// An empty image of the usual size, above a file that its header names.
fn create(path: &Path, base: Option<(&Path, &str)>) {
    use imago::storage::Storage;
    let file = File::create_open(StorageCreateOptions::new().filename(path)).expect("a file");
    let builder = Qcow2::<File>::create_builder(file).size(SECTORS * SECTOR);
    let builder = match base {
        Some((base, format)) => builder.backing(base.display().to_string(), format.to_owned()),
        None => builder,
    };
    builder.create().expect("an image");
}

fn opened(path: &Path, backing: &[PathBuf]) -> Result<ImageDisk, DiskError> {
    ImageDisk::open(path, backing, DiskOptions::default())
}

fn driver(disk: ImageDisk) -> Driver {
    let mut driver = Driver::new(Box::new(Block::new(Box::new(disk), "", 1)));
    let features = driver.offered();
    driver.start(features);
    driver
}

const HEADER: u64 = 0x10_0000;
const STATUS: u64 = 0x10_0100;

/// One request; returns its status.
fn ask(driver: &mut Driver, kind: u32, sector: u64, data: &[(u64, u32, u16)]) -> u8 {
    let mut header = kind.to_le_bytes().to_vec();
    header.extend([0; 4]);
    header.extend(sector.to_le_bytes());
    driver.put(HEADER, &header);
    let mut chain = vec![(HEADER, 16, 0)];
    chain.extend(data);
    chain.push((STATUS, 1, WRITE));
    let before = driver.rings[0].used_index(&driver.memory);
    driver.submit(0, &chain);
    driver.wait_used(0, before.wrapping_add(1));
    driver.get(STATUS, 1)[0]
}

fn write(driver: &mut Driver, sector: u64, bytes: &[u8]) {
    driver.put(DATA, bytes);
    assert_eq!(ask(driver, 1, sector, &[(DATA, bytes.len() as u32, 0)]), 0);
}

fn read(driver: &mut Driver, sector: u64, len: u32) -> Vec<u8> {
    driver.put(DATA, &vec![0xee; len as usize]);
    // In two pieces that do not end at a sector.
    let pieces = [(DATA, 100, WRITE), (DATA + 100, len - 100, WRITE)];
    assert_eq!(ask(driver, 0, sector, &pieces), 0);
    driver.get(DATA, len as usize)
}

/// What an image holds, by the crate alone.
fn content(path: &Path, sector: u64, len: usize) -> Vec<u8> {
    use imago::storage::Storage;
    let file = File::open(StorageOpenOptions::new().filename(path)).expect("it is there");
    let image = Qcow2::<File>::builder(file).open(DenyImplicitOpenGate::default());
    let access = FormatAccess::new(image.expect("an image"));
    let mut bytes = vec![0; len];
    access
        .read(&mut bytes[..], sector * SECTOR)
        .expect("inside");
    bytes
}

#[test]
fn an_image_keeps_what_a_driver_writes() {
    let folder = folder();
    let path = folder.path().join("a.qcow2");
    create(&path, None);
    let mut device = driver(opened(&path, &[]).expect("opens"));
    let mut capacity = [0; 8];
    device.transport.read(0x100, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), SECTORS);
    let bytes: Vec<u8> = (0..8192u32).map(|at| (at % 251) as u8).collect();
    write(&mut device, 5, &bytes);
    assert_eq!(read(&mut device, 5, 8192), bytes);
    assert_eq!(read(&mut device, 1000, 512), [0; 512], "never written");
    assert_eq!(ask(&mut device, 4, 0, &[]), 0, "flush");
    assert_eq!(content(&path, 5, 8192), bytes, "while it is open still");
    // Discard, then zeros that may be given back, of the first sectors.
    for kind in [11u32, 13] {
        write(&mut device, 0, &[7; 512]);
        let mut range = 0u64.to_le_bytes().to_vec();
        range.extend(8u32.to_le_bytes());
        range.extend(u32::from(kind == 13).to_le_bytes());
        driver_put_and_ask(&mut device, kind, &range);
        if kind == 13 {
            assert_eq!(read(&mut device, 0, 512), [0; 512]);
        }
    }
    assert_eq!(
        read(&mut device, 8, 512),
        bytes[3 * 512..4 * 512],
        "beside it"
    );
    drop(device);
    assert!(
        fs::metadata(&path).expect("it is there").len() < SECTORS * SECTOR,
        "it is sparse"
    );
    let mut again = driver(opened(&path, &[]).expect("opens"));
    assert_eq!(read(&mut again, 8, 5 * 512), bytes[3 * 512..8 * 512]);
}

fn driver_put_and_ask(device: &mut Driver, kind: u32, range: &[u8]) {
    device.put(DATA, range);
    assert_eq!(ask(device, kind, 0, &[(DATA, 16, 0)]), 0, "kind {kind}");
}

#[test]
fn a_snapshot_leaves_its_base_alone() {
    let base = image();
    let before = fs::read(base.path()).expect("a file");
    let options = DiskOptions::default();
    let disk = ImageDisk::snapshot(base.path(), Format::Auto, &[], options).expect("a layer");
    // The base is shared with readers, not with writers.
    let writer = FileDisk::open(base.path(), options);
    assert!(writer.is_err_and(|error| error.to_string().contains("in use")));
    let mut device = driver(disk);
    write(&mut device, 3, &[9; 1024]);
    assert_eq!(ask(&mut device, 4, 0, &[]), 0, "flush");
    let read = read(&mut device, 2, 4 * 512);
    assert_eq!(read[512..3 * 512], [9; 1024]);
    assert_eq!(read[..512], before[2 * 512..3 * 512]);
    assert_eq!(read[3 * 512..], before[5 * 512..6 * 512]);
    drop(device);
    assert!(fs::read(base.path()).expect("a file") == before);
    drop(started(
        FileDisk::open(base.path(), options).expect("it is free"),
    ));
}

#[test]
fn a_file_that_an_image_is_based_on_must_be_named() {
    let folder = folder();
    let base = image();
    let (middle, top) = (folder.path().join("m.qcow2"), folder.path().join("t.qcow2"));
    create(&middle, Some((base.path(), "raw")));
    create(&top, Some((&middle, "qcow2")));
    let refused = |backing: &[PathBuf]| match opened(&top, backing) {
        Ok(_) => panic!("{backing:?} were taken"),
        Err(error) => error.to_string(),
    };
    assert!(refused(&[]).contains("m.qcow2: name that file by backing="));
    assert!(refused(std::slice::from_ref(&middle)).contains("name that file by backing="));
    let (middle, base_path) = (middle.clone(), base.path().to_owned());
    let extra = [middle.clone(), base_path.clone(), base_path.clone()];
    assert!(refused(&extra).contains("based on no other file"));
    let mut device = driver(opened(&top, &[middle, base_path]).expect("all are named"));
    let before = fs::read(base.path()).expect("a file");
    assert_eq!(read(&mut device, 7, 1024), before[7 * 512..9 * 512]);
    write(&mut device, 7, &[1; 512]);
    assert_eq!(read(&mut device, 7, 512), [1; 512]);
    drop(device);
    assert!(fs::read(base.path()).expect("a file") == before);
}

#[test]
fn a_raw_disk_that_looks_like_an_image_is_asked_about() {
    let folder = folder();
    let path = folder.path().join("disk.img");
    create(&path, None);
    let refused = |format: Format| format.of(&path).map_err(|error| error.to_string());
    assert!(
        refused(Format::Auto).is_err_and(|error| error.contains("say format=qcow2 or format=raw"))
    );
    assert_eq!(refused(Format::Raw), Ok(Format::Raw));
    assert_eq!(
        Format::Auto.of(Path::new("a.qcow2")).ok(),
        Some(Format::Qcow2)
    );
    assert_eq!(
        Format::Auto.of(Path::new("/nonexistent")).ok(),
        Some(Format::Raw)
    );
    let no_image = image();
    let error = opened(no_image.path(), &[])
        .err()
        .expect("it is raw")
        .to_string();
    assert!(
        error.contains(&*no_image.path().to_string_lossy()),
        "{error}"
    );
}

/// Each byte of the image's tables flipped, and each length cut: an error or a disk whose requests end.
#[test]
fn a_damaged_image_ends_in_errors() {
    let folder = folder();
    let path = folder.path().join("a.qcow2");
    create(&path, None);
    let mut device = driver(opened(&path, &[]).expect("opens"));
    write(&mut device, 5, &[3; 8192]);
    drop(device);
    let good = fs::read(&path).expect("a file");
    let damaged = folder.path().join("b.qcow2");
    let mut opened_count = 0;
    let mut attempt = |bytes: &[u8]| {
        fs::write(&damaged, bytes).expect("room");
        let Ok(disk) = opened(&damaged, &[]) else {
            return;
        };
        opened_count += 1;
        let mut engine = disk.engine(4, &crate::driver::memory()).expect("an engine");
        let at = 5 * SECTOR;
        let buffer = crate::chain::Buffer {
            at: vm_memory::GuestAddress(DATA),
            len: 4096,
        };
        engine.start(0, Command::Read { at }, &[buffer]);
        let is_durable = true;
        engine.start(1, Command::Write { at, is_durable }, &[buffer]);
        let mut ended = 0;
        while ended < 2 {
            engine.wait().expect("threads");
            while engine.finished().expect("threads").is_some() {
                ended += 1;
            }
        }
    };
    // The header, then every 16th byte of what follows it: tables and data.
    let places = (0..112).chain((112..good.len()).step_by(997));
    for at in places {
        for flip in [0xff, 0x80, 0x01] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            attempt(&bytes);
        }
    }
    for len in (0..112)
        .step_by(8)
        .chain((112..good.len()).step_by(16 * 1024))
    {
        attempt(&good[..len]);
    }
    assert!(opened_count > 0, "some damage is not seen at once");
}
