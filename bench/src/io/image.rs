//! The files that are disks, and what must be in them.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use tempfile::NamedTempFile;

use super::plan::{Case, Medium, Work};
use crate::error::BenchError;

/// What is filled with one word, in bytes.
pub const BLOCK: u64 = 4096;
/// A file system in memory, on any Linux.
const MEMORY: &str = "/dev/shm";
/// Bytes that are written or read at a time.
const CHUNK: usize = 1 << 20;

/// The files.
pub struct Images {
    memory: Image,
    disk: Image,
    has_direct: bool,
    /// Of the run that comes next.
    seed: u64,
}

struct Image {
    file: NamedTempFile,
    len: u64,
    /// What it is full of, if it is full of one run's words.
    seed: Option<u64>,
}

impl Images {
    /// Make them.
    ///
    /// # Errors
    /// [`BenchError::File`].
    pub fn new(directory: &Path, len: u64) -> Result<Self, BenchError> {
        let disk = Image::new(directory, len)?;
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(disk.file.path());
        Ok(Self {
            memory: Image::new(Path::new(MEMORY), len)?,
            has_direct: direct.is_ok(),
            disk,
            seed: 1,
        })
    }

    /// Whether the disk's file can be used past the page cache.
    pub fn has_direct(&self) -> bool {
        self.has_direct
    }

    /// The file of a medium.
    pub fn path(&self, medium: Medium) -> &Path {
        self.image(medium).file.path()
    }

    fn image(&self, medium: Medium) -> &Image {
        match medium {
            Medium::Memory => &self.memory,
            Medium::Cached | Medium::Direct => &self.disk,
        }
    }

    /// Have the file ready for a case; returns the seed of its words.
    ///
    /// # Errors
    /// [`BenchError::File`].
    pub fn prepare(&mut self, case: &Case) -> Result<u64, BenchError> {
        self.seed += 1;
        let fresh = self.seed;
        let image = match case.medium {
            Medium::Memory => &mut self.memory,
            Medium::Cached | Medium::Direct => &mut self.disk,
        };
        if case.work.is_write {
            image.seed = None;
            return Ok(fresh);
        }
        match image.seed {
            Some(seed) => Ok(seed),
            None => {
                image.fill(fresh)?;
                image.seed = Some(fresh);
                Ok(fresh)
            }
        }
    }

    /// Check what a case has written: each of its blocks, in full.
    ///
    /// # Errors
    /// [`BenchError::Wrong`], [`BenchError::File`].
    pub fn check(&self, case: &Case, count: u64, seed: u64) -> Result<(), BenchError> {
        if !case.work.is_write {
            return Ok(());
        }
        let image = self.image(case.medium);
        let places = places(image.len, case.work.bytes);
        let mut bytes = vec![0; case.work.bytes as usize];
        let mut wrong = 0;
        for request in 0..count {
            let at = place(&case.work, seed, request, places) * case.work.bytes;
            image
                .file
                .as_file()
                .read_exact_at(&mut bytes, at)
                .map_err(|error| image.failed(error))?;
            wrong += wrong_blocks(&bytes, at, seed);
        }
        match wrong {
            0 => Ok(()),
            blocks => Err(BenchError::Wrong {
                case: case.title(),
                blocks,
            }),
        }
    }
}

impl Image {
    fn new(directory: &Path, len: u64) -> Result<Self, BenchError> {
        let fail = |source| BenchError::File {
            path: directory.to_owned(),
            source,
        };
        let file = NamedTempFile::with_prefix_in("paravane-bench-", directory).map_err(fail)?;
        file.as_file().set_len(len).map_err(fail)?;
        let seed = None;
        Ok(Self { file, len, seed })
    }

    fn fill(&mut self, seed: u64) -> Result<(), BenchError> {
        let filled = write_all(self.file.as_file(), self.len, seed);
        filled.map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> BenchError {
        BenchError::File {
            path: self.file.path().to_owned(),
            source,
        }
    }
}

fn write_all(mut file: &File, len: u64, seed: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = vec![0; CHUNK];
    let mut at = 0;
    while at < len {
        fill(&mut bytes, at, seed);
        file.write_all(&bytes)?;
        at += CHUNK as u64;
    }
    // So that what is read past the cache is there, and nothing is written meanwhile.
    file.sync_data()
}

/// How many places a disk has for requests of a size: a power of two.
pub fn places(disk: u64, bytes: u64) -> u64 {
    (disk / bytes).checked_ilog2().map_or(1, |log| 1 << log)
}

/// Where a request goes: the same order as in pv-guest/src/shell/disk_bench.rs.
pub fn place(work: &Work, seed: u64, request: u64, places: u64) -> u64 {
    let at = match work.is_random {
        true => request.wrapping_mul(0x9e37_79b1).wrapping_add(seed),
        false => request,
    };
    at & (places - 1)
}

/// The word of the block at an offset of the disk: as there.
fn word(seed: u64, at: u64) -> u64 {
    mix(seed ^ mix(at / BLOCK))
}

/// The finalizer of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// Fill bytes that go to an offset of the disk.
pub fn fill(bytes: &mut [u8], at: u64, seed: u64) {
    for (block, at) in bytes
        .chunks_mut(BLOCK as usize)
        .zip((at..).step_by(BLOCK as usize))
    {
        let word = word(seed, at).to_le_bytes();
        for place in block.as_chunks_mut::<8>().0 {
            *place = word;
        }
    }
}

/// How many blocks are not full of their word.
pub fn wrong_blocks(bytes: &[u8], at: u64, seed: u64) -> u64 {
    let blocks = bytes
        .chunks(BLOCK as usize)
        .zip((at..).step_by(BLOCK as usize));
    let wrong = blocks.filter(|(block, at)| {
        let word = word(seed, *at).to_le_bytes();
        block.as_chunks::<8>().0.iter().any(|found| *found != word)
    });
    wrong.count() as u64
}
