//! The table of connections: packets of the guest's and events of streams find theirs here, and what
//! the guest is owed is kept in order. Called by the data path, on the worker's thread.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::connection::{Connection, Next, Payload, Verdict};
use super::greeting::{self, Greeting};
use super::host::Entrance;
use super::wire::{HOST, Header, Key, STREAM, op};
use super::{MAX_CONNECTIONS, MAX_RESETS, STEP};

/// The tokens that are no stream's; streams have numbers above them, none twice.
const ENTRANCE: u64 = 0;
const WAKE: u64 = 1;
/// The ports of programs: above those that anybody would choose, as Firecracker has it.
const FIRST_PORT: u32 = 1 << 30;
const LAST_PORT: u32 = (1 << 31) - 1;

/// See the module.
pub(super) struct Table {
    cid: u64,
    entrance: Arc<Entrance>,
    wake: EventFd,
    /// Edge-triggered: readable while there is news.
    epoll: Epoll,
    connections: HashMap<u64, Connection>,
    numbers: HashMap<Key, u64>,
    /// Programs that have not said yet where they want to.
    greeters: HashMap<u64, File>,
    /// Resets that are due.
    resets: VecDeque<Header>,
    /// Connections that may have something for the guest.
    ready: VecDeque<u64>,
    is_ready: HashSet<u64>,
    last_number: u64,
    last_port: u32,
    /// Programs wait until there is room.
    has_waiting: bool,
    /// The guest is to be told that all connections are gone.
    has_lost_all: bool,
}

impl Table {
    /// An empty table; from now on programs are let in.
    pub fn new(cid: u64, entrance: Arc<Entrance>, wake: EventFd) -> io::Result<Table> {
        let table = Table {
            cid,
            entrance,
            wake,
            epoll: Epoll::new()?,
            connections: HashMap::new(),
            numbers: HashMap::new(),
            greeters: HashMap::new(),
            resets: VecDeque::new(),
            ready: VecDeque::new(),
            is_ready: HashSet::new(),
            last_number: WAKE,
            last_port: LAST_PORT,
            has_waiting: false,
            has_lost_all: false,
        };
        table.watch(&table.entrance.listener, ENTRANCE, EventSet::IN)?;
        table.watch(&table.wake, WAKE, EventSet::IN)?;
        Ok(table)
    }

    /// Readable when [`Table::events`] has something to do.
    pub fn fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    fn watch(&self, fd: &impl AsRawFd, token: u64, events: EventSet) -> io::Result<()> {
        let event = EpollEvent::new(events | EventSet::EDGE_TRIGGERED, token);
        self.epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), event)
    }

    /// Whether the guest may be listened to: its packets cost resets, which are bounded.
    pub fn has_room(&self) -> bool {
        self.resets.len() < MAX_RESETS
    }

    /// Whether there may be something for the guest.
    pub fn has_packets(&self) -> bool {
        !self.resets.is_empty() || !self.ready.is_empty()
    }

    /// Whether the guest is to be told that all connections are gone; asked for once.
    pub fn has_lost_all(&self) -> bool {
        self.has_lost_all
    }

    /// The guest was told.
    pub fn told_loss(&mut self) {
        self.has_lost_all = false;
    }

    /// Take up what happened at streams; some of it, if there is much.
    pub fn events(&mut self) {
        let mut events = [EpollEvent::default(); STEP];
        // An error is a signal's: then it is called again, as the descriptor stays readable.
        let count = self.epoll.wait(0, &mut events).unwrap_or(0);
        for event in events.iter().take(count) {
            match event.data() {
                ENTRANCE => self.accept(),
                WAKE => self.lose_all(),
                number => self.event(number, event.event_set()),
            }
        }
    }

    fn event(&mut self, number: u64, events: EventSet) {
        if let Some(connection) = self.connections.get_mut(&number) {
            let verdict = connection.event(events);
            self.judge(number, verdict);
        } else if self.greeters.contains_key(&number) {
            self.greet(number);
        }
    }

    /// Let programs in.
    fn accept(&mut self) {
        self.has_waiting = false;
        loop {
            if !self.make_room() {
                self.has_waiting = true;
                return;
            }
            match self.entrance.accept() {
                Ok(stream) => {
                    let number = self.number();
                    // Without room for it, it is closed.
                    if self.watch_stream(&stream, number).is_ok() {
                        self.greeters.insert(number, stream);
                        self.greet(number);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    // Most likely there are too many files: until one is closed.
                    _ => {
                        self.has_waiting = true;
                        return;
                    }
                },
            }
        }
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn watch_stream(&self, stream: &File, number: u64) -> io::Result<()> {
        let events = EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP;
        self.watch(stream, number, events)
    }

    /// Whether there is room for one more, if need be after one that only waits for the guest's last word.
    fn make_room(&mut self) -> bool {
        if self.connections.len() + self.greeters.len() < MAX_CONNECTIONS {
            return true;
        }
        let mut all = self.connections.iter();
        let lingering = all.find(|(_, connection)| connection.lingers());
        let Some(number) = lingering.map(|(number, _)| *number) else {
            return false;
        };
        self.remove(number, Verdict::Reset);
        true
    }

    /// Hear where a program wants to.
    fn greet(&mut self, number: u64) {
        let Some(stream) = self.greeters.get(&number) else {
            return;
        };
        match greeting::read(stream) {
            Greeting::Unfinished => {}
            Greeting::Wrong => self.dismiss(number),
            Greeting::Port(guest) => {
                let Some(stream) = self.greeters.remove(&number) else {
                    return;
                };
                let key = self.free_key(guest);
                self.numbers.insert(key, number);
                let connection = Connection::from_program(key, stream);
                self.connections.insert(number, connection);
                self.has_something(number);
            }
        }
    }

    fn dismiss(&mut self, number: u64) {
        self.greeters.remove(&number);
        self.has_room_again();
    }

    /// A port for a program. There are more ports than connections.
    fn free_key(&mut self, guest: u32) -> Key {
        loop {
            self.last_port = match self.last_port {
                LAST_PORT => FIRST_PORT,
                port => port + 1,
            };
            let host = self.last_port;
            let key = Key { host, guest };
            if !self.numbers.contains_key(&key) {
                return key;
            }
        }
    }

    /// A packet of the guest's, with its data.
    pub fn packet(&mut self, header: &Header, payload: &mut dyn Payload) {
        // What says that it is another's, or for another, is nobody's.
        if header.from_cid != self.cid || header.to_cid != HOST {
            return;
        }
        // 5.10.6: an unknown type is answered by a reset.
        if header.kind != STREAM {
            return self.refuse(header);
        }
        let Some(number) = self.numbers.get(&header.key()).copied() else {
            return match header.op {
                op::REQUEST => self.open(header),
                _ => self.refuse(header),
            };
        };
        if let Some(connection) = self.connections.get_mut(&number) {
            let verdict = connection.packet(header, payload);
            self.judge(number, verdict);
        }
    }

    /// The guest wants to connect.
    fn open(&mut self, request: &Header) {
        if !self.make_room() {
            return self.refuse(request);
        }
        let Ok(stream) = self.entrance.connect(request.to_port) else {
            return self.refuse(request);
        };
        let number = self.number();
        if self.watch_stream(&stream, number).is_err() {
            return self.refuse(request);
        }
        self.numbers.insert(request.key(), number);
        let connection = Connection::from_guest(request, stream);
        self.connections.insert(number, connection);
        self.has_something(number);
    }

    /// Reset what there is not; a reset is not answered.
    fn refuse(&mut self, header: &Header) {
        if header.op != op::RST {
            self.reset(header.key(), header.kind);
        }
    }

    fn reset(&mut self, key: Key, kind: u16) {
        self.resets.push_back(Header {
            from_cid: HOST,
            to_cid: self.cid,
            from_port: key.host,
            to_port: key.guest,
            kind,
            op: op::RST,
            ..Header::default()
        });
    }

    fn judge(&mut self, number: u64, verdict: Verdict) {
        match verdict {
            Verdict::Stays => self.has_something(number),
            over => self.remove(number, over),
        }
    }

    fn remove(&mut self, number: u64, verdict: Verdict) {
        let Some(connection) = self.connections.remove(&number) else {
            return;
        };
        self.numbers.remove(&connection.key());
        if verdict == Verdict::Reset {
            self.reset(connection.key(), STREAM);
        }
        drop(connection);
        self.has_room_again();
    }

    /// Programs may have waited for room.
    fn has_room_again(&mut self) {
        if self.has_waiting {
            // Tells the epoll afresh what waits, so that no depth of calls depends on how many do.
            let (fd, events) = (self.entrance.listener.as_raw_fd(), EventSet::IN);
            let event = EpollEvent::new(events | EventSet::EDGE_TRIGGERED, ENTRANCE);
            // By an error, the next program that comes is what tells.
            let _ = self.epoll.ctl(ControlOperation::Modify, fd, event);
        }
    }

    fn has_something(&mut self, number: u64) {
        if self.is_ready.insert(number) {
            self.ready.push_back(number);
        }
    }

    /// The next packet for the guest; `read` puts data where it belongs.
    pub fn next(
        &mut self,
        mut read: impl FnMut(&File, u32) -> io::Result<usize>,
    ) -> Option<Header> {
        if let Some(reset) = self.resets.pop_front() {
            return Some(reset);
        }
        while let Some(number) = self.ready.pop_front() {
            self.is_ready.remove(&number);
            let Some(connection) = self.connections.get_mut(&number) else {
                continue;
            };
            match connection.next(&mut read) {
                Next::Packet(header) => {
                    let to_cid = self.cid;
                    // Behind the others: nobody waits for who has much to say.
                    self.has_something(number);
                    return Some(Header { to_cid, ..header });
                }
                Next::Nothing => {}
                Next::Broken => {
                    self.remove(number, Verdict::Reset);
                    return self.resets.pop_front();
                }
            }
        }
        None
    }

    /// Forget every connection, as after a change of hosts.
    fn lose_all(&mut self) {
        // Nothing in it: that it woke is what counts.
        let _ = self.wake.read();
        self.connections.clear();
        self.numbers.clear();
        self.ready.clear();
        self.is_ready.clear();
        self.resets.clear();
        self.has_lost_all = true;
        self.has_room_again();
    }

    /// How many connections there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.connections.len() + self.greeters.len()
    }
}
