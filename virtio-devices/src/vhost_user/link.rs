//! The connection to the process that serves a device. Called by the device, on a vCPU's thread, and by its
//! data path. Each exchange has an end: a guard shuts the socket down when its time is over.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use vhost::vhost_user::Frontend;

/// How long the other process may take for one exchange of messages.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Why the process that serves a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VhostUserError {
    /// Nobody is there.
    #[error("{}: {source}; {}", path.display(), mend(source))]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// It did not answer in time.
    #[error(
        "the program at {} did not answer for {} s: it is hung, or is no vhost-user back end",
        path.display(),
        ANSWER_LIMIT.as_secs()
    )]
    Silent {
        /// The socket.
        path: PathBuf,
    },
    /// It refused a request, or answered what is no answer to it.
    #[error("the program at {} refused a vhost-user request, or answered nonsense: {source}", path.display())]
    Answer {
        /// The socket.
        path: PathBuf,
        /// What was wrong.
        source: vhost::Error,
    },
    /// It lacks what every device here needs.
    #[error("the program at {} has no {what}, without which it cannot serve a device here", path.display())]
    Lacks {
        /// The socket.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// It has fewer queues than were asked for.
    #[error("the program at {} has {has} queues, not {wanted}: use queues={has}, or have it offer more", path.display())]
    Queues {
        /// The socket.
        path: PathBuf,
        /// What it has.
        has: u64,
        /// What was asked for.
        wanted: u16,
    },
    /// The connection has ended.
    #[error("the program at {} is gone: start it again, then the machine", path.display())]
    Gone {
        /// The socket.
        path: PathBuf,
    },
    /// The guest's memory has no file behind it that could be given away.
    #[error("the guest's memory is not shared, so that the program at {} cannot reach it", path.display())]
    Private {
        /// The socket.
        path: PathBuf,
    },
    /// The host refused what an exchange needs.
    #[error("the host refused {what}: {source}")]
    Host {
        /// What was asked for.
        what: &'static str,
        /// The host's reason.
        source: io::Error,
    },
}

/// What to do when nobody is there.
fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "start the program that serves the device first; it makes the socket"
        }
        io::ErrorKind::ConnectionRefused => {
            "nobody listens there; start the program that serves the device again"
        }
        io::ErrorKind::PermissionDenied => "let this user write to the socket",
        io::ErrorKind::WouldBlock => "the program that listens there takes no connection",
        _ => "name the Unix socket (SOCK_STREAM) of a vhost-user back end",
    }
}

/// See the module.
pub(super) struct Link {
    front: Frontend,
    socket: UnixStream,
    path: PathBuf,
    /// Nothing can be asked any more.
    is_over: AtomicBool,
}

impl Link {
    /// Connect to who listens at a socket.
    pub fn connect(path: &Path, queues: u16) -> Result<Link, VhostUserError> {
        let fail = |source| VhostUserError::Connect {
            path: path.to_owned(),
            source,
        };
        let socket = dial(path).map_err(fail)?;
        let front = Frontend::from_stream(socket.try_clone().map_err(fail)?, queues.into());
        Ok(Link {
            front,
            socket,
            path: path.to_owned(),
            is_over: AtomicBool::new(false),
        })
    }

    /// Where it was connected to.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The socket, to wait for its end.
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The other end is gone.
    pub fn gone(&self) -> VhostUserError {
        self.end();
        VhostUserError::Gone { path: self.path() }
    }

    /// Ask for nothing any more; the other process sees the end of the connection.
    fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        // It fails when the other end has shut it down already.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }

    /// Ask, and wait for the answers, for [`ANSWER_LIMIT`] altogether. `Frontend` waits by itself for
    /// ever, timeouts of the socket included; so a guard ends the connection when the time is over.
    ///
    /// # Errors
    /// [`VhostUserError`]; the connection is over then.
    pub fn exchange<T>(
        &self,
        ask: impl FnOnce(&mut Frontend) -> vhost::Result<T>,
    ) -> Result<T, VhostUserError> {
        if self.is_over.load(Ordering::Relaxed) {
            return Err(VhostUserError::Gone { path: self.path() });
        }
        let is_late = AtomicBool::new(false);
        let (answered, is_answered) = mpsc::channel::<()>();
        let asked = thread::scope(|scope| {
            let late = &is_late;
            let guard = move || {
                if is_answered.recv_timeout(ANSWER_LIMIT) == Err(RecvTimeoutError::Timeout) {
                    late.store(true, Ordering::SeqCst);
                    self.end();
                }
            };
            let spawned = thread::Builder::new()
                .name("vhost-user".into())
                .spawn_scoped(scope, guard);
            spawned.map_err(|source| VhostUserError::Host {
                what: "a thread that watches the time",
                source,
            })?;
            let asked = ask(&mut self.front.clone());
            // Its end is what the guard waits for.
            drop(answered);
            Ok(asked)
        });
        let path = self.path();
        let asked = asked.inspect_err(|_| self.end())?;
        asked.map_err(|source| {
            self.end();
            match is_late.load(Ordering::SeqCst) {
                true => VhostUserError::Silent { path },
                false if is_hang_up(&source) => VhostUserError::Gone { path },
                false => VhostUserError::Answer { path, source },
            }
        })
    }
}

/// Whether an exchange failed because the other end has hung up.
fn is_hang_up(error: &vhost::Error) -> bool {
    use vhost::vhost_user::Error::{Disconnected, PartialMessage, SocketBroken};
    matches!(
        error,
        vhost::Error::VhostUserProtocol(Disconnected | PartialMessage | SocketBroken(_))
    )
}

/// Connect, without waiting for a listener that takes no connection.
fn dial(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let socket = UnixStream::from(socket);
    socket.set_nonblocking(false)?;
    Ok(socket)
}
