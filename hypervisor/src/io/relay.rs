//! A Unix socket for clients that come and go, on one side; on the other, a stream that stays. One
//! thread, asleep while nothing moves.

use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};

/// How many bytes are held for a side that is slower.
const CHUNK: usize = 4096;

/// Leads bytes between a client and the stream; dropping it ends that, and takes the socket away.
#[derive(Debug)]
pub(super) struct Relay {
    /// Closing it ends the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Relay {
    /// Make a socket at a path; returns the stream's other end.
    ///
    /// # Errors
    /// The host's, with the mend where something is in the way.
    pub fn listen(path: &Path) -> Result<(Self, OwnedFd), String> {
        let fail = |error: io::Error| error.to_string();
        let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => {
                format!("{error}; remove {} if nobody uses it", path.display())
            }
            _ => format!("{error}; name a path in a directory that you may write"),
        })?;
        let path = path.to_owned();
        let (stream, end) = UnixStream::pair().map_err(fail)?;
        let (stopped, stop) = io::pipe().map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        stream.set_nonblocking(true).map_err(fail)?;
        let work = move || {
            // What ends it is that the other end is gone, or the host's poll: nobody is left to tell.
            let _ = lead(&listener, stream, &stopped);
        };
        let thread = thread::Builder::new().name("relay".into()).spawn(work);
        let relay = Self {
            stop: Some(stop),
            thread: Some(thread.map_err(fail)?),
            path,
        };
        Ok((relay, end.into()))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It never panics on purpose; a panic was printed.
            let _ = thread.join();
        }
        // It is ours: bind made it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One direction: what was read and not yet written.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
}

impl Held {
    /// Read what is there; false at the end of the stream.
    fn fill(&mut self, from: &mut UnixStream) -> io::Result<bool> {
        let mut chunk = [0; CHUNK];
        match from.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(len) => {
                self.bytes.extend(chunk.iter().take(len));
                Ok(true)
            }
            Err(error) if is_for_later(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Write what the other side takes.
    fn empty(&mut self, to: &mut UnixStream) -> io::Result<()> {
        match to.write(&self.bytes) {
            Ok(len) => {
                self.bytes.drain(..len.min(self.bytes.len()));
                Ok(())
            }
            Err(error) if is_for_later(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Lead bytes until told to stop, or until the stream's other end is gone.
fn lead(listener: &UnixListener, mut stream: UnixStream, stop: &PipeReader) -> io::Result<()> {
    let mut client: Option<UnixStream> = None;
    let (mut to_client, mut to_stream) = (Held::default(), Held::default());
    loop {
        // Without a client nothing is taken off the stream: it waits there.
        let stream_wants = wanted(client.is_some() && to_client.bytes.is_empty(), &to_stream);
        let client_wants = wanted(to_stream.bytes.is_empty(), &to_client);
        let there = ready(listener, &client, &stream, stop, stream_wants, client_wants)?;
        if !there.stop.is_empty() {
            return Ok(());
        }
        if client.is_none() && !there.client.is_empty() {
            client = accept(listener)?;
            continue;
        }
        let Some(other) = client.as_mut() else {
            if there.stream.intersects(GONE) {
                return Ok(());
            }
            to_stream.empty(&mut stream)?;
            continue;
        };
        if there.client.intersects(PollFlags::IN | GONE) {
            match to_stream.fill(other) {
                Ok(true) => {}
                // What it had not read yet is lost with it, as on a terminal that hangs up.
                Ok(false) | Err(_) => {
                    client = None;
                    to_client.bytes.clear();
                    continue;
                }
            }
        }
        if there.stream.intersects(PollFlags::IN | GONE) && !to_client.fill(&mut stream)? {
            return Ok(());
        }
        // A client that is gone shows when it is read next.
        let _ = to_client.empty(other);
        to_stream.empty(&mut stream)?;
    }
}

const GONE: PollFlags = PollFlags::HUP.union(PollFlags::ERR);

/// What to wait for at a side.
fn wanted(may_read: bool, to_it: &Held) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, may_read);
    flags.set(PollFlags::OUT, !to_it.bytes.is_empty());
    flags
}

/// What is ready.
struct Ready {
    stop: PollFlags,
    stream: PollFlags,
    /// The client, or the listener where there is none.
    client: PollFlags,
}

fn ready(
    listener: &UnixListener,
    client: &Option<UnixStream>,
    stream: &UnixStream,
    stop: &PipeReader,
    stream_wants: PollFlags,
    client_wants: PollFlags,
) -> io::Result<Ready> {
    let (other, wants): (BorrowedFd<'_>, _) = match client {
        Some(client) => (client.as_fd(), client_wants),
        None => (listener.as_fd(), PollFlags::IN),
    };
    let mut fds = [
        PollFd::new(stop, PollFlags::IN),
        PollFd::new(stream, stream_wants),
        PollFd::from_borrowed_fd(other, wants),
    ];
    match poll(&mut fds, None) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let [stop, stream, client] = fds.map(|fd| fd.revents());
    Ok(Ready {
        stop,
        stream,
        client,
    })
}

fn accept(listener: &UnixListener) -> io::Result<Option<UnixStream>> {
    match listener.accept() {
        Ok((client, _)) => {
            client.set_nonblocking(true)?;
            Ok(Some(client))
        }
        // It went before it was served.
        Err(error) if is_for_later(&error) || error.kind() == ErrorKind::ConnectionAborted => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn clients_come_and_go_and_nothing_written_meanwhile_is_lost() {
        let room = tempfile::tempdir().expect("a directory");
        let path = room.path().join("console");
        let (relay, end) = Relay::listen(&path).expect("a socket");
        let mut end = UnixStream::from(end);
        end.set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a limit");
        end.write_all(b"before").expect("room");
        for round in 0..3 {
            let mut client = UnixStream::connect(&path).expect("a client");
            client
                .set_read_timeout(Some(Duration::from_secs(20)))
                .expect("a limit");
            let mut got = [0; 6];
            client.read_exact(&mut got).expect("what was written");
            assert_eq!(&got, b"before", "round {round}");
            let long = vec![round; 1 << 20];
            let mut writer = client.try_clone().expect("a handle");
            let sent = long.clone();
            let typing = thread::spawn(move || writer.write_all(&sent));
            let mut back = vec![0; long.len()];
            end.read_exact(&mut back).expect("what was typed");
            assert_eq!(back, long);
            assert!(typing.join().expect("no panic").is_ok());
            // The relay looks whether a client is gone before it takes anything for it.
            drop(client);
            end.write_all(b"before").expect("room");
        }
        drop(relay);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_in_the_way_is_said() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let refused = Relay::listen(file.path()).expect_err("it is there");
        assert!(refused.contains("remove "), "{refused}");
    }
}
