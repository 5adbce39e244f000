//! Devices as the user asks for them.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use virtio_devices::blk::{Block, DiskOptions, FileDisk};
use virtio_devices::rng::Rng;

pub use virtio_devices::blk::EngineKind as Engine;

/// A device to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// virtio-blk.
    Disk(Disk),
    /// virtio-rng, of the host's getrandom.
    Rng,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The file that has its sectors.
    pub path: PathBuf,
    /// Whether the guest may not write.
    pub read_only: bool,
    /// Whether the host's page cache is passed by (O_DIRECT).
    pub direct: bool,
    /// How the host's kernel is asked for I/O.
    pub engine: Engine,
}

impl Device {
    /// The device, with its file open.
    ///
    /// # Errors
    /// What it needs is not there, with the mend.
    pub(super) fn open(
        &self,
    ) -> Result<Box<dyn virtio_devices::Device>, Box<dyn Error + Send + Sync>> {
        Ok(match self {
            Self::Disk(disk) => {
                let options = DiskOptions {
                    is_read_only: disk.read_only,
                    is_direct: disk.direct,
                    engine: disk.engine,
                };
                let file = FileDisk::open(&disk.path, options)?;
                Box::new(Block::new(Box::new(file), &disk.id()))
            }
            Self::Rng => Box::new(Rng),
        })
    }
}

impl Disk {
    /// What the guest is told as its name: the file's.
    pub(crate) fn id(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(disk) => write!(f, "the disk {}", disk.path.display()),
            Self::Rng => f.write_str("the source of random numbers"),
        }
    }
}
