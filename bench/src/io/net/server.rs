//! The other end: the host's kernel, by a socket of TCP and a thread.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use netstack::hash::WordFnv;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::plan::{NetWork, Over};

/// Bytes that are sent again and again, and most that are taken at once.
const CHUNK: usize = 256 << 10;
/// How long a connection may stand still.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether nobody will come.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// A server for one connection.
pub struct Server {
    port: u16,
    is_over: Arc<AtomicBool>,
    /// None where the kernel alone answers.
    thread: Option<JoinHandle<io::Result<u64>>>,
}

impl Server {
    /// Serve a case's client.
    ///
    /// # Errors
    /// The host's.
    pub fn start(work: NetWork, over: Over, count: u64) -> io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        if work == NetWork::Packets {
            return Ok(Self {
                port: 0,
                is_over,
                thread: None,
            });
        }
        let at = match over {
            // The tap has its address once it is there. The namespace has nobody else in it.
            Over::Tap => Ipv4Addr::UNSPECIFIED,
            Over::User => Ipv4Addr::LOCALHOST,
        };
        let listener = TcpListener::bind((at, 0))?;
        let port = listener.local_addr()?.port();
        let ends = is_over.clone();
        let thread = thread::Builder::new().name("bench-server".into());
        let thread = thread.spawn(move || {
            let stream = accept(&listener, &ends)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            match work {
                NetWork::Receive => send(stream, count.saturating_mul(work.bytes())),
                NetWork::Send => receive(stream),
                NetWork::RoundTrip | NetWork::Packets => echo(stream),
            }
        })?;
        Ok(Self {
            port,
            is_over,
            thread: Some(thread),
        })
    }

    /// Where it waits; 0 where the kernel alone answers.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Nobody will come, or come again.
    pub fn give_up(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// The hash of what was moved, once all of it was; 0 where nothing is hashed.
    ///
    /// # Errors
    /// The host's, of the connection.
    pub fn finish(mut self) -> io::Result<u64> {
        self.give_up();
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(0),
            Some(Ok(hash)) => hash,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

fn accept(listener: &TcpListener, is_over: &AtomicBool) -> io::Result<TcpStream> {
    loop {
        // Looked at first: who has come before the end is served.
        let is_last = is_over.load(Ordering::Relaxed);
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        match poll(&mut fds, Some(&LOOK)) {
            Ok(1..) => return listener.accept().map(|(stream, _)| stream),
            Ok(0) if is_last => return Err(io::ErrorKind::NotConnected.into()),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Send so many bytes. What was sent is hashed afterwards, so that this costs the client nothing.
fn send(mut stream: TcpStream, bytes: u64) -> io::Result<u64> {
    let pattern = pattern(bytes);
    let pieces = || {
        let mut left = bytes;
        std::iter::from_fn(move || {
            let count = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            left -= count as u64;
            (count > 0).then_some(count)
        })
    };
    for count in pieces() {
        stream.write_all(&pattern[..count])?;
    }
    drop(stream);
    let mut hash = WordFnv::new();
    pieces().for_each(|count| hash.add(&pattern[..count]));
    Ok(hash.finish())
}

/// Words that no other stream has, but one as long (xorshift64).
fn pattern(seed: u64) -> Vec<u8> {
    let mut state = seed | 1 << 63;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    words.take(CHUNK / 8).flat_map(u64::to_le_bytes).collect()
}

fn receive(mut stream: TcpStream) -> io::Result<u64> {
    let mut hash = WordFnv::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(hash.finish()),
            count => hash.add(&buffer[..count]),
        }
    }
}

fn echo(mut stream: TcpStream) -> io::Result<u64> {
    let mut buffer = [0; 64];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(0),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn connect(server: &Server) -> TcpStream {
        let to: SocketAddr = (Ipv4Addr::LOCALHOST, server.port()).into();
        TcpStream::connect(to).unwrap()
    }

    fn hash(bytes: &[u8]) -> u64 {
        let mut hash = WordFnv::new();
        hash.add(bytes);
        hash.finish()
    }

    #[test]
    fn both_ends_of_a_stream_have_the_same_hash() {
        let server = Server::start(NetWork::Receive, Over::User, 9).unwrap();
        let mut came = Vec::new();
        connect(&server).read_to_end(&mut came).unwrap();
        assert_eq!(came.len() as u64, 9 * NetWork::Receive.bytes());
        assert_ne!(came[..65536], came[65536..131_072]);
        assert_eq!(server.finish().unwrap(), hash(&came));

        let server = Server::start(NetWork::Send, Over::User, 9).unwrap();
        connect(&server).write_all(&came).unwrap();
        assert_eq!(server.finish().unwrap(), hash(&came));
    }

    #[test]
    fn a_server_that_nobody_comes_to_ends() {
        let server = Server::start(NetWork::RoundTrip, Over::User, 1).unwrap();
        let error = server.finish().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        let kernel = Server::start(NetWork::Packets, Over::Tap, 1).unwrap();
        assert_eq!((kernel.port(), kernel.finish().unwrap()), (0, 0));
    }
}
