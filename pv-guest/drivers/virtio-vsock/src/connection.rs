//! One stream: its state, its credit either way, and what it owes the other side (virtio 1.3, 5.10.6.3
//! to 5.10.6.6).

use alloc::collections::VecDeque;

use driver_api::{SocketAddress, SocketError, SocketId};

use crate::wire::{Header, NO_RECEIVE, NO_SEND, STREAM, op};

/// How much a stream keeps until somebody takes it, in bytes.
pub const BUFFER: u32 = 64 << 10;
/// How much the other side may lack before it is told of more.
const NEWS: u32 = BUFFER / 4;

/// How far a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The other side was asked.
    Asked,
    /// Both sides agree.
    Open,
    /// It is over.
    Over(SocketError),
}

/// Packets without data that are due.
#[derive(Clone, Copy, Debug, Default)]
struct Owes {
    request: bool,
    response: bool,
    credit: bool,
    asks_credit: bool,
    reset: bool,
}

/// What follows from a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Good,
    /// The other side breaks the rules: it is told that the stream is over.
    Reset,
}

/// A packet's data, wherever it is.
pub trait Data {
    /// Look at all of it, part by part.
    fn each(&self, look: &mut dyn FnMut(&[u8]));
}

/// A stream.
#[derive(Debug)]
pub struct Connection {
    pub id: SocketId,
    pub local: u32,
    pub remote: SocketAddress,
    state: State,
    owes: Owes,
    /// What came and was not taken.
    came: VecDeque<u8>,
    /// How much was taken, and how much the other side knows of; modulo 2^32.
    taken: u32,
    told: u32,
    /// How much was sent, what the other side has taken of it, and how much it keeps.
    sent: u32,
    peer_taken: u32,
    peer_room: u32,
    /// The other side was asked for credit, and has given none since.
    has_asked: bool,
    /// What the other side does no more, and what this one does no more, and has said.
    peer_shutdown: u32,
    shutdown: u32,
    told_shutdown: u32,
    /// Its owner has forgotten it.
    pub is_forgotten: bool,
}

impl Connection {
    /// A stream that this side asks for.
    pub fn asking(id: SocketId, local: u32, remote: SocketAddress) -> Self {
        let owes = Owes {
            request: true,
            ..Owes::default()
        };
        Self::new(id, local, remote, State::Asked, owes)
    }

    /// A stream that the other side asks for, and gets.
    pub fn answering(id: SocketId, request: &Header) -> Self {
        let remote = SocketAddress {
            cid: request.from_cid,
            port: request.from_port,
        };
        let owes = Owes {
            response: true,
            ..Owes::default()
        };
        let mut connection = Self::new(id, request.to_port, remote, State::Open, owes);
        connection.credit(request);
        connection
    }

    fn new(id: SocketId, local: u32, remote: SocketAddress, state: State, owes: Owes) -> Self {
        Self {
            id,
            local,
            remote,
            state,
            owes,
            came: VecDeque::new(),
            taken: 0,
            told: 0,
            sent: 0,
            peer_taken: 0,
            peer_room: 0,
            has_asked: false,
            peer_shutdown: 0,
            shutdown: 0,
            told_shutdown: 0,
            is_forgotten: false,
        }
    }

    /// Whether a packet is this stream's.
    pub fn is_of(&self, header: &Header) -> bool {
        let from = (header.from_cid, header.from_port);
        self.local == header.to_port && (self.remote.cid, self.remote.port) == from
    }

    /// A packet came, with data of as many bytes as its header says.
    pub fn packet(&mut self, header: &Header, data: &mut dyn Data) -> Verdict {
        if self.is_over() {
            return match header.op {
                op::RST => Verdict::Good,
                _ => Verdict::Reset,
            };
        }
        self.credit(header);
        match (header.op, self.state) {
            (op::RST, state) => self.was_reset(state),
            (op::RESPONSE, State::Asked) => {
                self.state = State::Open;
                Verdict::Good
            }
            (op::RW, State::Open) => self.data(header.len, data),
            (op::SHUTDOWN, State::Open) => {
                self.peer_shutdown |= header.flags & (NO_RECEIVE | NO_SEND);
                // 5.10.6.6: who hears of both answers that it is over.
                if self.peer_shutdown == NO_RECEIVE | NO_SEND {
                    self.owes.reset = true;
                    self.state = State::Over(SocketError::Closed);
                }
                Verdict::Good
            }
            (op::CREDIT_UPDATE, State::Open) => Verdict::Good,
            (op::CREDIT_REQUEST, State::Open) => {
                self.owes.credit = true;
                Verdict::Good
            }
            _ => Verdict::Reset,
        }
    }

    fn was_reset(&mut self, state: State) -> Verdict {
        let has_ended = self.peer_shutdown & NO_SEND != 0;
        // What is over needs no more words.
        self.owes = Owes::default();
        self.state = State::Over(match state {
            State::Asked => SocketError::Refused,
            _ if has_ended => SocketError::Closed,
            _ => SocketError::Reset,
        });
        Verdict::Good
    }

    fn data(&mut self, len: u32, data: &mut dyn Data) -> Verdict {
        let has_ended = self.peer_shutdown & NO_SEND != 0;
        let kept = self.came.len() as u64 + u64::from(len);
        if has_ended || kept > BUFFER.into() || self.came.try_reserve(len as usize).is_err() {
            return Verdict::Reset;
        }
        if self.is_forgotten || self.shutdown & NO_RECEIVE != 0 {
            // Nobody will take it.
            self.taken = self.taken.wrapping_add(len);
        } else {
            data.each(&mut |part| self.came.extend(part));
        }
        Verdict::Good
    }

    /// What every packet says of credit.
    fn credit(&mut self, header: &Header) {
        (self.peer_room, self.peer_taken) = (header.room, header.taken);
        if self.free() > 0 {
            self.has_asked = false;
        }
    }

    /// How much the other side has room for. Who says what cannot be hurts itself alone.
    fn free(&self) -> u32 {
        let under_way = self.sent.wrapping_sub(self.peer_taken);
        self.peer_room.saturating_sub(under_way)
    }

    /// Break the stream off.
    pub fn reset(&mut self, error: SocketError) {
        if !self.is_over() {
            self.state = State::Over(error);
            self.owes = Owes {
                reset: error != SocketError::Broken,
                ..Owes::default()
            };
        }
    }

    /// It is lost on the other side, which is not told.
    pub fn lose(&mut self, error: SocketError) {
        if !self.is_over() {
            self.state = State::Over(error);
        }
        self.owes = Owes::default();
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }

    /// Whether nobody needs it any more.
    pub fn is_gone(&self) -> bool {
        self.is_forgotten && self.is_over() && !self.owes.reset
    }

    /// Whether the other side has agreed.
    pub fn established(&self) -> Option<Result<(), SocketError>> {
        match self.state {
            State::Asked => None,
            State::Open | State::Over(SocketError::Closed) => Some(Ok(())),
            State::Over(error) => Some(Err(error)),
        }
    }

    /// Whether both sides have closed.
    pub fn finished(&self) -> Option<Result<(), SocketError>> {
        match self.state {
            State::Asked | State::Open => None,
            State::Over(SocketError::Closed) => Some(Ok(())),
            State::Over(error) => Some(Err(error)),
        }
    }

    /// How many bytes may be sent now; 0 asks for credit if that is what is missing.
    pub fn may_send(&mut self) -> Result<u32, SocketError> {
        match self.state {
            State::Asked => return Ok(0),
            State::Over(error) => return Err(error),
            State::Open => {}
        }
        if self.shutdown & NO_SEND != 0 || self.peer_shutdown & NO_RECEIVE != 0 {
            return Err(SocketError::Closed);
        }
        let free = self.free();
        if free == 0 && !self.has_asked {
            (self.has_asked, self.owes.asks_credit) = (true, true);
        }
        Ok(free)
    }

    /// The header of so many bytes that are sent, no more than [`Connection::may_send`] says.
    pub fn sends(&mut self, cid: u64, len: u32) -> Header {
        self.sent = self.sent.wrapping_add(len);
        Header {
            len,
            ..self.header(cid, op::RW)
        }
    }

    /// Take bytes that came.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, SocketError> {
        if self.came.is_empty() && !into.is_empty() {
            return match self.state {
                State::Over(error) => Err(error),
                _ if self.peer_shutdown & NO_SEND != 0 => Err(SocketError::Closed),
                _ => Ok(0),
            };
        }
        let count = into.len().min(self.came.len());
        let (front, back) = self.came.as_slices();
        let mut rest = into;
        for part in [front, back] {
            let len = part.len().min(rest.len());
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(part.get(..len).unwrap_or_default());
            rest = later;
        }
        self.came.drain(..count);
        // No more than a buffer.
        self.taken = self.taken.wrapping_add(count as u32);
        if self.taken.wrapping_sub(self.told) >= NEWS && !self.is_over() {
            self.owes.credit = true;
        }
        Ok(count)
    }

    /// Do something no more: flags of SHUTDOWN.
    pub fn shut_down(&mut self, flags: u32) {
        self.shutdown |= flags;
        match self.state {
            // Who was asked and is not wanted any more hears that.
            State::Asked if flags & NO_RECEIVE != 0 => self.reset(SocketError::Closed),
            _ => {}
        }
    }

    /// The next packet without data that is due, if any.
    pub fn next(&mut self, cid: u64) -> Option<Header> {
        let take = |flag: &mut bool| core::mem::take(flag);
        let owes = &mut self.owes;
        let operation = if take(&mut owes.reset) {
            op::RST
        } else if take(&mut owes.request) {
            op::REQUEST
        } else if take(&mut owes.response) {
            op::RESPONSE
        } else if self.state != State::Open {
            return None;
        } else if self.shutdown != self.told_shutdown {
            self.told_shutdown = self.shutdown;
            op::SHUTDOWN
        } else if take(&mut owes.asks_credit) {
            op::CREDIT_REQUEST
        } else if take(&mut owes.credit) {
            op::CREDIT_UPDATE
        } else {
            return None;
        };
        let flags = match operation {
            op::SHUTDOWN => self.shutdown,
            _ => 0,
        };
        Some(Header {
            flags,
            ..self.header(cid, operation)
        })
    }

    /// A header; the other side learns of credit by each.
    fn header(&mut self, cid: u64, operation: u16) -> Header {
        self.told = self.taken;
        Header {
            from_cid: cid,
            to_cid: self.remote.cid,
            from_port: self.local,
            to_port: self.remote.port,
            len: 0,
            kind: STREAM,
            op: operation,
            flags: 0,
            room: BUFFER,
            taken: self.taken,
        }
    }
}
