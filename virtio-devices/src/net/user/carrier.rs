//! The carrier that a device has: the wire's end, and the thread at the other. Called by who makes the
//! device, and by its data path.

use std::collections::HashMap;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::common::Common;
use super::datagram::UdpForward;
use super::link::Link;
use super::nat::{Nat, News, Start, pack, station};
use super::options::{
    Forward, MAX_MTU, MIN_MTU, Protocol, UserNetError, UserNetOptions, first_resolver,
};
use super::tcp::TcpForward;
use crate::net::{Carrier, FrameSocket, Offloads};
use crate::raw_io::IoVecs;

/// A network without privileges. Dropping it ends its thread, and every connection.
pub struct UserNet {
    wire: FrameSocket,
    thread: NatThread,
}

/// The thread, stopped by its drop.
pub(super) struct NatThread {
    news: Arc<News>,
    wake: EventFd,
    thread: Option<JoinHandle<()>>,
    listens: Vec<Forward>,
}

impl UserNet {
    /// Listen at what is forwarded, and start the network's thread.
    ///
    /// # Errors
    /// [`UserNetError`]; its text names the option and the mend.
    pub fn start(options: &UserNetOptions) -> Result<UserNet, UserNetError> {
        let (ours, wire) = pair().map_err(refused("a pair of sockets"))?;
        let thread = NatThread::start(options, wire)?;
        let wire = FrameSocket::new(ours).map_err(refused("a socket"))?;
        Ok(UserNet { wire, thread })
    }

    /// How often the thread woke up so far: it does not while nothing passes.
    #[must_use]
    pub fn wakeups(&self) -> u64 {
        self.thread.wakeups()
    }

    /// The forwards, with the ports that the host chose where 0 was asked for.
    #[must_use]
    pub fn forwards(&self) -> &[Forward] {
        &self.thread.listens
    }
}

/// A pair of sockets that keep frames apart, have an end, and do not wait.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let kind = SocketType::SEQPACKET;
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        kind,
        flags,
        None,
    )?)
}

fn refused(what: &'static str) -> impl Fn(io::Error) -> UserNetError {
    move |source| UserNetError::Host { what, source }
}

impl NatThread {
    /// Start the thread at one end of a wire.
    pub fn start(options: &UserNetOptions, wire: OwnedFd) -> Result<NatThread, UserNetError> {
        let mtu = options.mtu;
        if !(MIN_MTU..=MAX_MTU).contains(&mtu) {
            return Err(UserNetError::Mtu { mtu });
        }
        let resolver = options.resolver.unwrap_or_else(|| {
            // A host without the file has its name server on itself, if anywhere.
            first_resolver(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
        });
        let (mut tcp, mut udp, mut listens) = (HashMap::new(), HashMap::new(), Vec::new());
        for (index, forward) in options.forwards.iter().enumerate() {
            let listen = |source| UserNetError::Listen {
                address: forward.host,
                source,
            };
            let (guest, mut opened) = (forward.guest, *forward);
            match forward.protocol {
                Protocol::Tcp => {
                    let listener = listen_tcp(forward).map_err(listen)?;
                    opened.host = listener.local_addr().map_err(listen)?;
                    tcp.insert(index, TcpForward { listener, guest });
                }
                Protocol::Udp => {
                    let socket = listen_udp(forward).map_err(listen)?;
                    opened.host = socket.local_addr().map_err(listen)?;
                    udp.insert(index, UdpForward { socket, guest });
                }
            }
            listens.push(opened);
        }
        let link = Link::new(wire, station(options.mac), mtu);
        let common = Common::new(link, resolver, options.is_restricted);
        let wake = EventFd::new(EFD_NONBLOCK).map_err(refused("an eventfd"))?;
        let news = Arc::new(News::default());
        let start = Start {
            common: common.map_err(refused("an epoll"))?,
            tcp,
            udp,
            wake: wake.try_clone().map_err(refused("an eventfd"))?,
            news: Arc::clone(&news),
            mtu,
            seed: seed().map_err(refused("random numbers"))?,
        };
        let mut nat = Nat::new(start).map_err(refused("an epoll"))?;
        let run = move || {
            // The panic's message is out; a network that is gone silently would hang the guest.
            if catch_unwind(AssertUnwindSafe(|| nat.run())).is_err() {
                std::process::abort();
            }
        };
        let thread = std::thread::Builder::new().name("user-net".into());
        Ok(NatThread {
            news,
            wake,
            thread: Some(thread.spawn(run).map_err(refused("a thread"))?),
            listens,
        })
    }

    pub fn wakeups(&self) -> u64 {
        self.news.wakeups.load(Ordering::Relaxed)
    }

    /// How many flows there are.
    #[cfg(test)]
    pub fn flows(&self) -> u64 {
        self.news.flows.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub fn listens(&self) -> &[Forward] {
        &self.listens
    }

    /// What the driver accepts from now on.
    pub fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        self.news.offloads.store(pack(offloads), Ordering::SeqCst);
        self.wake.write(1)
    }
}

impl Drop for NatThread {
    fn drop(&mut self) {
        self.news.stop.store(true, Ordering::SeqCst);
        // A full counter wakes it already.
        let _ = self.wake.write(1);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has ended the process.
            let _ = thread.join();
        }
    }
}

fn listen_tcp(forward: &Forward) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(forward.host)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn listen_udp(forward: &Forward) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(forward.host)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// What smoltcp makes sequence numbers from.
fn seed() -> io::Result<u64> {
    let mut seed = [0; 8];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(seed))
}

impl Carrier for UserNet {
    fn fd(&self) -> RawFd {
        self.wire.fd()
    }

    /// Segments are cut by the host's kernel, if at all, and checksums made there.
    fn has_offloads(&self) -> bool {
        true
    }

    fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        self.thread.set_offloads(offloads)
    }

    fn receive(&self, into: &IoVecs) -> io::Result<usize> {
        self.wire.receive(into)
    }

    fn receive_here(&self, into: &mut [u8]) -> io::Result<usize> {
        self.wire.receive_here(into)
    }

    fn send(&self, from: &IoVecs) -> io::Result<()> {
        self.wire.send(from)
    }
}
