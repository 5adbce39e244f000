//! The table of TCP connections. Called by the thread: a segment finds its connection here, or opens
//! one, or is refused.
//!
//! The guest hears of a connection what the host heard: its first segment waits for the host's
//! connection, and is answered as that came out. Each connection has a set of smoltcp's sockets of its
//! own, so that a segment costs the same however many there are.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddrV4, TcpListener, TcpStream};

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, Icmpv4DstUnreachable, IpCidr};
use vmm_sys_util::epoll::EventSet;

use super::common::{Common, Source};
use super::connection::{Begin, Connection, Fate, Key};
use super::link::Port;
use super::local::undelivered;
use super::packet::Packet;
use super::{GATEWAY, MAX_CONNECTIONS, PREFIX, TURN, host};

/// The longest first segment that is kept, with its header.
const LONGEST_FIRST: usize = 1500;
/// How long a connection has to be silent to make room for another.
const SILENT: Duration = Duration::from_secs(60);
/// When smoltcp is called again that wanted to be called at once and then did nothing.
const BREATH: Duration = Duration::from_millis(10);
/// The ports that those have who connect by forwards, as the guest sees it (RFC 6335, 6).
const FIRST_PORT: u16 = 49_152;

/// A forward: where the host listens, and where it leads.
pub(super) struct TcpForward {
    pub listener: TcpListener,
    pub guest: SocketAddrV4,
}

/// A connection of the guest's.
enum Entry {
    /// The host's side is not there yet.
    Opening {
        key: Key,
        stream: TcpStream,
        /// The guest's first segment.
        first: Vec<u8>,
        since: Instant,
    },
    Open(Connection),
}

impl Entry {
    fn key(&self) -> Key {
        match self {
            Entry::Opening { key, .. } => *key,
            Entry::Open(connection) => connection.key,
        }
    }

    fn last_active(&self) -> Instant {
        match self {
            Entry::Opening { since, .. } => *since,
            Entry::Open(connection) => connection.last_active,
        }
    }
}

/// See the module.
pub(super) struct Connections {
    net: Interface,
    /// No sockets: what comes here is refused as RFC 9293 says.
    nobody: SocketSet<'static>,
    entries: HashMap<u64, Entry>,
    numbers: HashMap<Key, u64>,
    forwards: HashMap<usize, TcpForward>,
    /// Somebody waits at a forward until there is room.
    has_waiting: bool,
    next_port: u16,
    seed: u64,
}

impl Connections {
    /// No connections; the seed decides what nobody else should guess.
    pub fn new(common: &mut Common, forwards: HashMap<usize, TcpForward>, seed: u64) -> Self {
        Connections {
            net: interface(common, seed),
            nobody: SocketSet::new(Vec::new()),
            entries: HashMap::new(),
            numbers: HashMap::new(),
            forwards,
            has_waiting: false,
            next_port: FIRST_PORT,
            seed,
        }
    }

    /// The link has become another: what it can do is asked for once.
    pub fn link_changed(&mut self, common: &mut Common) {
        self.seed = self
            .seed
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(1);
        self.net = interface(common, self.seed);
    }

    /// Whether an index is one of a forward here.
    pub fn has_forward(&self, index: usize) -> bool {
        self.forwards.contains_key(&index)
    }

    /// A segment from the guest.
    pub fn packet(&mut self, common: &mut Common, packet: &Packet) {
        let Some(segment) = packet.tcp() else { return };
        let key = Key {
            guest: SocketAddrV4::new(packet.header.src_addr, segment.src_port()),
            remote: SocketAddrV4::new(packet.header.dst_addr, segment.dst_port()),
        };
        let is_first = segment.syn() && !segment.ack() && !segment.rst();
        if let Some(number) = self.numbers.get(&key).copied() {
            match self.entries.get_mut(&number) {
                Some(Entry::Open(connection)) => {
                    if !(is_first && connection.is_replaced_by_first()) {
                        connection.packet(common, &mut self.net, packet.bytes);
                        return common.has_work(Source::Connection(number));
                    }
                    let fate = connection.fate_if_replaced();
                    self.remove(common, number, fate);
                }
                // The first segment again: the host's side is being opened still.
                Some(Entry::Opening { .. }) if !segment.rst() => return,
                _ => return self.remove(common, number, Fate::Ended),
            }
        }
        if is_first {
            self.open(common, packet, key);
        } else {
            self.refuse(common, packet.bytes);
        }
    }

    /// The guest opens a connection.
    fn open(&mut self, common: &mut Common, packet: &Packet, key: Key) {
        if packet.bytes.len() > LONGEST_FIRST {
            return;
        }
        let to = match host::destination(common, key.remote) {
            Ok(to) => to,
            Err(reason) => return self.fail(common, packet, reason),
        };
        if !self.has_room(common) {
            return self.refuse(common, packet.bytes);
        }
        let added = host::connect(to).and_then(|stream| {
            let first = packet.bytes.to_vec();
            let since = common.now;
            self.add(common, |_| {
                Some(Entry::Opening {
                    key,
                    stream,
                    first,
                    since,
                })
            })
        });
        if let Err(error) = added {
            self.fail(common, packet, host::reason(&error));
        }
    }

    /// Keep a connection that is made, and wait for its stream.
    fn add(
        &mut self,
        common: &mut Common,
        make: impl FnOnce(&mut Interface) -> Option<Entry>,
    ) -> io::Result<u64> {
        let number = common.number();
        let source = Source::Connection(number);
        let entry = make(&mut self.net).ok_or(io::ErrorKind::InvalidInput)?;
        let stream = match &entry {
            Entry::Opening { stream, .. } => stream,
            Entry::Open(connection) => &connection.stream,
        };
        let events = EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP;
        common.watch(stream, source, events)?;
        self.numbers.insert(entry.key(), number);
        self.entries.insert(number, entry);
        Ok(number)
    }

    /// Whether there is room for one more, if need be after one that was silent for long.
    fn has_room(&mut self, common: &mut Common) -> bool {
        if self.entries.len() < MAX_CONNECTIONS {
            return true;
        }
        let ages = self.entries.iter();
        let oldest = ages.min_by_key(|(_, entry)| entry.last_active());
        let silent = oldest.filter(|(_, entry)| entry.last_active() + SILENT <= common.now);
        let Some(number) = silent.map(|(number, _)| *number) else {
            return false;
        };
        if let Some(Entry::Open(connection)) = self.entries.get_mut(&number) {
            connection.abort(common, &mut self.net);
        }
        self.remove(common, number, Fate::Broken);
        true
    }

    fn remove(&mut self, common: &mut Common, number: u64, fate: Fate) {
        let Some(entry) = self.entries.remove(&number) else {
            return;
        };
        self.numbers.remove(&entry.key());
        common.timers.set(Source::Connection(number).token(), None);
        if let Entry::Open(connection) = entry {
            connection.close(fate);
        }
        if std::mem::take(&mut self.has_waiting) {
            for index in self.forwards.keys() {
                common.has_work(Source::Forward(*index));
            }
        }
    }

    /// Tell the guest that nobody listens.
    fn refuse(&mut self, common: &mut Common, packet: &[u8]) {
        let (link, packet) = (&mut common.link, Some(packet));
        let now = common.now;
        self.net
            .poll_ingress_single(now, &mut Port { link, packet }, &mut self.nobody);
    }

    /// Tell the guest why a first segment led nowhere.
    fn fail(&mut self, common: &mut Common, packet: &Packet, reason: Icmpv4DstUnreachable) {
        match reason {
            Icmpv4DstUnreachable::PortUnreachable => self.refuse(common, packet.bytes),
            reason => undelivered(common, packet, reason),
        }
    }

    /// Something happened at a connection's stream.
    pub fn event(&mut self, common: &mut Common, number: u64, events: EventSet) {
        if let Some(Entry::Open(connection)) = self.entries.get_mut(&number) {
            let is_over = events.intersects(EventSet::ERROR | EventSet::HANG_UP);
            let readable = EventSet::IN | EventSet::READ_HANG_UP;
            connection.may_read |= is_over || events.intersects(readable);
            connection.may_write |= is_over || events.contains(EventSet::OUT);
        }
        common.has_work(Source::Connection(number));
    }

    /// Do what a connection has to do.
    pub fn serve(&mut self, common: &mut Common, number: u64) {
        if let Some(Entry::Opening { .. }) = self.entries.get(&number) {
            self.finish_opening(common, number);
        }
        let Some(Entry::Open(connection)) = self.entries.get_mut(&number) else {
            return;
        };
        let token = Source::Connection(number).token();
        match connection.serve(common, &mut self.net) {
            Fate::Waits => {
                let deadline = connection.deadline(common.now, &mut self.net);
                // An earlier time means at once, which it was.
                let soonest = common.now + BREATH;
                let is_past = |at: &Instant| *at <= common.now;
                let deadline = match deadline {
                    Some(at) if is_past(&at) => Some(soonest),
                    other => other,
                };
                common.timers.set(token, deadline);
            }
            Fate::HasMore => common.has_work(Source::Connection(number)),
            fate => self.remove(common, number, fate),
        }
    }

    /// The host's side came to something: let the guest know.
    fn finish_opening(&mut self, common: &mut Common, number: u64) {
        let Some(Entry::Opening { stream, .. }) = self.entries.get(&number) else {
            return;
        };
        let error = match host::connected(stream) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return,
            other => other.err(),
        };
        let Some(Entry::Opening {
            key, stream, first, ..
        }) = self.entries.remove(&number)
        else {
            return;
        };
        // What was kept was a packet when it came.
        let packet = Packet::parse(&first, true);
        if let (Some(error), Some(packet)) = (&error, &packet) {
            self.fail(common, packet, host::reason(error));
        }
        let (now, net) = (common.now, &mut self.net);
        let connection = match error {
            None => Connection::new(now, key, stream, Begin::Listen, net),
            Some(_) => None,
        };
        let begun = connection.and_then(|mut connection| {
            connection.packet(common, net, &first);
            (!connection.is_listening()).then_some(connection)
        });
        match begun {
            Some(connection) => {
                self.entries.insert(number, Entry::Open(connection));
            }
            None => {
                self.numbers.remove(&key);
            }
        }
    }

    /// Take in those who wait at a forward.
    pub fn serve_forward(&mut self, common: &mut Common, index: usize) {
        for _ in 0..TURN {
            if !self.has_room(common) {
                self.has_waiting = true;
                return;
            }
            let Some(forward) = self.forwards.get(&index) else {
                return;
            };
            let guest = forward.guest;
            match forward.listener.accept() {
                Ok((stream, _)) => self.connect(common, guest, stream),
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
        common.has_work(Source::Forward(index));
    }

    /// Connect somebody at a forward with the guest.
    fn connect(&mut self, common: &mut Common, guest: SocketAddrV4, stream: TcpStream) {
        let key = loop {
            self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
            let remote = SocketAddrV4::new(GATEWAY, self.next_port);
            let key = Key { guest, remote };
            // There are more ports than connections.
            if !self.numbers.contains_key(&key) {
                break key;
            }
        };
        let prepared = stream.set_nonblocking(true).and(stream.set_nodelay(true));
        let now = common.now;
        let added = prepared.and_then(|()| {
            self.add(common, |net| {
                Connection::new(now, key, stream, Begin::Connect, net).map(Entry::Open)
            })
        });
        // Without room for it, it is closed.
        if let Ok(number) = added {
            common.has_work(Source::Connection(number));
        }
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

/// smoltcp's interface, which is whoever a guest means (AnyIP). It has no state of any connection's.
fn interface(common: &mut Common, seed: u64) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let (link, packet) = (&mut common.link, None);
    let mut net = Interface::new(config, &mut Port { link, packet }, common.now);
    net.set_any_ip(true);
    net.update_ip_addrs(|addresses| {
        // There is room for one.
        let _ = addresses.push(IpCidr::new(GATEWAY.into(), PREFIX));
    });
    net
}
