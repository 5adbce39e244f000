//! Devices as the user asks for them.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use virtio_devices::balloon;
use virtio_devices::blk::{Block, BlockBackend, DiskError, DiskOptions, FileDisk, ImageDisk};
use virtio_devices::rng::Rng;
use virtio_devices::vhost_user::VhostUser;

use super::console::{Console, Kept};
use super::net::{Net, NetCarrier};
use crate::memory::{Memory, Spare};

pub use virtio_devices::blk::{EngineKind as Engine, Format};
pub use virtio_devices::rate::Limits;

/// The size of a page, in bytes.
const PAGE: u64 = 4096;

/// A device to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// virtio-blk.
    Disk(Disk),
    /// virtio-rng, of the host's getrandom.
    Rng,
    /// virtio-net.
    Net(Net),
    /// virtio-console.
    Console(Console),
    /// virtio-vsock.
    Vsock(Vsock),
    /// virtio-balloon: how much of its memory the guest is asked to give up, in bytes.
    Balloon(u64),
}

/// Sockets between host and guest, by Firecracker's convention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vsock {
    /// The guest's context id: 3 to 0xffff_fffe.
    pub cid: u64,
    /// The Unix socket for connections to the guest. Those of the guest to port N go to the socket of
    /// this name with `_N` behind it.
    pub path: PathBuf,
}

/// How virtio devices are connected; other than by default only to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// Whether VIRTIO_F_EVENT_IDX is offered.
    pub event_idx: bool,
    /// Whether a doorbell is an ioeventfd, rather than an exit to this process.
    pub ioeventfd: bool,
    /// Whether an interrupt is an irqfd, rather than an ioctl of the device's thread.
    pub irqfd: bool,
}

impl Default for Wiring {
    fn default() -> Self {
        Self {
            event_idx: true,
            ioeventfd: true,
            irqfd: true,
        }
    }
}

/// An open device, and what goes with it.
pub(super) struct Opened {
    pub model: Box<dyn virtio_devices::Device>,
    pub kept: Kept,
    pub place: Option<String>,
    pub balloon: Option<balloon::Handle>,
}

impl Opened {
    fn of(model: impl virtio_devices::Device + 'static) -> Self {
        Self {
            model: Box::new(model),
            kept: Kept::Nothing,
            place: None,
            balloon: None,
        }
    }
}

/// What does not go with a disk that another process serves.
const SERVED_DISK: &str = "of a vhost-user disk, queues= alone is said here; give the rest to the program that \
    serves it";

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The file that has its sectors, or the Unix socket of the process that serves it.
    pub path: PathBuf,
    /// Whether `path` is the socket of a process that serves the disk (vhost-user). All else about the
    /// disk but its queues is that process' affair, and refused here.
    pub vhost_user: bool,
    /// Whether the guest may not write.
    pub read_only: bool,
    /// Whether the host's page cache is passed by (O_DIRECT).
    pub direct: bool,
    /// How the host's kernel is asked for I/O.
    pub engine: Engine,
    /// How many queues take requests: 1 to 8.
    pub queues: u16,
    /// How the file holds the disk.
    pub format: Format,
    /// The files that an image is based on, the topmost first.
    pub backing: Vec<PathBuf>,
    /// Whether writes go to a layer that is gone with the machine.
    pub snapshot: bool,
    /// How much may be done in a time.
    pub limits: Limits,
}

impl Device {
    /// Whether another process serves it, and has to reach the guest's memory.
    pub(crate) fn is_served_elsewhere(&self) -> bool {
        match self {
            Self::Disk(disk) => disk.vhost_user,
            Self::Net(net) => matches!(net.carrier, NetCarrier::VhostUser(_)),
            _ => false,
        }
    }

    /// How much it may do in a time.
    pub(super) fn limits(&self) -> Limits {
        match self {
            Self::Disk(disk) => disk.limits,
            Self::Net(net) => net.limits,
            _ => Limits::default(),
        }
    }

    /// The device, with what it needs open. `number` is its place among the devices.
    ///
    /// # Errors
    /// What it needs is not there, with the mend.
    pub(super) fn open(
        &self,
        number: u8,
        memory: &Memory,
    ) -> Result<Opened, Box<dyn Error + Send + Sync>> {
        Ok(match self {
            Self::Disk(disk) if disk.vhost_user => Opened::of(disk.dial()?),
            Self::Disk(disk) => {
                let backend = disk.open()?;
                Opened::of(Block::new(backend, &disk.id(), disk.queues))
            }
            Self::Rng => Opened::of(Rng),
            Self::Net(net) => match &net.carrier {
                NetCarrier::VhostUser(path) => Opened::of(net.dial(path, number)?),
                _ => Opened::of(net.open(number)?),
            },
            Self::Console(console) => {
                let console = console.open()?;
                Opened {
                    kept: console.kept,
                    place: console.place,
                    ..Opened::of(console.device)
                }
            }
            Self::Vsock(vsock) => {
                Opened::of(virtio_devices::vsock::Vsock::new(vsock.cid, &vsock.path)?)
            }
            Self::Balloon(bytes) => {
                let most = memory.ram_bytes();
                if *bytes > most {
                    return Err(format!("it asks for {bytes} bytes, the guest has {most}").into());
                }
                let device = balloon::Balloon::new(Arc::new(Spare::of(memory)));
                let handle = device.handle();
                // The guest has 256 GiB at most.
                handle.set_target(u32::try_from(bytes / PAGE).unwrap_or(u32::MAX));
                Opened {
                    balloon: Some(handle),
                    ..Opened::of(device)
                }
            }
        })
    }
}

impl Disk {
    /// A disk in this file, written, through the host's page cache, with one queue.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            vhost_user: false,
            read_only: false,
            direct: false,
            engine: Engine::Auto,
            queues: 1,
            format: Format::Auto,
            backing: Vec::new(),
            snapshot: false,
            limits: Limits::default(),
        }
    }

    /// The device whose queues another process serves.
    ///
    /// # Errors
    /// The process is not there, or the disk was asked for in a way that only that process could grant.
    fn dial(&self) -> Result<VhostUser, Box<dyn Error + Send + Sync>> {
        let plain = Self {
            vhost_user: true,
            queues: self.queues,
            ..Self::new(&self.path)
        };
        if *self != plain {
            return Err(SERVED_DISK.into());
        }
        Ok(VhostUser::disk(&self.path, self.queues)?)
    }

    /// What is behind the device.
    ///
    /// # Errors
    /// [`DiskError`], with the file's name and the mend.
    pub(crate) fn open(&self) -> Result<Box<dyn BlockBackend>, DiskError> {
        let options = DiskOptions {
            is_read_only: self.read_only,
            is_direct: self.direct,
            engine: self.engine,
        };
        let (path, backing) = (&self.path, self.backing.as_slice());
        if self.snapshot {
            let disk = ImageDisk::snapshot(path, self.format, backing, options)?;
            return Ok(Box::new(disk));
        }
        Ok(match self.format.of(path)? {
            Format::Qcow2 => Box::new(ImageDisk::open(path, backing, options)?),
            Format::Auto | Format::Raw => match backing {
                [] => Box::new(FileDisk::open(path, options)?),
                [named, ..] => {
                    let (path, named) = (path.clone(), named.clone());
                    return Err(DiskError::NoBacking { path, named });
                }
            },
        })
    }

    /// What the guest is told as its name: the file's.
    pub(crate) fn id(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(disk) if disk.vhost_user => {
                write!(f, "the disk at socket {}", disk.path.display())
            }
            Self::Disk(disk) => write!(f, "the disk {}", disk.path.display()),
            Self::Rng => f.write_str("the source of random numbers"),
            Self::Net(net) => net.fmt(f),
            Self::Console(console) => console.fmt(f),
            Self::Vsock(vsock) => write!(f, "the sockets at {}", vsock.path.display()),
            Self::Balloon(_) => f.write_str("the balloon"),
        }
    }
}
