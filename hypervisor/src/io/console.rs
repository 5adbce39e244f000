//! Virtio consoles as the user asks for them, and what they are connected to.

use std::error::Error;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, PipeWriter};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::relay::Relay;

/// A virtio console: what its other side is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Console {
    /// A terminal that the host makes; whoever opens its name sits at it.
    Pty,
    /// A file that gets what the guest writes; nothing is typed.
    File(PathBuf),
    /// A Unix socket that is made at a path, for one client at a time. What the guest writes while
    /// there is none waits, up to what the host's socket buffers hold.
    Socket(PathBuf),
    /// The process' standard output; what is typed at the machine ([`Keyboard`](crate::Keyboard)) is
    /// typed here, and no longer at the console that every machine has.
    Stdio,
}

/// An open console.
pub(super) struct Opened {
    pub device: virtio_devices::console::Console,
    /// What must be kept as long as the machine runs.
    pub kept: Kept,
    /// Where people find it, if they cannot know.
    pub place: Option<String>,
}

/// What a console needs beside its device.
#[derive(Debug)]
pub(super) enum Kept {
    /// Nothing.
    Nothing,
    /// The side of a terminal that its users open: were it closed, each user who leaves would be a
    /// hang-up for the device.
    Terminal { _side: OwnedFd },
    /// Where what is typed goes; never waits.
    Typing(Arc<PipeWriter>),
    /// Leads a client's bytes to the device and back.
    Socket { _relay: Relay },
}

impl Console {
    /// The device, connected.
    ///
    /// # Errors
    /// What it needs cannot be had, with the mend.
    pub(super) fn open(&self) -> Result<Opened, Box<dyn Error + Send + Sync>> {
        use virtio_devices::console::Console as Device;
        Ok(match self {
            Self::Pty => {
                let (device, side, name) = terminal()?;
                Opened {
                    device: Device::new(device.try_clone()?, device),
                    kept: Kept::Terminal { _side: side },
                    place: Some(name),
                }
            }
            Self::File(path) => {
                let file = File::create(path)
                    .map_err(|error| format!("{error}; name a file that you may write"))?;
                Opened {
                    device: Device::new(nothing()?, file.into()),
                    kept: Kept::Nothing,
                    place: None,
                }
            }
            Self::Socket(path) => {
                let (relay, end) = Relay::listen(path)?;
                Opened {
                    device: Device::new(end.try_clone()?, end),
                    kept: Kept::Socket { _relay: relay },
                    place: None,
                }
            }
            Self::Stdio => {
                let output = io::stdout().as_fd().try_clone_to_owned()?;
                let (input, typing) = io::pipe()?;
                let flags = fcntl_getfl(&typing)?;
                fcntl_setfl(&typing, flags | OFlags::NONBLOCK)?;
                Opened {
                    device: Device::new(input.into(), output),
                    kept: Kept::Typing(Arc::new(typing)),
                    place: None,
                }
            }
        })
    }
}

/// Make a terminal: the device's side, the users' side, its name.
fn terminal() -> io::Result<(OwnedFd, OwnedFd, String)> {
    let device = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&device)?;
    unlockpt(&device)?;
    let name = ptsname(&device, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let side = open(name.as_c_str(), flags, Mode::empty())?;
    // The guest's driver does echo and lines, not the host's.
    let mut modes = tcgetattr(&side)?;
    modes.make_raw();
    tcsetattr(&side, OptionalActions::Now, &modes)?;
    Ok((device, side, name.to_string_lossy().into_owned()))
}

/// A file in which nothing is ever typed.
fn nothing() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).open("/dev/null")?.into())
}

impl fmt::Display for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pty => f.write_str("the console on a terminal"),
            Self::File(path) => write!(f, "the console in {}", path.display()),
            Self::Socket(path) => write!(f, "the console at socket {}", path.display()),
            Self::Stdio => f.write_str("the console on standard input and output"),
        }
    }
}
