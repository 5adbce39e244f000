//! A disk in a file or on a block device, raw: opened, locked, measured. Called by whoever builds a
//! machine. Never touches guest memory.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, OFlags, fcntl_getfl, fcntl_setfl, flock, fstat};
use rustix::io::Errno;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::backend::{BlockBackend, Engine};
use super::engine::{DIRECT_ALIGNMENT, Files, RingEngine, SyncEngine};
use super::pool::{PoolEngine, THREADS};
use super::runner::{FileRunner, Runner};
use super::wire::SECTOR;
use crate::raw_io::Ring;

/// How long a lock is waited for: a process that was killed while io_uring had requests of its own is
/// gone a while before the kernel lets go of its files.
const PATIENCE: Duration = Duration::from_millis(1000);
/// How often it is tried meanwhile.
const PAUSE: Duration = Duration::from_millis(5);

/// Why a file cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It cannot be opened, or not as it was asked for.
    #[error("cannot {what} the disk {}: {source}{}", path.display(), mend(source))]
    Host {
        /// The file.
        path: PathBuf,
        /// What failed, as a verb.
        what: &'static str,
        /// The host's reason.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("the disk {} is in use by another process; {}", path.display(),
        if *is_read_only { "it writes to it" } else { "open it read-only in both, or end the other" })]
    Locked {
        /// The file.
        path: PathBuf,
        /// Whether it was to be read only.
        is_read_only: bool,
    },
    /// It is a directory, a pipe or the like.
    #[error("the disk {} is neither a file nor a block device", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// A raw file begins as a qcow2 image does.
    #[error(
        "the disk {} may be a qcow2 image, or a guest has made it look like one: say format=qcow2 or \
         format=raw",
        path.display()
    )]
    Ambiguous {
        /// The file.
        path: PathBuf,
    },
    /// An image is based on a file that was not named.
    #[error("the image {} is based on {refers}: name that file by backing=", path.display())]
    Backing {
        /// The image.
        path: PathBuf,
        /// The name in it.
        refers: String,
    },
    /// A file was named that nothing is based on.
    #[error("{} is based on no other file: leave out backing={}", path.display(), named.display())]
    NoBacking {
        /// The disk.
        path: PathBuf,
        /// What was named.
        named: PathBuf,
    },
    /// It has no whole number of sectors.
    #[error(
        "the disk {} has {len} bytes, and a disk has whole sectors of 512; `truncate -s` makes it so",
        path.display()
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Its length, in bytes.
        len: u64,
    },
}

/// What mends the host's refusal, if that is known.
fn mend(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "; `truncate -s 64M FILE` makes an empty disk",
        _ => "",
    }
}

/// How the host's kernel is asked for I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// io_uring where the host has it, else threads.
    #[default]
    Auto,
    /// io_uring: many requests at a time.
    IoUring,
    /// preadv(2) and its like, on threads: some requests at a time.
    Threads,
    /// preadv(2) and its like: one request after the other.
    Sync,
}

/// How to open a disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskOptions {
    /// Refuse writes, and share the file with other readers.
    pub is_read_only: bool,
    /// Past the host's page cache (O_DIRECT).
    pub is_direct: bool,
    /// By which engine.
    pub engine: EngineKind,
}

/// A raw disk.
pub struct FileDisk {
    files: Files,
    capacity: u64,
    is_read_only: bool,
    kind: EngineKind,
}

impl FileDisk {
    /// Open and lock a disk: exclusively, or shared if it is read only (flock(2)).
    ///
    /// # Errors
    /// [`DiskError`], which names the file.
    pub fn open(path: &Path, options: DiskOptions) -> Result<FileDisk, DiskError> {
        let failed = |what| {
            let path = path.to_owned();
            move |source| DiskError::Host { path, what, source }
        };
        let cached = take(path, options, false)?;
        let capacity = (&cached)
            .seek(SeekFrom::End(0))
            .map_err(failed("measure"))?;
        if capacity == 0 || !capacity.is_multiple_of(SECTOR) {
            let (path, len) = (path.to_owned(), capacity);
            return Err(DiskError::Size { path, len });
        }
        let direct = options
            .is_direct
            .then(|| open(path, options, libc::O_DIRECT));
        let direct = direct.transpose().map_err(failed("open for direct I/O"))?;
        let kind = choose(options.engine).map_err(failed("set up io_uring for"))?;
        Ok(FileDisk {
            files: Files {
                cached: Arc::new(cached),
                direct: direct.map(Arc::new),
            },
            capacity,
            is_read_only: options.is_read_only,
            kind,
        })
    }

    /// The engine that is used: never [`EngineKind::Auto`].
    #[must_use]
    pub fn engine_kind(&self) -> EngineKind {
        self.kind
    }

    /// The file, locked as long as this lives: for who does its I/O without queues.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.files.cached
    }
}

impl BlockBackend for FileDisk {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    fn block_size(&self) -> u32 {
        DIRECT_ALIGNMENT as u32
    }

    fn engine(&self, slots: u16, memory: &GuestMemoryMmap) -> io::Result<Box<dyn Engine>> {
        let files = self.files.clone();
        Ok(match self.kind {
            EngineKind::Sync => Box::new(SyncEngine::new(FileRunner::new(files, memory))),
            EngineKind::Threads => {
                let runner = |_| {
                    let runner = FileRunner::new(files.clone(), memory);
                    Box::new(runner) as Box<dyn Runner>
                };
                Box::new(PoolEngine::new((0..THREADS).map(runner).collect())?)
            }
            EngineKind::Auto | EngineKind::IoUring => {
                Box::new(RingEngine::new(files, slots, memory)?)
            }
        })
    }
}

/// Open and lock a file or block device.
///
/// # Errors
/// [`DiskError`], which names it.
pub(super) fn take(path: &Path, options: DiskOptions, is_direct: bool) -> Result<File, DiskError> {
    let failed = |what| {
        let path = path.to_owned();
        move |source| DiskError::Host { path, what, source }
    };
    let direct = if is_direct { libc::O_DIRECT } else { 0 };
    // Without waiting: opening a pipe that has no writer would hang.
    let file = open(path, options, libc::O_NONBLOCK | direct).map_err(failed("open"))?;
    // Before the lock and the size: neither means anything for a pipe.
    let stat = fstat(&file).map_err(io::Error::from);
    let kind = FileType::from_raw_mode(stat.map_err(failed("examine"))?.st_mode);
    if !matches!(kind, FileType::RegularFile | FileType::BlockDevice) {
        let path = path.to_owned();
        return Err(DiskError::Kind { path });
    }
    wait_for_io(&file).map_err(failed("set up"))?;
    lock(&file, path, options.is_read_only)?;
    Ok(file)
}

fn open(path: &Path, options: DiskOptions, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(!options.is_read_only)
        .custom_flags(flags)
        .open(path)
}

/// Take O_NONBLOCK away: with it, io_uring fails where it would have to wait.
fn wait_for_io(file: &File) -> io::Result<()> {
    let flags = fcntl_getfl(file)?;
    Ok(fcntl_setfl(file, flags - OFlags::NONBLOCK)?)
}

fn lock(file: &File, path: &Path, is_read_only: bool) -> Result<(), DiskError> {
    let how = if is_read_only {
        FlockOperation::NonBlockingLockShared
    } else {
        FlockOperation::NonBlockingLockExclusive
    };
    let path = path.to_owned();
    let start = Instant::now();
    let locked = loop {
        match flock(file, how) {
            Err(Errno::WOULDBLOCK) if start.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            other => break other,
        }
    };
    match locked {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(DiskError::Locked { path, is_read_only }),
        Err(error) => Err(DiskError::Host {
            path,
            what: "lock",
            source: error.into(),
        }),
    }
}

/// Which engine to use; an io_uring that was asked for by name must be there.
fn choose(asked: EngineKind) -> io::Result<EngineKind> {
    let probe = || {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), DIRECT_ALIGNMENT)]);
        Ring::new(1, &memory.map_err(io::Error::other)?)
    };
    match asked {
        EngineKind::Sync | EngineKind::Threads => Ok(asked),
        EngineKind::IoUring => probe().map(|_| EngineKind::IoUring),
        EngineKind::Auto => Ok(probe().map_or(EngineKind::Threads, |_| EngineKind::IoUring)),
    }
}
