//! Damaged qcow2 images (QEMU, docs/interop/qcow2.rst): opened, and read and written as disks. Nobody
//! promises what is in them; but what is wrong with a file must stay an error.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use imago::io_buffers::IoVector;
use imago::qcow2::Qcow2;
use imago::storage::Storage;
use imago::{
    DenyImplicitOpenGate, FormatAccess, FormatCreateBuilder, FormatDriverBuilder,
    StorageCreateOptions, StorageOpenOptions,
};
use tempfile::NamedTempFile;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES,
};
use virtio_devices::MmioTransport;
use virtio_devices::blk::{Block, BlockBackend, DiskOptions, ImageDisk, SECTOR};

use super::blk::answer;
use crate::random::Choose;
use crate::tally::Tally;
use crate::target::Target;
use crate::virtio::driver::{Driver, Line};
use crate::virtio::layout::{self, BUFFERS, Guest};

/// What cases should come to.
pub const OUTCOMES: &[&str] = &[
    "refused",
    "opened",
    "read done",
    "read refused",
    "write done",
    "write refused",
    "flush done",
    "flush refused",
    "discard done",
    "discard refused",
    "zeroes done",
    "zeroes refused",
];

/// How large the undamaged disks are.
const SIZE: u64 = 1 << 20;
/// The most requests of a case.
const REQUESTS: u32 = 24;
/// The most bytes of one.
const MOST: u32 = 0x8000;
/// How much more of the host's storage a damaged image may take than an undamaged one, in bytes.
const SLACK: u64 = 16 << 20;
/// Where the header has its fields, with the length of each.
const FIELDS: [(usize, usize); 19] = [
    (0, 4),
    (4, 4),
    (8, 8),
    (16, 4),
    (20, 4),
    (24, 8),
    (32, 4),
    (36, 4),
    (40, 8),
    (48, 8),
    (56, 4),
    (60, 4),
    (64, 8),
    (72, 8),
    (80, 8),
    (88, 8),
    (96, 4),
    (100, 4),
    (104, 4),
];

type File = imago::file::File;

/// Make an image.
///
/// # Errors
/// The host's.
pub fn create(path: &Path, size: u64, refcount_bits: usize) -> io::Result<()> {
    create_in(path, size, 0x1_0000, refcount_bits)
}

fn create_in(path: &Path, size: u64, cluster: usize, refcount_bits: usize) -> io::Result<()> {
    let file = File::create_open(StorageCreateOptions::new().filename(path).overwrite(true))?;
    let builder = Qcow2::<File>::create_builder(file).size(size);
    builder
        .cluster_size(cluster)
        .refcount_width(refcount_bits)
        .create()
}

fn open(path: &Path) -> io::Result<FormatAccess<File>> {
    let file = File::open(StorageOpenOptions::new().filename(path).write(true))?;
    let image = Qcow2::<File>::builder(file)
        .write(true)
        .open(DenyImplicitOpenGate::default())?;
    Ok(FormatAccess::new(image))
}

/// Write to an image.
///
/// # Errors
/// The host's.
pub fn write(path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
    let access = open(path)?;
    access.writev(IoVector::from(bytes), at)?;
    access.flush()?;
    access.sync()
}

/// Something that is wrong with an image.
#[derive(Clone, Debug)]
enum Damage {
    /// Other bytes at a place.
    Bytes { at: usize, bytes: Vec<u8> },
    /// The file ends there; longer than before, it has zeros.
    End(usize),
}

impl Display for Damage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Bytes { at, bytes } if bytes.len() > 16 => {
                write!(f, "{at:#x}: {} bytes", bytes.len())
            }
            Damage::Bytes { at, bytes } => write!(f, "{at:#x}: {bytes:02x?}"),
            Damage::End(len) => write!(f, "the file ends at {len:#x}"),
        }
    }
}

/// See the module.
pub struct Images {
    file: NamedTempFile,
    /// Images that are well.
    bases: Vec<Vec<u8>>,
    guest: Guest,
}

impl Images {
    /// The target.
    ///
    /// # Errors
    /// The host's.
    pub fn new(folder: &Path) -> io::Result<Images> {
        let file = NamedTempFile::new_in(folder)?;
        let shapes = [
            (512, 16),
            (4096, 1),
            (0x1_0000, 16),
            (0x1_0000, 64),
            (512, 64),
        ];
        let base = |(cluster, bits)| base(file.path(), cluster, bits);
        let bases = shapes.into_iter().map(base).collect::<io::Result<_>>()?;
        let guest = Guest::new()?;
        Ok(Images { file, bases, guest })
    }

    /// Damages to one of the images.
    fn choose(&self, rng: &mut Rng) -> (usize, Vec<Damage>) {
        let which = rng.usize(..self.bases.len());
        let base = &self.bases[which];
        let count = rng.one_of(&[0, 1, 1, 1, 1, 2, 2, 4, 16]);
        (which, (0..count).map(|_| damage(rng, base)).collect())
    }

    /// Open the image and use it.
    fn use_it(&self, rng: &mut Rng, tally: &mut Tally) -> Result<(), String> {
        let options = DiskOptions {
            is_read_only: rng.once_in(6),
            ..DiskOptions::default()
        };
        let disk = match ImageDisk::open(self.file.path(), &[], options) {
            Ok(disk) => disk,
            Err(_) => {
                tally.reached("refused");
                return Ok(());
            }
        };
        tally.reached("opened");
        let sectors = disk.capacity() / SECTOR;
        let device = Box::new(Block::new(Box::new(disk), "", 1));
        let line = Arc::new(Line::default());
        let transport = MmioTransport::new(device, self.guest.memory.clone(), line.clone());
        let mut transport =
            transport.map_err(|error| format!("the host refuses doorbells: {error}"))?;
        let mut driver = Driver::start(&mut transport, &self.guest.memory, line)?;
        for _ in 0..1 + rng.u32(..REQUESTS) {
            request(rng, &mut driver, sectors, tally)?;
        }
        Ok(())
    }
}

/// An image with something of everything: data, zeros, what was there and is not any more, nothing.
fn base(path: &Path, cluster: usize, refcount_bits: usize) -> io::Result<Vec<u8>> {
    create_in(path, SIZE, cluster, refcount_bits)?;
    let mut access = open(path)?;
    let data = vec![0xc3; 0x1_0000];
    for at in [0, 0x3_0000, 0x8_0000, 0xf_0000] {
        access.writev(IoVector::from(data.as_slice()), at)?;
    }
    access.write_zeroes(0x3_8000, 0x4000)?;
    access.discard_to_any(0x8_0000, 0x8000)?;
    access.flush()?;
    access.sync()?;
    drop(access);
    std::fs::read(path)
}

/// One damage: mostly where it matters.
fn damage(rng: &mut Rng, base: &[u8]) -> Damage {
    let word = |at: usize| {
        let bytes = base.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_be_bytes(bytes.unwrap_or_default())
    };
    let cluster = 1usize << (word(16) as u32 & 31);
    let places = |rng: &mut Rng| {
        // L1 table, first L2 table, refcount table, first refcount block, anywhere.
        let (l1, refcounts) = (word(40) as usize, word(48) as usize);
        let (l2, block) = (
            (word(l1) & 0x00ff_ffff_ffff_fe00) as usize,
            word(refcounts) as usize,
        );
        let any = rng.usize(..base.len() / 8) * 8;
        let table = rng.one_of(&[l1, l1, l2, l2, refcounts, refcounts, block, any]);
        table.min(base.len().saturating_sub(8))
    };
    match rng.u32(..12) {
        0..3 => {
            let (at, len) = rng.one_of(&FIELDS);
            let number = interesting(rng, base.len() as u64, cluster as u64);
            let bytes = number.to_be_bytes()[8 - len..].to_vec();
            Damage::Bytes { at, bytes }
        }
        3 => {
            let at = rng.usize(..0x200.min(base.len()));
            Damage::Bytes {
                at,
                bytes: vec![base[at] ^ 1 << rng.u32(..8)],
            }
        }
        4..8 => {
            let table = places(rng);
            let at = (table + 8 * rng.usize(..32)).min(base.len().saturating_sub(8));
            let number = interesting(rng, base.len() as u64, cluster as u64);
            Damage::Bytes {
                at,
                bytes: number.to_be_bytes().to_vec(),
            }
        }
        8 => {
            let at = rng.usize(..base.len());
            Damage::Bytes {
                at,
                bytes: vec![base[at] ^ 1 << rng.u32(..8)],
            }
        }
        9 => {
            let at = places(rng) / cluster * cluster;
            let words = cluster.min(base.len() - at) / 8;
            let bytes = (0..words)
                .flat_map(|_| interesting(rng, base.len() as u64, cluster as u64).to_be_bytes());
            Damage::Bytes {
                at,
                bytes: bytes.collect(),
            }
        }
        10 => {
            // Extensions of the header.
            let kind = rng.one_of(&[
                0u32,
                0x6803_f857,
                0xe279_2aca,
                0x2385_2875,
                0x0537_be77,
                0x4441_5441,
                1,
            ]);
            let len = rng.one_of(&[0u32, 1, 8, 24, 47, 48, 96, 0x1000, 0xffff_fff8, 0xffff_ffff]);
            let mut bytes = kind.to_be_bytes().to_vec();
            bytes.extend(len.to_be_bytes());
            Damage::Bytes {
                at: 104 + 8 * rng.usize(..3),
                bytes,
            }
        }
        _ => {
            let (any, whole) = (
                rng.usize(..base.len()),
                rng.usize(..base.len()) / cluster * cluster,
            );
            let small = rng.usize(..0x100);
            Damage::End(rng.one_of(&[any, whole, small, base.len() + cluster / 2, base.len() + 5]))
        }
    }
}

/// A number that may mean something in an image: an offset, a length, bits.
fn interesting(rng: &mut Rng, len: u64, cluster: u64) -> u64 {
    let any = rng.u64(..);
    let offset = rng.u64(..len / cluster + 2) * cluster;
    let (small, shift) = (rng.u64(..64), rng.u32(..64));
    let flags = rng.one_of(&[0, 1 << 63, 1 << 62, 1, 1 << 63 | 1, 3 << 62]);
    rng.one_of(&[
        0,
        1,
        2,
        3,
        small,
        cluster,
        offset,
        offset | flags,
        offset | flags,
        offset + 1,
        offset + cluster / 2,
        len,
        1 << shift,
        any,
        any >> shift,
        any | 1 << 62,
        0x00ff_ffff_ffff_fe00,
        u64::MAX,
        u64::MAX - cluster + 1,
        0x7fff_ffff,
        0xffff_ffff,
    ])
}

/// A request of a driver that does all as it must.
fn request(
    rng: &mut Rng,
    driver: &mut Driver<'_>,
    sectors: u64,
    tally: &mut Tally,
) -> Result<(), String> {
    let (from, to) = (BUFFERS[0].start, BUFFERS[0].start + u64::from(MOST));
    let most = u64::from(MOST).min(sectors.saturating_mul(SECTOR)) / SECTOR;
    let count = rng.u64(1..=most);
    let sector = match rng.u32(..4) {
        0 => rng.u64(..=sectors - count),
        1 => sectors - count,
        _ => rng.u64(..=(sectors - count).min(SIZE / SECTOR)),
    };
    let len = (count * SECTOR) as u32;
    let range = || {
        let mut bytes = sector.to_le_bytes().to_vec();
        bytes.extend((count as u32).to_le_bytes());
        bytes.extend(u32::to_le_bytes(count as u32 & 1));
        bytes
    };
    let (name, status) = match rng.u32(..16) {
        0..7 => (
            "read",
            answer(driver, VIRTIO_BLK_T_IN, sector, &[(to, len, true)])?,
        ),
        7..12 => {
            driver.put(from, &[0xd5; MOST as usize]);
            (
                "write",
                answer(driver, VIRTIO_BLK_T_OUT, sector, &[(from, len, false)])?,
            )
        }
        12 => ("flush", answer(driver, VIRTIO_BLK_T_FLUSH, 0, &[])?),
        13 => {
            let mut range = range();
            range[12..].fill(0);
            driver.put(from, &range);
            (
                "discard",
                answer(driver, VIRTIO_BLK_T_DISCARD, 0, &[(from, 16, false)])?,
            )
        }
        _ => {
            driver.put(from, &range());
            (
                "zeroes",
                answer(driver, VIRTIO_BLK_T_WRITE_ZEROES, 0, &[(from, 16, false)])?,
            )
        }
    };
    tally.operations += 1;
    tally.offered += 1;
    tally.finished += 1;
    tally.reached(&format!(
        "{name} {}",
        if status == 0 { "done" } else { "refused" }
    ));
    if status == 0 && matches!(name, "read" | "write") {
        tally.bytes += u64::from(len);
    }
    Ok(())
}

impl Target for Images {
    fn case(&mut self, mut rng: Rng, tally: &mut Tally) -> Result<(), String> {
        let (which, damages) = self.choose(&mut rng);
        let mut bytes = self.bases[which].clone();
        for damage in &damages {
            match damage {
                Damage::End(len) => bytes.resize(*len, 0),
                Damage::Bytes { at, bytes: others } => {
                    for (place, byte) in bytes.iter_mut().skip(*at).zip(others) {
                        *place = *byte;
                    }
                }
            }
        }
        let failed = |error: io::Error| format!("the host refuses a file: {error}");
        let file = self.file.as_file_mut();
        file.set_len(0).map_err(failed)?;
        io::Seek::rewind(file).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        let mut expected = Vec::new();
        self.guest.refill(&mut expected);
        self.use_it(&mut rng, tally)?;
        self.check(&expected)
    }

    fn show(&mut self, mut rng: Rng) -> String {
        let (which, damages) = self.choose(&mut rng);
        let lines: Vec<String> = damages.iter().map(Damage::to_string).collect();
        format!(
            "image {which} of {} bytes\n{}",
            self.bases[which].len(),
            lines.join("\n")
        )
    }
}

impl Images {
    /// Memory behind the buffers that were used is as it was, and the file is no giant.
    fn check(&self, expected: &[u8]) -> Result<(), String> {
        let place = |at| layout::place(at).unwrap_or(expected.len());
        let mut is = Vec::new();
        self.guest.copy(&mut is);
        let (from, to) = (
            place(BUFFERS[0].start + 2 * u64::from(MOST)),
            expected.len(),
        );
        if expected[from..to] != is[from..to] {
            return Err("a disk has changed memory that it was not given".into());
        }
        let stat = self
            .file
            .as_file()
            .metadata()
            .map_err(|error| error.to_string())?;
        // Blocks are of 512 bytes, whatever the filesystem's are (stat(2)).
        let taken = stat.blocks() * 512;
        match taken > 2 * SIZE + SLACK {
            true => Err(format!(
                "a disk of {SIZE} bytes takes {taken} bytes of storage"
            )),
            false => Ok(()),
        }
    }
}
