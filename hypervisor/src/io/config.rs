//! Devices as the user asks for them.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use virtio_devices::blk::{Blk, RawFile};
use virtio_devices::rng::Rng;

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
                let file = RawFile::open(&disk.path, disk.read_only, disk.direct)?;
                Box::new(Blk::new(Box::new(file)))
            }
            Self::Rng => Box::new(Rng::new()?),
        })
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
