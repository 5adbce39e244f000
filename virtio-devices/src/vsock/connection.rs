//! One connection between a port of the guest's and a stream of the host's: its state, its credit in
//! both directions, and what it owes the guest (virtio 1.2, 5.10.6). Called by the table. Never touches
//! guest memory: whoever has it reads and writes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};

use rustix::net::{RecvFlags, Shutdown};
use vmm_sys_util::epoll::EventSet;

use super::BUFFER;
use super::wire::{HOST, Header, Key, NO_RECEIVE, NO_SEND, STREAM, op};

/// How much credit the guest may lack before it is told of more, in bytes.
const NEWS: u32 = BUFFER / 4;

/// See the module.
pub(super) struct Connection {
    key: Key,
    stream: File,
    /// Both sides have agreed. Until then a program waits for the guest's answer.
    is_open: bool,
    owes: Owes,
    /// The stream may have bytes, or take some: until it says that it would block.
    may_read: bool,
    may_write: bool,
    /// The program sends no more, and everything that it sent is with the guest.
    has_ended: bool,
    /// The program does not receive any more.
    is_deaf: bool,
    /// What the guest was told of that.
    told_shutdown: u32,
    /// What the guest does no more.
    guest_shutdown: u32,
    /// The program was told that the guest sends no more.
    has_told_end: bool,
    /// The guest's bytes that the stream had no room for.
    buffer: VecDeque<u8>,
    /// How many of the guest's bytes the stream has, and how many the guest knows of; modulo 2^32.
    taken: u32,
    told_taken: u32,
    /// How many bytes the guest got, and took, modulo 2^32; and how many it keeps.
    sent: u32,
    guest_taken: u32,
    guest_room: u32,
    /// The guest was asked for credit, and gave none since.
    has_asked: bool,
}

/// Packets without data that are due.
#[derive(Default)]
struct Owes {
    request: bool,
    response: bool,
    credit: bool,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Stays,
    /// It is over, and the guest is told.
    Reset,
    /// It is over, as the guest knows.
    Gone,
}

/// What a connection has for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A packet, whose data is where it belongs.
    Packet(Header),
    /// Nothing now.
    Nothing,
    /// The stream is broken.
    Broken,
}

/// A packet's data, in guest memory.
pub(super) trait Payload {
    /// Write it to a stream; returns how much there was room for.
    ///
    /// # Errors
    /// The stream's.
    fn write(&mut self, stream: &File) -> io::Result<usize>;

    /// Keep all of it but the first bytes.
    fn keep(&mut self, skip: usize, into: &mut VecDeque<u8>);
}

impl Connection {
    /// A connection that the guest asked for, to a stream that is there.
    pub fn from_guest(request: &Header, stream: File) -> Connection {
        let mut connection = Connection::new(request.key(), stream);
        connection.is_open = true;
        connection.owes.response = true;
        connection.credit(request);
        connection
    }

    /// A connection that a program asked for.
    pub fn from_program(key: Key, stream: File) -> Connection {
        let mut connection = Connection::new(key, stream);
        connection.owes.request = true;
        connection
    }

    fn new(key: Key, stream: File) -> Connection {
        Connection {
            key,
            stream,
            is_open: false,
            owes: Owes::default(),
            may_read: true,
            may_write: true,
            has_ended: false,
            is_deaf: false,
            told_shutdown: 0,
            guest_shutdown: 0,
            has_told_end: false,
            buffer: VecDeque::new(),
            taken: 0,
            told_taken: 0,
            sent: 0,
            guest_taken: 0,
            guest_room: 0,
            has_asked: false,
        }
    }

    pub fn key(&self) -> Key {
        self.key
    }

    /// Whether only the guest's last word is missing.
    pub fn lingers(&self) -> bool {
        self.told_shutdown == NO_RECEIVE | NO_SEND
    }

    /// A packet of the guest's. Data is the payload's, of the header's length.
    pub fn packet(&mut self, header: &Header, payload: &mut dyn Payload) -> Verdict {
        self.credit(header);
        match header.op {
            op::RST => Verdict::Gone,
            op::RESPONSE if !self.is_open => self.open(),
            op::SHUTDOWN if self.is_open => self.shut_down(header.flags),
            op::RW if self.is_open => self.data(header.len, payload),
            op::CREDIT_UPDATE => Verdict::Stays,
            op::CREDIT_REQUEST => {
                self.owes.credit = true;
                Verdict::Stays
            }
            // A request of what there is already, or nothing that means something.
            _ => Verdict::Reset,
        }
    }

    /// What every packet says of credit (5.10.6.3).
    fn credit(&mut self, header: &Header) {
        (self.guest_room, self.guest_taken) = (header.room, header.taken);
        if self.free() > 0 {
            self.has_asked = false;
        }
    }

    /// How much the guest has room for. A guest that says what cannot be hurts itself alone.
    fn free(&self) -> u32 {
        let under_way = self.sent.wrapping_sub(self.guest_taken);
        self.guest_room.saturating_sub(under_way)
    }

    /// The guest has answered a program.
    fn open(&mut self) -> Verdict {
        self.is_open = true;
        let answer = format!("OK {}\n", self.key.host);
        match self.stream.write(answer.as_bytes()) {
            Ok(len) if len == answer.len() => Verdict::Stays,
            // Nothing was written before, so there is room unless nobody is there.
            Ok(_) | Err(_) => Verdict::Reset,
        }
    }

    /// The guest sends no more, or receives no more, or both (5.10.6.6).
    fn shut_down(&mut self, flags: u32) -> Verdict {
        self.guest_shutdown |= flags & (NO_RECEIVE | NO_SEND);
        if flags & NO_RECEIVE != 0 {
            // By an error the program is gone, which the stream says too.
            let _ = rustix::net::shutdown(&self.stream, Shutdown::Read);
        }
        self.flush()
    }

    fn data(&mut self, len: u32, payload: &mut dyn Payload) -> Verdict {
        let kept = self.buffer.len() as u64;
        let has_said_end = self.guest_shutdown & NO_SEND != 0;
        // 5.10.6.3: no more than there is credit for. And nothing to who was said to be gone.
        if has_said_end || self.lingers() || kept + u64::from(len) > BUFFER.into() {
            return Verdict::Reset;
        }
        if self.is_deaf {
            self.taken = self.taken.wrapping_add(len);
        }
        if self.is_deaf || len == 0 {
            return Verdict::Stays;
        }
        let mut written = 0;
        if self.may_write && self.buffer.is_empty() {
            // An error comes again, to `flush`.
            written = payload.write(&self.stream).unwrap_or(0);
        }
        // No more than `len`, which is a u32.
        self.taken = self.taken.wrapping_add(written as u32);
        payload.keep(written, &mut self.buffer);
        self.flush()
    }

    /// Give the stream what waits for it, and then what the guest's end means.
    fn flush(&mut self) -> Verdict {
        while self.may_write && !self.buffer.is_empty() {
            let (bytes, _) = self.buffer.as_slices();
            match self.stream.write(bytes) {
                Ok(count) => {
                    self.buffer.drain(..count);
                    // No more than the buffer's size.
                    self.taken = self.taken.wrapping_add(count as u32);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.may_write = false,
                Err(_) => self.is_deaf = true,
            }
            if self.is_deaf {
                self.discard();
            }
        }
        if !self.buffer.is_empty() {
            return Verdict::Stays;
        }
        if self.guest_shutdown & NO_SEND != 0 && !self.has_told_end {
            self.has_told_end = true;
            // As above.
            let _ = rustix::net::shutdown(&self.stream, Shutdown::Write);
        }
        match self.guest_shutdown == NO_RECEIVE | NO_SEND {
            // The answer to who shuts down both is a reset (5.10.6.6).
            true => Verdict::Reset,
            false => Verdict::Stays,
        }
    }

    /// Nobody takes what the guest sent; what the program sent before is still on its way.
    fn discard(&mut self) {
        // The buffer is within its bound.
        self.taken = self.taken.wrapping_add(self.buffer.len() as u32);
        self.buffer.clear();
    }

    /// Something happened at the stream.
    pub fn event(&mut self, events: EventSet) -> Verdict {
        let is_over = events.intersects(EventSet::HANG_UP | EventSet::ERROR);
        self.is_deaf |= is_over;
        self.may_read |= is_over || events.intersects(EventSet::IN | EventSet::READ_HANG_UP);
        self.may_write |= is_over || events.contains(EventSet::OUT);
        if is_over && !self.is_open {
            // The program did not wait for the guest's answer.
            return Verdict::Reset;
        }
        self.flush()
    }

    /// What the guest gets next. `read` reads from the stream to where the packet's data goes, as much
    /// as it is told at most.
    pub fn next(&mut self, read: impl FnOnce(&File, u32) -> io::Result<usize>) -> Next {
        if std::mem::take(&mut self.owes.request) {
            return self.tell(op::REQUEST, 0);
        }
        if std::mem::take(&mut self.owes.response) {
            return self.tell(op::RESPONSE, 0);
        }
        if !self.is_open {
            return Next::Nothing;
        }
        if let Some(next) = self.next_data(read) {
            return next;
        }
        let shutdown = self.shutdown() & !self.told_shutdown;
        if shutdown != 0 {
            self.told_shutdown |= shutdown;
            return self.tell(op::SHUTDOWN, self.told_shutdown);
        }
        if self.owes.credit || self.taken.wrapping_sub(self.told_taken) >= NEWS {
            return self.tell(op::CREDIT_UPDATE, 0);
        }
        Next::Nothing
    }

    fn next_data(&mut self, read: impl FnOnce(&File, u32) -> io::Result<usize>) -> Option<Next> {
        if !self.may_read || self.has_ended || self.guest_shutdown & NO_RECEIVE != 0 {
            return None;
        }
        let free = self.free();
        let count = match free {
            // An end needs no credit.
            0 => rustix::net::recv(&self.stream, &mut [0; 1][..], RecvFlags::PEEK)
                .map(|(count, _)| count)
                .map_err(io::Error::from),
            free => read(&self.stream, free),
        };
        match count {
            Ok(0) => {
                self.has_ended = true;
                None
            }
            Ok(_) if free == 0 => {
                let is_first = !std::mem::replace(&mut self.has_asked, true);
                is_first.then(|| self.tell(op::CREDIT_REQUEST, 0))
            }
            Ok(count) => {
                // No more than `free`, which is a u32.
                let len = count as u32;
                self.sent = self.sent.wrapping_add(len);
                let header = Header {
                    len,
                    ..self.header(op::RW, 0)
                };
                Some(Next::Packet(header))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.may_read = false;
                None
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Err(_) => Some(Next::Broken),
        }
    }

    /// What the program does no more, as the guest is to know it: not before it has all that the program
    /// sent, since not every driver hears on after an end.
    fn shutdown(&self) -> u32 {
        match (self.has_ended, self.is_deaf) {
            (false, _) => 0,
            (true, false) => NO_SEND,
            (true, true) => NO_SEND | NO_RECEIVE,
        }
    }

    fn tell(&mut self, op: u16, flags: u32) -> Next {
        Next::Packet(self.header(op, flags))
    }

    /// A header, which tells the guest's credit too.
    fn header(&mut self, op: u16, flags: u32) -> Header {
        self.told_taken = self.taken;
        self.owes.credit = false;
        Header {
            from_cid: HOST,
            from_port: self.key.host,
            to_port: self.key.guest,
            kind: STREAM,
            op,
            flags,
            room: BUFFER,
            taken: self.taken,
            ..Header::default()
        }
    }
}
