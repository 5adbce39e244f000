//! A disk in a qcow2 image, and the copy-on-write layer of a snapshot, by the crate imago. Called by
//! whoever builds a machine. A file that an image refers to is used only if it was named.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use imago::io_buffers::{IoVector, IoVectorMut};
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{
    DenyImplicitOpenGate, FormatAccess, FormatCreateBuilder, FormatDriverBuilder,
    StorageOpenOptions,
};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, VolatileSlice};

use super::backend::{BlockBackend, Command, Engine};
use super::file::{DiskError, DiskOptions, take};
use super::pool::{PoolEngine, THREADS};
use super::qcow2_header;
use super::runner::Runner;
use super::wire::SECTOR;
use crate::chain::Buffer;

/// What a qcow2 image begins with ("QFI", 0xfb).
const MAGIC: [u8; 4] = [0x51, 0x46, 0x49, 0xfb];
/// The size and alignment that suits an image best, in bytes: that of its storage.
const BLOCK: u32 = 4096;

/// How a file holds a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// qcow2 where the file's name ends in `.qcow2`, else raw; a raw file that begins as a qcow2
    /// image does is refused then, for a guest may have written that.
    #[default]
    Auto,
    /// Its sectors, one behind the other.
    Raw,
    /// qcow2, version 2 or 3.
    Qcow2,
}

impl Format {
    /// What it is for a file: never [`Format::Auto`].
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn of(self, path: &Path) -> Result<Format, DiskError> {
        if self != Format::Auto {
            return Ok(self);
        }
        if path.extension().is_some_and(|kind| kind == "qcow2") {
            return Ok(Format::Qcow2);
        }
        let mut start = [0; 4];
        let is_image = File::open(path).and_then(|file| file.read_exact_at(&mut start, 0));
        match is_image.is_ok() && start == MAGIC {
            // What cannot be read is said by who opens it.
            false => Ok(Format::Raw),
            true => Err(DiskError::Ambiguous {
                path: path.to_owned(),
            }),
        }
    }
}

type Access = FormatAccess<imago::file::File>;
type Image = Qcow2<imago::file::File, Arc<Access>>;

/// A disk in an image.
pub struct ImageDisk {
    /// Commands share it, but for those that give space back.
    access: Arc<RwLock<Access>>,
    capacity: u64,
    is_read_only: bool,
}

impl ImageDisk {
    /// Open an image with the files that it is based on, the topmost first.
    ///
    /// # Errors
    /// [`DiskError`], which names the file.
    pub fn open(
        path: &Path,
        backing: &[PathBuf],
        options: DiskOptions,
    ) -> Result<ImageDisk, DiskError> {
        let access = open(path, Format::Qcow2, backing, options)?;
        ImageDisk::of(path, access, options.is_read_only)
    }

    /// A layer above a disk that takes all writes, and is gone with the machine. The disk is only
    /// read.
    ///
    /// # Errors
    /// As [`ImageDisk::open`].
    pub fn snapshot(
        path: &Path,
        format: Format,
        backing: &[PathBuf],
        options: DiskOptions,
    ) -> Result<ImageDisk, DiskError> {
        let base = DiskOptions {
            is_read_only: true,
            ..options
        };
        let base = open(path, format.of(path)?, backing, base)?;
        let layer = layer(base).map_err(|source| DiskError::Host {
            path: path.to_owned(),
            what: "make a layer for a snapshot of",
            source,
        })?;
        ImageDisk::of(path, layer, options.is_read_only)
    }

    fn of(path: &Path, access: Access, is_read_only: bool) -> Result<ImageDisk, DiskError> {
        let capacity = access.size();
        if capacity == 0 || !capacity.is_multiple_of(SECTOR) {
            let (path, len) = (path.to_owned(), capacity);
            return Err(DiskError::Size { path, len });
        }
        Ok(ImageDisk {
            access: Arc::new(RwLock::new(access)),
            capacity,
            is_read_only,
        })
    }
}

/// Open a file, and what it is based on.
fn open(
    path: &Path,
    format: Format,
    backing: &[PathBuf],
    options: DiskOptions,
) -> Result<Access, DiskError> {
    let failed = |what| {
        let path = path.to_owned();
        move |source| DiskError::Host { path, what, source }
    };
    let file = take(path, options, options.is_direct)?;
    let how = StorageOpenOptions::new()
        .filename(path)
        .write(!options.is_read_only)
        .direct(options.is_direct);
    if format == Format::Qcow2 {
        qcow2_header::check(&file).map_err(failed("open the image in"))?;
    }
    let file = imago::file::File::from_open_file(file, how).map_err(failed("open"))?;
    if format != Format::Qcow2 {
        if let [extra, ..] = backing {
            return Err(DiskError::NoBacking {
                path: path.to_owned(),
                named: extra.clone(),
            });
        }
        let raw = Raw::builder(file).write(!options.is_read_only);
        let raw = raw.open(DenyImplicitOpenGate::default());
        return Ok(FormatAccess::new(raw.map_err(failed("open"))?));
    }
    let builder = Image::builder(file)
        .write(!options.is_read_only)
        .backing(None);
    let image = builder.open(DenyImplicitOpenGate::default());
    let mut image = image.map_err(failed("open the image in"))?;
    match (image.implicit_backing_file().cloned(), backing) {
        (None, []) => {}
        (None, [extra, ..]) => {
            return Err(DiskError::NoBacking {
                path: path.to_owned(),
                named: extra.clone(),
            });
        }
        (Some(refers), []) => {
            return Err(DiskError::Backing {
                path: path.to_owned(),
                refers,
            });
        }
        (Some(_), [base, others @ ..]) => {
            let read_only = DiskOptions {
                is_read_only: true,
                ..options
            };
            let base = open(base, Format::Auto.of(base)?, others, read_only)?;
            image.set_backing(Some(Arc::new(base)));
        }
    }
    Ok(FormatAccess::new(image))
}

/// An image in a file without a name, above a disk.
fn layer(base: Access) -> io::Result<Access> {
    let how = || StorageOpenOptions::new().write(true);
    let file = imago::file::File::from_open_file(tempfile::tempfile()?, how())?;
    let size = base.size();
    let image = Image::create_builder(file).size(size).create_open(
        DenyImplicitOpenGate::default(),
        |file| {
            let image = Image::builder(file).write(true);
            Ok(image.backing(Some(Arc::new(base))))
        },
    )?;
    Ok(FormatAccess::new(image))
}

impl BlockBackend for ImageDisk {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    fn block_size(&self) -> u32 {
        BLOCK
    }

    fn engine(&self, _: u16, memory: &GuestMemoryMmap) -> io::Result<Box<dyn Engine>> {
        let runner = |_| {
            Box::new(ImageRunner {
                access: Arc::clone(&self.access),
                memory: memory.clone(),
            }) as Box<dyn Runner>
        };
        let engine = PoolEngine::new((0..THREADS).map(runner).collect())?;
        Ok(Box::new(engine))
    }
}

/// Runs commands on an image.
struct ImageRunner {
    access: Arc<RwLock<Access>>,
    memory: GuestMemoryMmap,
}

impl ImageRunner {
    /// The pieces of guest memory that buffers are.
    fn slices(&self, buffers: &[Buffer]) -> io::Result<Vec<VolatileSlice<'_>>> {
        let pieces = buffers
            .iter()
            .flat_map(|buffer| self.memory.get_slices(buffer.at, buffer.len as usize));
        pieces
            .map(|piece| piece.map_err(io::Error::other))
            .collect()
    }

    /// Have all that was written on the disk.
    fn sync(&self) -> io::Result<()> {
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        access.flush()?;
        access.sync()
    }
}

impl Runner for ImageRunner {
    fn run(&mut self, command: Command, buffers: &[Buffer]) -> io::Result<()> {
        let shared = || self.access.read().unwrap_or_else(PoisonError::into_inner);
        let is_durable = match command {
            Command::Read { at } => {
                let slices = self.slices(buffers)?;
                let (into, _mapped) = IoVectorMut::from_volatile_slice(&slices);
                shared().readv(into, at)?;
                false
            }
            Command::Write { at, is_durable } => {
                let slices = self.slices(buffers)?;
                let (from, _mapped) = IoVector::from_volatile_slice(&slices);
                shared().writev(from, at)?;
                is_durable
            }
            Command::Flush => true,
            Command::Discard { spans, is_durable } => {
                for span in spans {
                    let mut access = self.access.write().unwrap_or_else(PoisonError::into_inner);
                    match access.discard_to_any(span.at, span.len) {
                        // The contents do not matter: they may stay.
                        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                        result => result?,
                    }
                }
                is_durable
            }
            Command::WriteZeroes { spans, is_durable } => {
                for (span, may_unmap) in spans {
                    if may_unmap {
                        let access = self.access.write();
                        let mut access = access.unwrap_or_else(PoisonError::into_inner);
                        access.discard_to_zero(span.at, span.len)?;
                    } else {
                        shared().write_zeroes(span.at, span.len)?;
                    }
                }
                is_durable
            }
        };
        match is_durable {
            true => self.sync(),
            false => Ok(()),
        }
    }
}
