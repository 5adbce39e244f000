//! The streams of a machine, who listens, and what is answered to whom there is no stream with.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use driver_api::{SocketAddress, SocketError, SocketId};

use crate::connection::{Connection, Data, Verdict};
use crate::wire::{Header, NO_RECEIVE, NO_SEND, STREAM, op};

/// The most streams.
const STREAMS_MOST: usize = 64;
/// The most ports that are listened to.
const PORTS_MOST: usize = 16;
/// The most streams to a port that wait to be accepted.
const BACKLOG: usize = 8;
/// The most resets that wait to be sent; whoever sends so many bad packets hears of some.
const RESETS_MOST: usize = 64;
/// The first of the ports for who does not care.
const EPHEMERAL: u32 = 49152;

/// A port that is listened to, and who came.
struct Listener {
    port: u32,
    waiting: VecDeque<SocketId>,
}

/// See the module.
pub struct Table {
    cid: u64,
    connections: Vec<Connection>,
    listeners: Vec<Listener>,
    resets: VecDeque<Header>,
    next_id: u64,
    next_port: u32,
}

impl Table {
    /// The table of a machine of this number.
    pub fn new(cid: u64) -> Self {
        Self {
            cid,
            connections: Vec::new(),
            listeners: Vec::new(),
            resets: VecDeque::new(),
            next_id: 0,
            next_port: EPHEMERAL,
        }
    }

    /// The machine's number.
    pub fn cid(&self) -> u64 {
        self.cid
    }

    /// The machine has another number now.
    pub fn set_cid(&mut self, cid: u64) {
        self.cid = cid;
    }

    fn add(&mut self, make: impl FnOnce(SocketId) -> Connection) -> Result<SocketId, SocketError> {
        if self.connections.len() >= STREAMS_MOST {
            // One whose other side does not answer its end makes room.
            let mut all = self.connections.iter();
            let forgotten = all.position(|connection| connection.is_forgotten);
            let mut old = self
                .connections
                .remove(forgotten.ok_or(SocketError::InUse)?);
            old.reset(SocketError::Closed);
            if let Some(reset) = old.next(self.cid)
                && self.resets.len() < RESETS_MOST
            {
                self.resets.push_back(reset);
            }
        }
        let room = self.connections.try_reserve(1);
        room.map_err(|_| SocketError::NoMemory)?;
        let id = SocketId(self.next_id);
        self.next_id += 1;
        self.connections.push(make(id));
        Ok(id)
    }

    fn find(&mut self, id: SocketId) -> Result<&mut Connection, SocketError> {
        let mut all = self.connections.iter_mut();
        let found = all.find(|connection| connection.id == id && !connection.is_forgotten);
        found.ok_or(SocketError::Unknown)
    }

    /// Begin a stream.
    pub fn connect(&mut self, to: SocketAddress) -> Result<SocketId, SocketError> {
        // There are fewer streams than ports.
        for _ in 0..=STREAMS_MOST + PORTS_MOST {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(EPHEMERAL);
            let is_used = self.connections.iter().any(|other| other.local == port);
            if !is_used && self.listener(port).is_none() {
                return self.add(|id| Connection::asking(id, port, to));
            }
        }
        Err(SocketError::InUse)
    }

    fn listener(&mut self, port: u32) -> Option<&mut Listener> {
        let mut all = self.listeners.iter_mut();
        all.find(|listener| listener.port == port)
    }

    /// Take streams to a port.
    pub fn listen(&mut self, port: u32) -> Result<(), SocketError> {
        if self.listener(port).is_some() || self.listeners.len() >= PORTS_MOST {
            return Err(SocketError::InUse);
        }
        let waiting = VecDeque::with_capacity(BACKLOG);
        self.listeners.push(Listener { port, waiting });
        Ok(())
    }

    /// Take none any longer.
    pub fn stop_listening(&mut self, port: u32) {
        let Some(at) = self.listeners.iter().position(|other| other.port == port) else {
            return;
        };
        for id in self.listeners.swap_remove(at).waiting {
            self.discard(id);
        }
    }

    /// A stream to a port.
    pub fn accept(&mut self, port: u32) -> Option<(SocketId, SocketAddress)> {
        let id = self.listener(port)?.waiting.pop_front()?;
        let remote = self.find(id).ok()?.remote;
        Some((id, remote))
    }

    /// Whether a stream is there.
    pub fn established(&mut self, id: SocketId) -> Option<Result<(), SocketError>> {
        match self.find(id) {
            Ok(connection) => connection.established(),
            Err(error) => Some(Err(error)),
        }
    }

    /// Whether both sides have closed a stream.
    pub fn finished(&mut self, id: SocketId) -> Option<Result<(), SocketError>> {
        match self.find(id) {
            Ok(connection) => connection.finished(),
            Err(error) => Some(Err(error)),
        }
    }

    /// How many bytes of a stream's may be sent now.
    pub fn may_send(&mut self, id: SocketId) -> Result<u32, SocketError> {
        self.find(id)?.may_send()
    }

    /// The header of bytes that are sent.
    pub fn sends(&mut self, id: SocketId, len: u32) -> Result<Header, SocketError> {
        let cid = self.cid;
        Ok(self.find(id)?.sends(cid, len))
    }

    /// Take bytes that came.
    pub fn read(&mut self, id: SocketId, into: &mut [u8]) -> Result<usize, SocketError> {
        self.find(id)?.read(into)
    }

    /// Send nothing more.
    pub fn shut_down(&mut self, id: SocketId) {
        if let Ok(connection) = self.find(id) {
            connection.shut_down(NO_SEND);
        }
    }

    /// Forget a stream.
    pub fn discard(&mut self, id: SocketId) {
        if let Ok(connection) = self.find(id) {
            connection.is_forgotten = true;
            connection.shut_down(NO_SEND | NO_RECEIVE);
        }
        self.bury();
    }

    fn bury(&mut self) {
        self.connections.retain(|connection| !connection.is_gone());
    }

    /// A packet came, with data of as many bytes as its header says.
    pub fn packet(&mut self, header: &Header, data: &mut dyn Data) {
        // For another machine, or no stream: of such there is no stream here.
        let is_ours = header.to_cid == self.cid && header.kind == STREAM;
        let mut all = self.connections.iter_mut();
        let found = all.find(|connection| is_ours && connection.is_of(header));
        match found {
            Some(connection) => {
                if connection.packet(header, data) == Verdict::Reset {
                    connection.reset(SocketError::Reset);
                }
                self.bury();
            }
            None if is_ours && header.op == op::REQUEST => self.request(header),
            None => self.refuse(header),
        }
    }

    fn request(&mut self, header: &Header) {
        let has_room = self
            .listener(header.to_port)
            .is_some_and(|listener| listener.waiting.len() < BACKLOG);
        if !has_room {
            return self.refuse(header);
        }
        match self.add(|id| Connection::answering(id, header)) {
            Ok(id) => {
                if let Some(listener) = self.listener(header.to_port) {
                    listener.waiting.push_back(id);
                }
            }
            Err(_) => self.refuse(header),
        }
    }

    /// Answer that there is no such stream; but never a reset with a reset.
    fn refuse(&mut self, header: &Header) {
        if header.op != op::RST && self.resets.len() < RESETS_MOST {
            self.resets.push_back(header.reset());
        }
    }

    /// The next packet without data that is due.
    pub fn next(&mut self) -> Option<Header> {
        if let Some(reset) = self.resets.pop_front() {
            return Some(reset);
        }
        let cid = self.cid;
        let next = self
            .connections
            .iter_mut()
            .find_map(|connection| connection.next(cid));
        self.bury();
        next
    }

    /// All streams are over, and the other sides know, or never will.
    pub fn lose_all(&mut self, error: SocketError) {
        for connection in &mut self.connections {
            connection.lose(error);
        }
        self.resets.clear();
        self.bury();
    }
}
