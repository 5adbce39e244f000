//! Unix sockets of the host's: the one that is listened at, and those that the guest connects to.
//! Called by the device and its data path.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::wire::HOST;

/// Why there is no socket device.
#[derive(Debug, thiserror::Error)]
pub enum VsockError {
    /// A context identifier that no guest may have (virtio 1.2, 5.10.4).
    #[error("a guest's CID cannot be {cid}: choose one from 3 to 4294967294")]
    Cid {
        /// What was asked for.
        cid: u64,
    },
    /// Something has the socket's name.
    #[error(
        "{path:?} exists: if no other machine uses it, remove it; otherwise choose another path"
    )]
    Exists {
        /// The socket's path.
        path: PathBuf,
    },
    /// The names of the sockets that the guest connects to would be too long.
    #[error("{path:?} is too long for a socket: {max} bytes are allowed")]
    TooLong {
        /// The socket's path.
        path: PathBuf,
        /// How long it may be.
        max: usize,
    },
    /// The host refused the socket.
    #[error(
        "cannot listen at {path:?} ({source}): the folder must exist, and be yours to write to"
    )]
    Listen {
        /// The socket's path.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
}

/// How long a socket's path may be, a zero at its end left out (unix(7)), less what a port adds.
const LONGEST: usize = 107 - "_4294967295".len();

/// The socket that programs connect to; its file is removed with it.
pub(super) struct Entrance {
    pub listener: UnixListener,
    path: PathBuf,
    /// Which file it is: what has its name later may be another's.
    file: Option<(u64, u64)>,
}

impl Entrance {
    /// Listen at a path that nothing has.
    pub fn open(path: &Path) -> Result<Entrance, VsockError> {
        let owned = || path.to_path_buf();
        if path.as_os_str().len() > LONGEST {
            return Err(VsockError::TooLong {
                path: owned(),
                max: LONGEST,
            });
        }
        // The name is looked at and made in one step: by bind.
        let listener = UnixListener::bind(path).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => VsockError::Exists { path: owned() },
            _ => VsockError::Listen {
                path: owned(),
                source,
            },
        })?;
        let file = identity(path);
        let entrance = Entrance {
            listener,
            path: owned(),
            file,
        };
        let prepared = entrance.listener.set_nonblocking(true);
        prepared.map_err(|source| VsockError::Listen {
            path: owned(),
            source,
        })?;
        Ok(entrance)
    }

    /// Connect to the socket that stands for a port, at once or not at all.
    pub fn connect(&self, port: u32) -> io::Result<File> {
        let mut path = self.path.clone().into_os_string();
        path.push(format!("_{port}"));
        let address = SocketAddrUnix::new(PathBuf::from(path))?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &address)?;
        Ok(socket.into())
    }

    /// The next program that waits.
    pub fn accept(&self) -> io::Result<File> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok(OwnedFd::from(stream).into())
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        if self.file.is_some() && identity(&self.path) == self.file {
            // Nothing is left to do about one that cannot be removed.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Which file a name is.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let data = fs::symlink_metadata(path).ok()?;
    Some((data.dev(), data.ino()))
}

/// Whether a guest may have a context identifier: not one with a meaning of its own, nor one for any.
pub(super) fn check_cid(cid: u64) -> Result<(), VsockError> {
    match cid > HOST && cid < u64::from(u32::MAX) {
        true => Ok(()),
        false => Err(VsockError::Cid { cid }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_made_with_care_and_taken_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("v.sock");
        let first = Entrance::open(&path).expect("nothing is there");
        let error = Entrance::open(&path).err().expect("it exists").to_string();
        assert!(
            error.contains("v.sock") && error.contains("remove it"),
            "{error}"
        );
        assert!(path.exists(), "the second leaves the first's file alone");
        drop(first);
        assert!(!path.exists());
        // A file of somebody else's that has the name by now stays.
        let second = Entrance::open(&path).expect("nothing is there");
        fs::remove_file(&path).expect("is there");
        fs::write(&path, "mine").expect("room");
        drop(second);
        assert_eq!(fs::read_to_string(&path).expect("is there"), "mine");
        let error = Entrance::open(&path).err().expect("it exists");
        assert!(matches!(error, VsockError::Exists { .. }));
    }

    #[test]
    fn a_socket_that_cannot_be_says_why() {
        let error = Entrance::open(Path::new("/nowhere/v.sock")).err();
        let error = error.expect("no folder").to_string();
        assert!(
            error.contains("/nowhere/v.sock") && error.contains("folder"),
            "{error}"
        );
        let long = PathBuf::from("/tmp").join("x".repeat(LONGEST));
        assert!(matches!(
            Entrance::open(&long),
            Err(VsockError::TooLong { .. })
        ));
        for cid in [0, 1, 2, u64::from(u32::MAX), 1 << 32] {
            let error = check_cid(cid).expect_err("not a guest's").to_string();
            assert!(error.contains(&cid.to_string()), "{error}");
        }
        assert!(check_cid(3).is_ok() && check_cid(0xffff_fffe).is_ok());
    }
}
