//! The sectors of a drive in a file, by plain system calls: one after the other, while the processor waits.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use virtio_devices::blk::{BlockBackend, DiskError, DiskOptions, EngineKind, FileDisk};

use super::{SECTOR, Sectors};
use crate::io::{Disk, Format};

/// Why a file cannot be an ATA disk.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file is not one for a disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It was asked for in a way that this drive does not have.
    #[error("an ATA disk has no {what}; leave that out, or use virtio (--io pv)")]
    Option {
        /// What it was asked for.
        what: &'static str,
    },
}

/// A file of sectors, open and locked.
pub struct FileSectors {
    disk: FileDisk,
    serial: String,
}

impl FileSectors {
    /// Open and lock a disk's file.
    ///
    /// # Errors
    /// [`FileError`], with the mend.
    pub fn open(disk: &Disk) -> Result<Self, FileError> {
        let what = match disk {
            Disk {
                vhost_user: true, ..
            } => Some("vhost-user"),
            Disk { direct: true, .. } => Some("way past the host's page cache"),
            Disk {
                engine: EngineKind::IoUring,
                ..
            } => Some("io_uring"),
            Disk { queues: 2.., .. } => Some("queues"),
            Disk { snapshot: true, .. } => Some("snapshots"),
            Disk { limits, .. } if limits.is_some() => Some("limits"),
            Disk { backing, .. } if !backing.is_empty() => Some("images"),
            Disk { format, path, .. } if format.of(path)? == Format::Qcow2 => Some("images"),
            _ => None,
        };
        if let Some(what) = what {
            return Err(FileError::Option { what });
        }
        let options = DiskOptions {
            is_read_only: disk.read_only,
            is_direct: false,
            engine: EngineKind::Sync,
        };
        Ok(Self {
            disk: FileDisk::open(&disk.path, options)?,
            serial: disk.id(),
        })
    }

    fn file(&self) -> &File {
        self.disk.file()
    }
}

/// Where a sector begins, in bytes.
fn offset(sector: u64) -> io::Result<u64> {
    let bytes = sector.checked_mul(SECTOR as u64);
    bytes.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

impl Sectors for FileSectors {
    fn count(&self) -> u64 {
        self.disk.capacity() / SECTOR as u64
    }

    fn is_read_only(&self) -> bool {
        self.disk.is_read_only()
    }

    fn serial(&self) -> &str {
        &self.serial
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> io::Result<()> {
        self.file().read_exact_at(into, offset(sector)?)
    }

    fn write(&mut self, sector: u64, from: &[u8]) -> io::Result<()> {
        self.file().write_all_at(from, offset(sector)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().sync_data()
    }
}
