//! Connections over TCP. Calls never wait: `None` or 0 says that it is not time yet.

use core::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{self, CongestionControl, RecvError, SocketBuffer, State};
use smoltcp::wire::{IpAddress, IpEndpoint};

use crate::error::NetFail;
use crate::port::zeros;
use crate::stack::Stack;

/// Bytes of each buffer of a connection: enough for a few of the longest frames.
const BUFFER: usize = 256 << 10;
/// How often a port is looked for that is free.
const PORTS_TRIED: u32 = 64;

/// A connection, or the wish for one. Given back by [`Stack::discard`].
#[derive(Debug)]
pub struct Tcp {
    handle: SocketHandle,
    /// With whom, if that was asked for.
    to: Option<Ipv4Addr>,
}

type Socket = tcp::Socket<'static>;

impl Stack {
    fn socket(&self, tcp: &Tcp) -> &Socket {
        self.sockets.get(tcp.handle)
    }

    fn socket_mut(&mut self, tcp: &Tcp) -> &mut Socket {
        self.sockets.get_mut(tcp.handle)
    }

    fn add(&mut self, to: Option<Ipv4Addr>) -> Result<Tcp, NetFail> {
        let (receive, transmit) = (zeros(BUFFER)?, zeros(BUFFER)?);
        let mut socket = Socket::new(SocketBuffer::new(receive), SocketBuffer::new(transmit));
        socket.set_congestion_control(CongestionControl::Reno);
        // A small answer goes out at once: who polls has collected what belongs together.
        socket.set_nagle_enabled(false);
        let handle = self.sockets.add(socket);
        Ok(Tcp { handle, to })
    }

    /// Begin a connection.
    ///
    /// # Errors
    /// [`NetFail`] when it cannot even be tried.
    pub fn connect(&mut self, to: SocketAddrV4) -> Result<Tcp, NetFail> {
        if to.port() == 0 {
            return Err(NetFail::BadAddress);
        }
        self.check_link()?;
        self.ask_anew(*to.ip())?;
        let local = self.free_port()?;
        let tcp = self.add(Some(*to.ip()))?;
        let remote = IpEndpoint::new(IpAddress::Ipv4(*to.ip()), to.port());
        let socket = self.sockets.get_mut::<Socket>(tcp.handle);
        let begun = socket.connect(self.interface.context(), remote, local);
        if begun.is_err() {
            self.sockets.remove(tcp.handle);
            return Err(NetFail::Unreachable);
        }
        Ok(tcp)
    }

    /// A port that no connection of ours has.
    fn free_port(&mut self) -> Result<u16, NetFail> {
        for _ in 0..PORTS_TRIED {
            let port = self.take_number();
            if !self.uses(port) {
                return Ok(port);
            }
        }
        Err(NetFail::InUse)
    }

    fn uses(&self, port: u16) -> bool {
        self.sockets.iter().any(|(_, socket)| match socket {
            smoltcp::socket::Socket::Tcp(socket) => {
                let local = socket.local_endpoint().map(|local| local.port);
                local == Some(port) || socket.listen_endpoint().port == port
            }
            _ => false,
        })
    }

    /// Wait for a connection to a port. Each call takes one; several may wait at once.
    ///
    /// # Errors
    /// [`NetFail::BadAddress`], [`NetFail::NoMemory`].
    pub fn accept_at(&mut self, port: u16) -> Result<Tcp, NetFail> {
        let tcp = self.add(None)?;
        // Only port 0 is refused.
        if self.socket_mut(&tcp).listen(port).is_err() {
            self.sockets.remove(tcp.handle);
            return Err(NetFail::BadAddress);
        }
        Ok(tcp)
    }

    /// Whether the connection is there, and with whom; `None` while that is open.
    pub fn established(&mut self, tcp: &Tcp) -> Option<Result<SocketAddrV4, NetFail>> {
        let socket = self.socket(tcp);
        match socket.state() {
            State::Listen | State::SynReceived => None,
            State::SynSent => {
                let way = tcp.to.map_or(Ok(()), |to| self.check_way(to));
                way.err().map(Err)
            }
            // While a connection is asked for, only a refusal closes it.
            State::Closed => Some(Err(NetFail::Refused)),
            _ => match socket.remote_endpoint() {
                Some(IpEndpoint {
                    addr: IpAddress::Ipv4(ip),
                    port,
                }) => Some(Ok(SocketAddrV4::new(ip, port))),
                _ => Some(Err(NetFail::Reset)),
            },
        }
    }

    /// Hand bytes over to be sent; returns how many were taken, which may be none.
    ///
    /// # Errors
    /// [`NetFail::Reset`], or [`NetFail::Closed`] when this side was closed.
    pub fn write(&mut self, tcp: &Tcp, bytes: &[u8]) -> Result<usize, NetFail> {
        self.check_link()?;
        let socket = self.socket_mut(tcp);
        socket.send_slice(bytes).map_err(|_| match socket.state() {
            State::Closed => NetFail::Reset,
            _ => NetFail::Closed,
        })
    }

    /// Take bytes that came: `take` sees some that are adjacent, and returns how many it has used.
    /// `Ok(None)` when there are none yet.
    ///
    /// # Errors
    /// [`NetFail::Closed`] when the other side has closed, and all of it was taken;
    /// [`NetFail::Reset`].
    pub fn read(
        &mut self,
        tcp: &Tcp,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Result<Option<usize>, NetFail> {
        let link = self.check_link();
        let socket = self.socket_mut(tcp);
        if socket.recv_queue() == 0 && socket.may_recv() {
            return link.map(|()| None);
        }
        let result = socket.recv(|bytes| {
            let count = take(bytes).min(bytes.len());
            (count, count)
        });
        result.map(Some).map_err(|error| match error {
            RecvError::Finished => NetFail::Closed,
            RecvError::InvalidState => NetFail::Reset,
        })
    }

    /// Send nothing more. The other side learns of it when all is sent.
    pub fn close(&mut self, tcp: &Tcp) {
        self.socket_mut(tcp).close();
    }

    /// Whether the other side has everything, and knows that this one has closed; `None` while it does
    /// not.
    ///
    /// # Errors
    /// [`NetFail::Reset`] when it broke off, [`NetFail::Down`].
    pub fn delivered(&self, tcp: &Tcp) -> Option<Result<(), NetFail>> {
        match self.socket(tcp).state() {
            State::FinWait2 => Some(Ok(())),
            _ => self.finished(tcp),
        }
    }

    /// Whether both sides have closed, and have everything; `None` while they have not.
    ///
    /// # Errors
    /// As [`Stack::delivered`].
    pub fn finished(&self, tcp: &Tcp) -> Option<Result<(), NetFail>> {
        let socket = self.socket(tcp);
        match socket.state() {
            State::TimeWait => Some(Ok(())),
            State::Closed if socket.send_queue() == 0 => Some(Ok(())),
            State::Closed => Some(Err(NetFail::Reset)),
            _ => self.check_link().err().map(Err),
        }
    }

    /// Forget a connection; if it is still open, break it off.
    pub fn discard(&mut self, tcp: Tcp) {
        if self.finished(&tcp).is_none() {
            self.socket_mut(&tcp).abort();
            // The other side is told at once, or never.
            self.send();
        }
        self.sockets.remove(tcp.handle);
    }
}
