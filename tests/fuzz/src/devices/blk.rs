//! A disk, in a raw file or in a qcow2 image.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use fastrand::Rng;
use tempfile::NamedTempFile;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};
use virtio_devices::Device;
use virtio_devices::blk::{
    Block, BlockBackend, DiskOptions, EngineKind, FileDisk, ImageDisk, SECTOR,
};

use super::disk::{self, FIRST, kind};
use crate::random::Choose;
use crate::tally::Tally;
use crate::virtio::driver::Driver;
use crate::virtio::layout::{BUFFERS, HEADERS, STATUSES};
use crate::virtio::ledger::Ledger;
use crate::virtio::maker::{Maker, Request};
use crate::virtio::plan::Mark;

/// What cases should come to.
pub const OUTCOMES: &[&str] = &[
    "read done",
    "read refused",
    "write done",
    "write refused",
    "flush done",
    "id done",
    "discard done",
    "zeroes done",
    "unsupported",
    "read-only disk",
    "queue : a request has no room for its status",
    "too many in flight",
];

/// How large the disk is, in sectors: fewer than any address in guest memory that has descriptors.
const SECTORS: u64 = 2048;
/// How much is read of it at once, in bytes.
const PIECE: u32 = 0x1_0000;

/// How a disk is kept.
enum Kept {
    Raw,
    /// The image's bytes.
    Qcow2(Vec<u8>),
}

/// See the module.
pub struct Subject {
    kept: Kept,
    file: NamedTempFile,
    /// What the disk has at first.
    pristine: Vec<u8>,
    is_read_only: bool,
    /// What may be different at the end of a case, if that is known.
    may_change: Option<Vec<std::ops::Range<u64>>>,
    capacity_seen: u64,
}

impl Subject {
    /// A disk in a raw file.
    ///
    /// # Errors
    /// The host's.
    pub fn raw(folder: &Path) -> io::Result<Self> {
        let mut file = NamedTempFile::new_in(folder)?;
        let pristine = pristine();
        file.write_all(&pristine)?;
        Subject::new(Kept::Raw, file, pristine)
    }

    /// A disk in an image: some of it is there, some is not.
    ///
    /// # Errors
    /// The host's.
    pub fn qcow2(folder: &Path) -> io::Result<Self> {
        let file = NamedTempFile::new_in(folder)?;
        let mut pristine = pristine();
        // The second quarter has no clusters, and reads as zeros.
        let quarter = pristine.len() / 4;
        pristine[quarter..2 * quarter].fill(0);
        super::image::create(file.path(), SECTORS * SECTOR, 16)?;
        super::image::write(file.path(), 0, &pristine[..quarter])?;
        super::image::write(file.path(), 2 * quarter as u64, &pristine[2 * quarter..])?;
        let bytes = std::fs::read(file.path())?;
        Subject::new(Kept::Qcow2(bytes), file, pristine)
    }

    fn new(kept: Kept, file: NamedTempFile, pristine: Vec<u8>) -> io::Result<Self> {
        Ok(Subject {
            kept,
            file,
            pristine,
            is_read_only: false,
            may_change: None,
            capacity_seen: 0,
        })
    }

    /// Have the file as it was at first.
    fn restore(&mut self) -> io::Result<()> {
        match &self.kept {
            Kept::Raw => restore(self.file.as_file(), &self.pristine),
            Kept::Qcow2(bytes) => {
                self.file.as_file().set_len(bytes.len() as u64)?;
                restore(self.file.as_file(), bytes)
            }
        }
    }

    /// Compare the disk with what it should be.
    fn compare(&self, is: &[u8], tally: &mut Tally) -> Result<(), String> {
        let Some(may_change) = &self.may_change else {
            return Ok(());
        };
        let none = Vec::new();
        let may_change = if self.is_read_only { &none } else { may_change };
        if let Some(sector) = disk::first_wrong(may_change, &self.pristine, is) {
            return Err(format!(
                "sector {sector} of the disk has changed, to which nothing was written"
            ));
        }
        tally.disks += 1;
        Ok(())
    }
}

/// Sectors that all differ, of bytes that are no header's.
fn pristine() -> Vec<u8> {
    let word = |index: u64| {
        (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 0x8080_8080_8080_8080).to_le_bytes()
    };
    (0..SECTORS * SECTOR / 8).flat_map(word).collect()
}

/// Write what is not as it should be.
fn restore(file: &File, wanted: &[u8]) -> io::Result<()> {
    let mut found = vec![0; wanted.len()];
    let len = read(file, &mut found)?;
    for (place, wanted) in wanted.chunks(4096).enumerate() {
        let at = place * 4096;
        if at + wanted.len() > len || found[at..at + wanted.len()] != *wanted {
            file.write_all_at(wanted, at as u64)?;
        }
    }
    Ok(())
}

/// Read from the start of a file; returns how much there was.
fn read(file: &File, into: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], done as u64)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

impl crate::virtio::Subject for Subject {
    fn device(&mut self, rng: &mut Rng) -> io::Result<Box<dyn Device>> {
        self.restore()?;
        self.is_read_only = rng.once_in(8);
        let options = DiskOptions {
            is_read_only: self.is_read_only,
            is_direct: false,
            engine: rng.one_of(&[EngineKind::IoUring, EngineKind::Threads, EngineKind::Sync]),
        };
        let backend: Box<dyn BlockBackend> = match self.kept {
            Kept::Raw => {
                Box::new(FileDisk::open(self.file.path(), options).map_err(io::Error::other)?)
            }
            Kept::Qcow2(_) => {
                Box::new(ImageDisk::open(self.file.path(), &[], options).map_err(io::Error::other)?)
            }
        };
        self.capacity_seen = backend.capacity();
        let queues = rng.one_of(&[1, 1, 2, 4]);
        Ok(Box::new(Block::new(backend, "a name", queues)))
    }

    fn request(&mut self, maker: &mut Maker<'_>, _: usize) -> Option<Request> {
        let mut request = Request::default();
        let what = maker.rng.u32(..100);
        match what {
            0..40 => self.transfer(maker, &mut request, VIRTIO_BLK_T_IN, done_read),
            40..70 => self.transfer(maker, &mut request, VIRTIO_BLK_T_OUT, done_write),
            70..75 => plain(maker, &mut request, VIRTIO_BLK_T_FLUSH, 0, done_flush),
            75..80 => plain(maker, &mut request, VIRTIO_BLK_T_GET_ID, 20, done_id),
            80..88 => ranges(maker, &mut request, VIRTIO_BLK_T_DISCARD, done_discard),
            88..96 => ranges(maker, &mut request, VIRTIO_BLK_T_WRITE_ZEROES, done_zeroes),
            _ => {
                let (small, any) = (maker.rng.u32(2..20), maker.rng.u32(..));
                let kind = maker.rng.one_of(&[small, small, any]);
                // Those that change something are above.
                let is_other = !matches!(
                    kind,
                    VIRTIO_BLK_T_OUT | VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES
                );
                plain(
                    maker,
                    &mut request,
                    if is_other { kind } else { 2 },
                    512,
                    done_other,
                );
            }
        }
        Some(request)
    }

    fn inspect(&mut self, ledger: &Ledger, tally: &mut Tally) -> Result<(), String> {
        self.may_change = disk::may_change(ledger);
        if self.is_read_only {
            tally.reached("read-only disk");
        }
        // What is in an image is read through it, by the known requests.
        if let Kept::Raw = self.kept {
            let mut is = vec![0; self.pristine.len()];
            let len = read(self.file.as_file(), &mut is).map_err(|error| error.to_string())?;
            let all = self
                .file
                .as_file()
                .metadata()
                .map_err(|error| error.to_string())?
                .len();
            if (len, all) != (self.pristine.len(), self.pristine.len() as u64) {
                return Err(format!("the disk has {all} bytes now"));
            }
            self.compare(&is, tally)?;
        }
        Ok(())
    }

    fn probe(&mut self, driver: &mut Driver<'_>, tally: &mut Tally) -> Result<(), String> {
        let whole = self.read_through(driver)?;
        match self.kept {
            Kept::Raw => {
                let mut is = vec![0; whole.len()];
                read(self.file.as_file(), &mut is).map_err(|error| error.to_string())?;
                if is != whole {
                    return Err("the device reads other bytes than the file has".into());
                }
            }
            Kept::Qcow2(_) => self.compare(&whole, tally)?,
        }
        if self.is_read_only {
            return Ok(());
        }
        let at = BUFFERS[0].start;
        driver.put(at, &[0xab; 1024]);
        ask(
            driver,
            VIRTIO_BLK_T_OUT,
            3,
            &[(at, 1000, false), (at + 1000, 24, false)],
        )?;
        ask(driver, VIRTIO_BLK_T_FLUSH, 0, &[])?;
        driver.put(at, &[0; 1024]);
        ask(driver, VIRTIO_BLK_T_IN, 3, &[(at, 1024, true)])?;
        match driver.get(at, 1024) == [0xab; 1024] {
            true => Ok(()),
            false => Err("a known write reads otherwise".into()),
        }
    }
}

impl Subject {
    /// The disk, as the device reads it.
    fn read_through(&self, driver: &mut Driver<'_>) -> Result<Vec<u8>, String> {
        let at = BUFFERS[0].start;
        let mut whole = Vec::new();
        for sector in (0..SECTORS).step_by(PIECE as usize / SECTOR as usize) {
            ask(driver, VIRTIO_BLK_T_IN, sector, &[(at, PIECE, true)])?;
            whole.extend(driver.get(at, PIECE as usize));
        }
        Ok(whole)
    }

    /// A read or a write.
    fn transfer(&self, maker: &mut Maker<'_>, request: &mut Request, of: u32, means: Means) {
        let most = maker.rng.one_of(&[2, 9, 9, 17, 65]);
        let sectors = maker.rng.u32(1..most);
        let len = sectors * SECTOR as u32;
        let end = self.capacity_seen / SECTOR;
        let sector = match maker.rng.u32(..20) {
            0 => end - u64::from(sectors),
            1 => end - u64::from(sectors) + 1,
            2 => maker
                .rng
                .one_of(&[end, u64::MAX, u64::MAX / SECTOR, 1 << 55]),
            _ => FIRST + maker.rng.u64(..end - FIRST - u64::from(sectors)),
        };
        header(maker, request, of, sector);
        maker.pieces(request, len, 3, of == VIRTIO_BLK_T_IN);
        let bytes = if of == VIRTIO_BLK_T_OUT {
            len.into()
        } else {
            0
        };
        status(maker, request, means, bytes);
    }
}

type Means = fn(u8) -> Option<&'static str>;

/// A header, mostly in one piece. Never cut in the middle: halves of two would make a whole.
fn header(maker: &mut Maker<'_>, request: &mut Request, of: u32, sector: u64) {
    let at = maker.header(&[kind(of), sector]);
    maker.header_gap();
    if maker.rng.once_in(8) {
        let cut = maker.rng.one_of(&[1, 3, 4, 7, 9, 12, 15]);
        request.reads(at, cut);
        request.reads(at + u64::from(cut), 16 - cut);
    } else {
        request.reads(at, 16);
    }
}

fn status(maker: &mut Maker<'_>, request: &mut Request, means: Means, bytes: u64) {
    let at = maker.status();
    request.writes(at, 1);
    request.mark = Some(Mark { at, means, bytes });
}

/// A request that names no sectors.
fn plain(maker: &mut Maker<'_>, request: &mut Request, of: u32, room: u32, means: Means) {
    let sector = maker.rng.one_of(&[0, 0, FIRST, 1 << 40]);
    header(maker, request, of, sector);
    if room > 0 {
        maker.pieces(request, room, 2, true);
    }
    status(maker, request, means, 0);
}

/// A discard, or zeroes.
fn ranges(maker: &mut Maker<'_>, request: &mut Request, of: u32, means: Means) {
    header(maker, request, of, 0);
    for _ in 0..1 + maker.rng.u32(..3) {
        let sector = FIRST + maker.rng.u64(..SECTORS - FIRST);
        let some = maker.rng.u64(1..64);
        let count = maker
            .rng
            .one_of(&[some, some, some, some, 0, 1 << 18, 0xffff_ffff]);
        let flags = maker.rng.one_of(&[0, 0, 0, 1, 1, 2, 0xffff_ffff]);
        let at = maker.header(&[sector, count | flags << 32]);
        maker.header_gap();
        request.reads(at, 16);
    }
    status(maker, request, means, 0);
}

fn done(byte: u8, well: &'static str, refused: &'static str) -> Option<&'static str> {
    match byte {
        0 => Some(well),
        1 => Some(refused),
        2 => Some("unsupported"),
        _ => None,
    }
}

fn done_read(byte: u8) -> Option<&'static str> {
    done(byte, "read done", "read refused")
}

fn done_write(byte: u8) -> Option<&'static str> {
    done(byte, "write done", "write refused")
}

fn done_flush(byte: u8) -> Option<&'static str> {
    done(byte, "flush done", "flush refused")
}

fn done_id(byte: u8) -> Option<&'static str> {
    done(byte, "id done", "id refused")
}

fn done_discard(byte: u8) -> Option<&'static str> {
    done(byte, "discard done", "discard refused")
}

fn done_zeroes(byte: u8) -> Option<&'static str> {
    done(byte, "zeroes done", "zeroes refused")
}

fn done_other(byte: u8) -> Option<&'static str> {
    done(byte, "other done", "other refused")
}

/// A known request, which must be done.
///
/// # Errors
/// It is not.
pub fn ask(
    driver: &mut Driver<'_>,
    of: u32,
    sector: u64,
    data: &[(u64, u32, bool)],
) -> Result<(), String> {
    match answer(driver, of, sector, data)? {
        0 => Ok(()),
        status => Err(format!(
            "a known request of kind {of} at sector {sector} has the status {status}"
        )),
    }
}

/// A known request; returns its status.
///
/// # Errors
/// It does not come back.
pub fn answer(
    driver: &mut Driver<'_>,
    of: u32,
    sector: u64,
    data: &[(u64, u32, bool)],
) -> Result<u8, String> {
    let (at, status) = (HEADERS.start, STATUSES.start);
    driver.put(at, &kind(of).to_le_bytes());
    driver.put(at + 8, &sector.to_le_bytes());
    driver.put(status, &[0xee]);
    let mut pieces = vec![(at, 16, false)];
    pieces.extend(data);
    pieces.push((status, 1, true));
    driver.ask(0, &pieces)?;
    match driver.get(status, 1).as_slice() {
        [byte] => Ok(*byte),
        _ => Err("a status has no byte".into()),
    }
}
