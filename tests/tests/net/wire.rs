//! The other end of a network over a socket: smoltcp as a host, in a thread of the test's. Needs neither
//! a tap nor root.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use driver_api::{NetClient, NetCounts, NetDevice, NetError, NetInfo, NetOffloads};
use driver_api::{ReceivedFrame, SendOptions};
use netstack::{NetFail, Stack, Tcp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::net::{accept_with, bind, listen, recv, send, socket_with};

/// The address of this end.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// Bytes of the header before each frame, which no side of a socket uses.
const HEADER: usize = 12;
/// How long the thread sleeps at most.
const LOOK: Duration = Duration::from_millis(5);

/// The distance of a host that answers at once.
#[allow(
    dead_code,
    reason = "one of the tests that share this module has none there"
)]
pub const NEAR: Duration = Duration::ZERO;

/// A host that sends back what comes to port 7. It ends when this is dropped.
pub struct Peer {
    is_over: Arc<AtomicBool>,
    frames: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
    directory: tempfile::TempDir,
}

impl Peer {
    /// Listen at a socket; the first who connects is the guest. `distance`: how long it waits before it looks at what
    /// came.
    pub fn at(distance: Duration) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let is_over = Arc::new(AtomicBool::new(false));
        let frames = Arc::new(AtomicU64::new(0));
        let listener = seqpacket(&directory.path().join("net"));
        let shared = (is_over.clone(), frames.clone());
        let thread = thread::spawn(move || host(&listener, &shared.0, &shared.1, distance));
        Self {
            is_over,
            frames,
            thread: Some(thread),
            directory,
        }
    }

    /// Where it listens.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("net")
    }

    /// How many frames came from the guest so far.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the host on the wire panicked");
        }
    }
}

fn seqpacket(path: &Path) -> OwnedFd {
    let kind = SocketType::SEQPACKET;
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
    let socket = socket.expect("a socket");
    bind(&socket, &SocketAddrUnix::new(path).expect("a short path")).expect("a place");
    listen(&socket, 1).expect("it listens");
    socket
}

/// Wait until a socket is readable, or for a moment.
fn wait(socket: &OwnedFd) {
    let time = Timespec::try_from(LOOK).expect("a moment");
    let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&time));
}

fn host(listener: &OwnedFd, is_over: &AtomicBool, frames: &Arc<AtomicU64>, distance: Duration) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = loop {
        wait(listener);
        match is_over.load(Ordering::Relaxed) {
            true => return,
            false if poll_now(listener) => break accept_with(listener, flags).expect("a guest"),
            false => {}
        }
    };
    let socket = Arc::new(socket);
    let device = Arc::new(SocketDevice {
        socket: socket.clone(),
        frames: frames.clone(),
    });
    let begin = Instant::now();
    let now = || begin.elapsed().as_nanos() as u64;
    let mut stack = Stack::new(device, 0x5eed, now()).expect("a stack");
    stack.set_static(HOST, 24, None).expect("an address");
    let mut echoes: Vec<Echo> = vec![Echo::new(&mut stack)];
    while !is_over.load(Ordering::Relaxed) {
        let polled = stack.poll(now());
        let mut is_busy = polled.has_changed || polled.has_more;
        if echoes.iter().all(|echo| echo.is_taken) {
            echoes.push(Echo::new(&mut stack));
        }
        for echo in &mut echoes {
            is_busy |= echo.step(&mut stack);
        }
        for over in echoes.extract_if(.., |echo| echo.is_over) {
            stack.discard(over.tcp);
        }
        if !is_busy {
            wait(&socket);
            thread::sleep(distance);
        }
    }
}

fn poll_now(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|count| count > 0)
}

/// A connection to port 7.
struct Echo {
    tcp: Tcp,
    bytes: Vec<u8>,
    is_taken: bool,
    is_over: bool,
}

impl Echo {
    fn new(stack: &mut Stack) -> Self {
        Self {
            tcp: stack.accept_at(7).expect("a port"),
            bytes: Vec::new(),
            is_taken: false,
            is_over: false,
        }
    }

    /// Move what can be moved; returns whether anything was.
    fn step(&mut self, stack: &mut Stack) -> bool {
        self.is_taken = stack.established(&self.tcp).is_some();
        if !self.is_taken {
            return false;
        }
        let bytes = &mut self.bytes;
        let room = (64 << 10) - bytes.len();
        let came = stack.read(&self.tcp, |came| {
            let now = came.get(..room).unwrap_or(came);
            bytes.extend_from_slice(now);
            now.len()
        });
        let sent = stack.write(&self.tcp, bytes).unwrap_or(0);
        bytes.drain(..sent);
        match came {
            Err(NetFail::Closed) if bytes.is_empty() => {
                stack.close(&self.tcp);
                self.is_over = stack.finished(&self.tcp).is_some();
            }
            Err(NetFail::Closed) => {}
            Err(_) => self.is_over = true,
            Ok(_) => {}
        }
        sent > 0 || came.is_ok_and(|count| count.unwrap_or(0) > 0)
    }
}

/// A network device on a socket whose messages are headers with frames.
struct SocketDevice {
    socket: Arc<OwnedFd>,
    frames: Arc<AtomicU64>,
}

impl NetDevice for SocketDevice {
    fn info(&self) -> NetInfo {
        NetInfo {
            mac: [2, 0, 0, 0, 0, 2],
            mtu: 1500,
            is_up: true,
            longest: 1514,
            offloads: NetOffloads::default(),
        }
    }

    fn set_client(&self, _: Arc<dyn NetClient>) {}

    fn send(&self, frame: &[u8], _: &SendOptions) -> Result<(), NetError> {
        let message = [&[0; HEADER], frame].concat();
        match send(&self.socket, &message, SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN | Errno::NOBUFS) => Err(NetError::Busy),
            // A guest that is gone hears nothing.
            _ => Ok(()),
        }
    }

    fn kick(&self) {}

    fn receive(&self, into: &mut [u8]) -> Option<ReceivedFrame> {
        let mut message = [0; HEADER + 1514];
        let (count, _) = recv(&self.socket, &mut message, RecvFlags::empty()).ok()?;
        let frame = message
            .get(HEADER..count)
            .filter(|frame| !frame.is_empty())?;
        self.frames.fetch_add(1, Ordering::Relaxed);
        into.get_mut(..frame.len())?.copy_from_slice(frame);
        Some(ReceivedFrame {
            len: frame.len(),
            is_checked: false,
        })
    }

    fn listen(&self) -> bool {
        poll_now(&self.socket)
    }

    fn counts(&self) -> NetCounts {
        NetCounts::default()
    }
}
