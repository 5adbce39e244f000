//! Feeds what arrives at standard input to the guest's console, on a thread of its own, until the
//! input ends or the run does. `unsafe` for one system call: poll.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::thread::{self, JoinHandle};

use hypervisor::{Keyboard, StopReason};

use crate::ending::Ending;
use crate::terminal::{Key, KeyFilter};

/// Bytes read at once.
const CHUNK: usize = 4096;
/// Ctrl-D: what a terminal's driver takes for the end of the input (POSIX, EOF).
const END_OF_INPUT: u8 = 4;
/// How long to wait while the guest's console has no room, in milliseconds.
const FULL_WAIT_MS: i32 = 10;

/// What standard input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A person types.
    Terminal,
    /// A file, pipe or socket.
    Stream,
    /// Nothing that could ever hold input, such as /dev/null.
    Nothing,
}

/// Look what standard input is.
pub fn source() -> Source {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Source::Terminal;
    }
    let kind = stdin
        .as_fd()
        .try_clone_to_owned()
        .and_then(|fd| File::from(fd).metadata());
    match kind.map(|metadata| metadata.file_type()) {
        Ok(kind) if kind.is_file() || kind.is_fifo() || kind.is_socket() => Source::Stream,
        _ => Source::Nothing,
    }
}

/// Feeds input; dropping it ends that.
#[must_use = "dropping it ends the input"]
pub struct Feeder {
    /// Closing it ends the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    /// Feed standard input to `keyboard`. With `filter` the user's own keys are taken out of it.
    ///
    /// # Errors
    /// The error of the system call that failed.
    pub fn start(
        keyboard: Keyboard,
        filter: Option<KeyFilter>,
        ending: &Ending,
    ) -> io::Result<Self> {
        let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let (stopped, stop) = io::pipe()?;
        let ending = ending.clone();
        let feed = move || match filter {
            Some(filter) => type_keys(input, &stopped, &keyboard, filter, &ending),
            None => pass_stream(input, &stopped, &keyboard),
        };
        let thread = thread::Builder::new().name("input".into()).spawn(feed)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It ends by itself; a panic in it ended the process already.
            let _ = thread.join();
        }
    }
}

/// Keys that find the guest's console full are lost, as on a UART: Ctrl-C must go on working.
fn type_keys(
    mut input: File,
    stopped: &PipeReader,
    keyboard: &Keyboard,
    mut filter: KeyFilter,
    ending: &Ending,
) {
    while let Some(bytes) = next_bytes(&mut input, stopped) {
        let mut keys = Vec::new();
        let key = filter.feed(&bytes, &mut keys);
        keyboard.type_bytes(&keys);
        if key == Key::Quit {
            return ending.end(StopReason::Signal(libc::SIGINT));
        }
    }
}

/// Nothing of a file or pipe is lost: what finds the guest's console full waits. Its end reaches the
/// guest as Ctrl-D on a line of its own, as a terminal's does.
fn pass_stream(mut input: File, stopped: &PipeReader, keyboard: &Keyboard) {
    let mut last = b'\n';
    while let Some(bytes) = next_bytes(&mut input, stopped) {
        last = bytes.last().copied().unwrap_or(last);
        if !pass(&bytes, stopped, keyboard) {
            return;
        }
    }
    let end: &[u8] = if matches!(last, b'\n' | b'\r') {
        &[END_OF_INPUT]
    } else {
        &[b'\n', END_OF_INPUT]
    };
    pass(end, stopped, keyboard);
}

/// Type bytes, all of them; false when the run has ended meanwhile.
fn pass(bytes: &[u8], stopped: &PipeReader, keyboard: &Keyboard) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        let taken = keyboard.type_bytes(rest);
        rest = rest.get(taken..).unwrap_or_default();
        if !rest.is_empty() && wait_for(None, stopped, FULL_WAIT_MS) == Ready::Stopped {
            return false;
        }
    }
    true
}

/// What arrived; `None` when nothing more will, or the run has ended.
fn next_bytes(input: &mut File, stopped: &PipeReader) -> Option<Vec<u8>> {
    let mut bytes = vec![0; CHUNK];
    loop {
        match wait_for(Some(input.as_fd()), stopped, -1) {
            Ready::Stopped => return None,
            Ready::Not => continue,
            Ready::Input => {}
        }
        match input.read(&mut bytes) {
            Ok(0) => return None,
            Ok(count) => {
                bytes.truncate(count);
                return Some(bytes);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            // The terminal is gone, or this process may not read it: no input, like at its end.
            Err(_) => return None,
        }
    }
}

#[derive(PartialEq, Eq)]
enum Ready {
    Input,
    Stopped,
    Not,
}

fn wait_for(input: Option<BorrowedFd<'_>>, stopped: &PipeReader, limit_ms: i32) -> Ready {
    let entry = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // poll ignores a negative descriptor.
    let input = input.map_or(-1, |fd| fd.as_raw_fd());
    let mut polled = [entry(stopped.as_raw_fd()), entry(input)];
    // SAFETY: the array has the two entries that are announced and outlives the call.
    let count = unsafe { libc::poll(polled.as_mut_ptr(), 2, limit_ms) };
    match polled {
        _ if count <= 0 => Ready::Not,
        [stopped, _] if stopped.revents != 0 => Ready::Stopped,
        _ => Ready::Input,
    }
}
