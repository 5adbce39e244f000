//! A raw image: a file, or a block device, whose bytes are the disk's.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use vm_memory::{Bytes, GuestMemoryMmap};
use vmm_sys_util::write_zeroes::{PunchHole, WriteZeroesAt};

use super::{Backend, SECTOR};
use crate::chain::Buffer;

/// Why a file cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be opened.
    #[error("cannot open {}: {source}{}", path.display(), mend(source))]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process uses it: two writers lose data.
    #[error(
        "{} is in use by another process; end that one, or attach both with ro", path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is a folder, a pipe or the like.
    #[error("{} is neither a file nor a block device", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// It has no whole sector, or ends within one.
    #[error(
        "{} has {len} bytes: a disk has whole sectors of 512, at least one; `truncate -s` makes it so",
        path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length.
        len: u64,
    },
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; `truncate -s 64M FILE` makes an empty disk",
        io::ErrorKind::PermissionDenied => "; add ro, or change the file's permissions",
        io::ErrorKind::InvalidInput => "; its filesystem cannot do O_DIRECT: leave direct out",
        _ => "",
    }
}

/// A raw image.
#[derive(Debug)]
pub struct RawFile {
    file: File,
    len: u64,
    read_only: bool,
    id: String,
}

impl RawFile {
    /// Open one, and lock it: for this process alone if it is written, for readers otherwise. `direct`: past the
    /// host's page cache.
    ///
    /// # Errors
    /// [`OpenError`], with the mend.
    pub fn open(path: &Path, read_only: bool, direct: bool) -> Result<Self, OpenError> {
        let fail = |source| OpenError::Open {
            path: path.into(),
            source,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(!read_only);
        // Without O_NONBLOCK a pipe would be waited for.
        let direct = if direct { libc::O_DIRECT } else { 0 };
        options.custom_flags(libc::O_NONBLOCK | direct);
        let mut file = options.open(path).map_err(fail)?;
        let kind = file.metadata().map_err(fail)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(OpenError::Kind { path: path.into() });
        }
        let locked = match read_only {
            true => file.try_lock_shared(),
            false => file.try_lock(),
        };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: path.into() }),
            Err(TryLockError::Error(source)) => return Err(fail(source)),
        }
        let len = file.seek(SeekFrom::End(0)).map_err(fail)?;
        if len == 0 || !len.is_multiple_of(SECTOR) {
            return Err(OpenError::Length {
                path: path.into(),
                len,
            });
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Self {
            file,
            len,
            read_only,
            id: name
                .chars()
                .filter(char::is_ascii_graphic)
                .take(20)
                .collect(),
        })
    }
}

impl Backend for RawFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn read(&mut self, at: u64, memory: &GuestMemoryMmap, into: &[Buffer]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at))?;
        for buffer in into {
            memory
                .read_exact_volatile_from(buffer.at, &mut self.file, buffer.len)
                .map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn write(&mut self, at: u64, memory: &GuestMemoryMmap, from: &[Buffer]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at))?;
        for buffer in from {
            memory
                .write_all_volatile_to(buffer.at, &mut self.file, buffer.len)
                .map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn zero(&mut self, at: u64, len: u64, unmap: bool) -> io::Result<()> {
        // A hole reads as zeros. Where there can be none, zeros are written.
        if unmap && self.file.punch_hole(at, len).is_ok() {
            return Ok(());
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.file.write_all_zeroes_at(at, len)
    }
}
