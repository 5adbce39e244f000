//! One end of a console: a descriptor that is asked whether it is ready, and only then read or
//! written, so that no system call waits. Its mode is left alone: O_NONBLOCK would be set for every
//! process that shares a terminal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};

/// The most bytes of one write: as many as a pipe or a terminal that is ready takes without waiting
/// (PIPE_BUF is 4096; a terminal is ready when it has room for less).
const PIECE: usize = 512;

/// See the module.
pub(super) struct End {
    file: Arc<File>,
    /// epoll(7) takes no regular files; they are always ready.
    is_regular: bool,
    /// The other side is gone, or the file has ended.
    is_closed: bool,
}

impl End {
    pub fn new(file: Arc<File>) -> io::Result<End> {
        let kind = FileType::from_raw_mode(fstat(&file)?.st_mode);
        Ok(End {
            file,
            is_regular: kind == FileType::RegularFile,
            is_closed: false,
        })
    }

    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Whether nothing will come of it any more.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether one may have to wait for it, and can.
    pub fn may_wait(&self) -> bool {
        !self.is_regular
    }

    /// Read what is there; none when one has to wait. An end is no error, but closes it.
    pub fn read(&mut self, into: &mut [u8]) -> Option<usize> {
        if self.is_closed || !self.is_ready(PollFlags::IN) {
            return None;
        }
        match (&*self.file).read(into) {
            Ok(count) if count > 0 => Some(count),
            Err(error) if is_transient(&error) => None,
            Ok(_) | Err(_) => {
                self.is_closed = true;
                None
            }
        }
    }

    /// Write some; none when one has to wait. What nobody reads any more counts as written.
    pub fn write(&mut self, from: &[u8]) -> Option<usize> {
        if self.is_closed {
            return Some(from.len());
        }
        if !self.is_ready(PollFlags::OUT) {
            return None;
        }
        let piece = from.get(..PIECE).unwrap_or(from);
        match (&*self.file).write(piece) {
            Ok(count) => Some(count),
            Err(error) if is_transient(&error) => None,
            Err(_) => {
                self.is_closed = true;
                Some(from.len())
            }
        }
    }

    /// Whether a system call would not wait; an end that is gone does not.
    fn is_ready(&self, what: PollFlags) -> bool {
        if self.is_regular {
            return true;
        }
        let mut fds = [PollFd::new(&*self.file, what)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|count| count > 0)
    }
}

/// Errors that pass: a signal, or another who was faster.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}
