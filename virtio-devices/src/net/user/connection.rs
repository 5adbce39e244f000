//! One TCP connection of the guest's: towards the guest smoltcp's socket, towards the host a stream.
//! Bytes, ends and resets go from one to the other. Called by the table of connections.
//!
//! Each side holds the other back: what smoltcp has no room for stays with the host's kernel, and the
//! window that the guest sees is what the host has not taken yet.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};

use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};

use super::common::Common;
use super::link::Port;
use super::{FROM_GUEST, TO_GUEST, host};

/// How long a guest may leave everything unanswered.
const PATIENCE: Duration = Duration::from_secs(300);
/// The same, for who connects into the guest.
const PATIENCE_AT_FIRST: Duration = Duration::from_secs(75);
/// How many rounds one turn has.
const ROUNDS: usize = 8;

/// What tells connections apart: both ends, as the guest sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub guest: SocketAddrV4,
    pub remote: SocketAddrV4,
}

/// See the module.
pub(super) struct Connection {
    pub key: Key,
    pub stream: TcpStream,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// The stream may have bytes, or take some: until it says that it would block.
    pub may_read: bool,
    pub may_write: bool,
    /// The stream's other end sends no more.
    has_host_ended: bool,
    /// The guest sends no more, and the stream has been told.
    has_guest_ended: bool,
    /// What smoltcp's socket was in before it was closed.
    last_state: State,
    /// When the guest sent something last, or was sent something after a silence.
    pub last_active: Instant,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It waits for one side or the other.
    Waits,
    /// It has more to move now.
    HasMore,
    /// Both sides have ended, and everything is where it belongs.
    Ended,
    /// One side broke it off: the stream is to be reset.
    Broken,
}

impl Connection {
    /// A connection whose stream is there; the guest's side begins.
    pub fn new(
        now: Instant,
        key: Key,
        stream: TcpStream,
        begin: Begin,
        net: &mut Interface,
    ) -> Option<Connection> {
        let buffer = |len| SocketBuffer::new(vec![0; len]);
        let mut socket = Socket::new(buffer(FROM_GUEST), buffer(TO_GUEST));
        // The sender has chosen its segments already.
        socket.set_nagle_enabled(false);
        // The wire loses nothing to congestion, whatever the build's default is.
        socket.set_congestion_control(CongestionControl::None);
        match begin {
            Begin::Listen => socket.listen(key.remote).ok()?,
            Begin::Connect => socket.connect(net.context(), key.guest, key.remote).ok()?,
        }
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let last_state = socket.state();
        let handle = sockets.add(socket);
        Some(Connection {
            key,
            stream,
            sockets,
            handle,
            may_read: true,
            may_write: true,
            has_host_ended: false,
            has_guest_ended: false,
            last_state,
            last_active: now,
        })
    }

    fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }

    fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Remember the state, unless it is the last: what came before says how it ended.
    fn note_state(&mut self) {
        let state = self.socket().state();
        if state != State::Closed {
            self.last_state = state;
        }
    }

    /// Whether a first segment of the guest's means another connection: one that was established never
    /// begins again, so the guest has forgotten it, as by a reboot.
    pub fn is_replaced_by_first(&self) -> bool {
        !matches!(
            self.socket().state(),
            State::Listen | State::SynSent | State::SynReceived
        )
    }

    /// How it ends if it is replaced: the host's side is told, unless it had ended.
    pub fn fate_if_replaced(&self) -> Fate {
        match self.socket().state() {
            State::TimeWait | State::Closed => Fate::Ended,
            _ => Fate::Broken,
        }
    }

    /// Whether the guest's side has not begun.
    pub fn is_listening(&self) -> bool {
        self.socket().state() == State::Listen
    }

    /// A packet from the guest.
    pub fn packet(&mut self, common: &mut Common, net: &mut Interface, packet: &[u8]) {
        self.last_active = common.now;
        if self.last_state != State::TimeWait {
            self.note_state();
        }
        let link = &mut common.link;
        let packet = Some(packet);
        net.poll_ingress_single(common.now, &mut Port { link, packet }, &mut self.sockets);
    }

    /// Move what can be moved.
    pub fn serve(&mut self, common: &mut Common, net: &mut Interface) -> Fate {
        for _ in 0..ROUNDS {
            let moved = match (self.download(common.now), self.upload()) {
                (Ok(to), Ok(from)) => to || from,
                _ => {
                    self.socket_mut().abort();
                    self.send(common, net);
                    return Fate::Broken;
                }
            };
            let sent = self.send(common, net);
            if let Some(fate) = self.fate(common.now) {
                return fate;
            }
            if !moved && !sent {
                return Fate::Waits;
            }
            if !common.link.has_room() {
                break;
            }
        }
        Fate::HasMore
    }

    /// Bytes of the stream's to smoltcp; returns whether there were any.
    fn download(&mut self, now: Instant) -> io::Result<bool> {
        let mut moved = false;
        while self.may_read && !self.has_host_ended {
            let socket = self.sockets.get_mut::<Socket>(self.handle);
            if !socket.can_send() {
                break;
            }
            if socket.send_queue() == 0 {
                self.last_active = now;
            }
            let mut stream = &self.stream;
            let read = socket.send(|room| {
                let read = stream.read(room);
                (*read.as_ref().unwrap_or(&0), read)
            });
            match read {
                Ok(Ok(0)) => {
                    self.has_host_ended = true;
                    // What the guest says from now on is answered at once: its end is the last word.
                    socket.set_ack_delay(None);
                    socket.close();
                    moved = true;
                }
                Ok(Ok(_)) => moved = true,
                Ok(Err(error)) => self.may_read = !is_over_for_now(error)?,
                // Not a state to send in, which `can_send` has said.
                Err(_) => break,
            }
        }
        Ok(moved)
    }

    /// Bytes of smoltcp's to the stream; returns whether there were any.
    fn upload(&mut self) -> io::Result<bool> {
        let mut moved = false;
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        while self.may_write && socket.can_recv() {
            let mut stream = &self.stream;
            let written = socket.recv(|bytes| {
                let written = stream.write(bytes);
                (*written.as_ref().unwrap_or(&0), written)
            });
            match written {
                Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(Ok(_)) => moved = true,
                Ok(Err(error)) => self.may_write = !is_over_for_now(error)?,
                Err(_) => break,
            }
        }
        if !self.has_guest_ended && has_fin(socket.state()) && !socket.can_recv() {
            self.has_guest_ended = true;
            moved = true;
            // By an error the other end is gone, and the next read says so.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        Ok(moved)
    }

    /// Have smoltcp send what it has; returns whether there was anything.
    fn send(&mut self, common: &mut Common, net: &mut Interface) -> bool {
        // The guest's end is acknowledged once, and nothing follows that. Polled for longer, smoltcp would
        // forget bytes that the stream has not taken yet.
        if self.last_state == State::TimeWait {
            return false;
        }
        self.note_state();
        let before = common.link.made();
        loop {
            let so_far = common.link.made();
            let (link, packet) = (&mut common.link, None);
            net.poll_egress(common.now, &mut Port { link, packet }, &mut self.sockets);
            if common.link.made() == so_far {
                return so_far != before;
            }
        }
    }

    /// Whether the connection is over, and how.
    fn fate(&self, now: Instant) -> Option<Fate> {
        let state = self.socket().state();
        let waits_for_stream = self.socket().can_recv();
        let is_orderly = match state {
            State::TimeWait => true,
            State::Closed => has_fin(self.last_state) && self.has_host_ended,
            _ => {
                let is_lost = now >= self.last_active + self.patience()?;
                return is_lost.then_some(Fate::Broken);
            }
        };
        match (is_orderly, waits_for_stream) {
            (true, true) => Some(Fate::Waits),
            (true, false) => Some(Fate::Ended),
            (false, _) => Some(Fate::Broken),
        }
    }

    /// How long the guest may be silent; for ever, if it owes nothing.
    fn patience(&self) -> Option<Duration> {
        let socket = self.socket();
        match socket.state() {
            State::SynSent | State::SynReceived => Some(PATIENCE_AT_FIRST),
            State::FinWait1 | State::Closing | State::LastAck => Some(PATIENCE),
            _ => (socket.send_queue() > 0).then_some(PATIENCE),
        }
    }

    /// When smoltcp wants to be called again.
    pub fn deadline(&self, now: Instant, net: &mut Interface) -> Option<Instant> {
        match self.socket().state() {
            State::TimeWait | State::Closed => None,
            _ => net.poll_at(now, &self.sockets),
        }
    }

    /// Break it off: the guest is told.
    pub fn abort(&mut self, common: &mut Common, net: &mut Interface) {
        self.socket_mut().abort();
        self.send(common, net);
    }
}

/// How the guest's side of a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// By a packet of the guest's, which comes next.
    Listen,
    /// By one to the guest.
    Connect,
}

/// Whether the guest has said that it sends no more.
fn has_fin(state: State) -> bool {
    matches!(
        state,
        State::CloseWait | State::LastAck | State::Closing | State::TimeWait
    )
}

/// Whether a stream will say when to go on; a signal is no reason to wait.
fn is_over_for_now(error: io::Error) -> io::Result<bool> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(true),
        io::ErrorKind::Interrupted => Ok(false),
        _ => Err(error),
    }
}

impl Connection {
    /// Close the stream as the connection ended.
    pub fn close(self, fate: Fate) {
        if fate == Fate::Broken {
            host::reset(self.stream);
        }
    }
}
