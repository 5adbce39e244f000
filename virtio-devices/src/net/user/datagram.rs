//! Flows of datagrams: UDP between the guest and one other port, and pings of one other address. Each
//! has a socket of the host's, connected to that place, so that only it can answer and its errors are
//! heard; or it came in by a forward, and shares the forward's. Called by the thread.
//!
//! A flow that nothing passed for a while is closed. Where there are many, the one that was quiet for
//! the longest time makes room.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::{RecvFlags, SendFlags};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Repr, UdpPacket, UdpRepr,
};
use vmm_sys_util::epoll::EventSet;

use super::common::{Common, Source};
use super::local::{HOP_LIMIT, send_icmp, undelivered, undelivered_datagram};
use super::packet::Packet;
use super::{GATEWAY, MAX_DATAGRAM_FLOWS, TURN, host, is_inside};

/// How long a flow is kept when it is quiet: what RFC 4787 (REQ-5) asks for, and less for what is one
/// question with one answer.
const QUIET: Duration = Duration::from_secs(120);
const QUIET_ECHO: Duration = Duration::from_secs(15);
/// How many errors of one socket are looked past at once; more of them would never end.
const MAX_FAILURES: usize = 16;
/// The longest message of UDP over IPv4.
const LONGEST: usize = 65_507;
/// The ports that are given to peers of forwards (RFC 6335, 6).
const PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// What tells flows apart. A ping's ports are its identifier, and 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    is_echo: bool,
    guest: SocketAddrV4,
    remote: SocketAddrV4,
}

/// A flow.
struct Flow {
    key: Key,
    socket: Socket,
    last_used: Instant,
}

/// How a flow gets out.
enum Socket {
    /// Its own, connected.
    Udp(UdpSocket),
    /// Its own, of ICMP, connected.
    Echo(OwnedFd),
    /// A forward's, by index, and who is at its other end.
    Forward(usize, SocketAddr),
}

/// A forward: a socket, and where it leads.
pub(super) struct UdpForward {
    pub socket: UdpSocket,
    pub guest: SocketAddrV4,
}

/// See the module.
pub(super) struct Datagrams {
    flows: HashMap<u64, Flow>,
    numbers: HashMap<Key, u64>,
    /// Flows of forwards: which forward, and who is at the other end.
    peers: HashMap<(usize, SocketAddr), u64>,
    forwards: HashMap<usize, UdpForward>,
    buffer: Vec<u8>,
}

impl Datagrams {
    pub fn new(forwards: HashMap<usize, UdpForward>) -> Datagrams {
        Datagrams {
            flows: HashMap::new(),
            numbers: HashMap::new(),
            peers: HashMap::new(),
            forwards,
            buffer: vec![0; LONGEST + 1],
        }
    }

    /// A datagram from the guest, to anywhere but the gateway's own services.
    pub fn outgoing(&mut self, common: &mut Common, packet: &Packet, datagram: &UdpPacket<&[u8]>) {
        let key = Key {
            is_echo: false,
            guest: SocketAddrV4::new(packet.header.src_addr, datagram.src_port()),
            remote: SocketAddrV4::new(packet.header.dst_addr, datagram.dst_port()),
        };
        self.send(common, packet, key, datagram.payload());
    }

    /// A ping from the guest, of anything but the gateway.
    pub fn ping(&mut self, common: &mut Common, packet: &Packet, ident: u16) {
        let key = Key {
            is_echo: true,
            guest: SocketAddrV4::new(packet.header.src_addr, ident),
            remote: SocketAddrV4::new(packet.header.dst_addr, 0),
        };
        self.send(common, packet, key, packet.payload);
    }

    fn send(&mut self, common: &mut Common, packet: &Packet, key: Key, payload: &[u8]) {
        let flow = self
            .find(common, key)
            .map(|number| self.flows.get_mut(&number));
        let sent = match flow {
            Ok(None) => return,
            Ok(Some(flow)) => {
                flow.last_used = common.now;
                match &flow.socket {
                    Socket::Udp(socket) => socket.send(payload),
                    Socket::Echo(socket) => {
                        rustix::net::send(socket, payload, SendFlags::empty()).map_err(Into::into)
                    }
                    Socket::Forward(index, peer) => match self.forwards.get(index) {
                        Some(forward) => forward.socket.send_to(payload, peer),
                        None => Ok(0),
                    },
                }
            }
            Err(reason) => return undelivered(common, packet, reason),
        };
        // What the host has no room for is lost, as in any network.
        if let Err(error) = sent
            && error.kind() != io::ErrorKind::WouldBlock
        {
            undelivered(common, packet, host::reason(&error));
        }
    }

    /// The flow, opened if need be.
    fn find(&mut self, common: &mut Common, key: Key) -> Result<u64, Icmpv4DstUnreachable> {
        if let Some(number) = self.numbers.get(&key) {
            return Ok(*number);
        }
        let socket = open(common, key)?;
        self.add(common, key, socket)
            .map_err(|error| host::reason(&error))
    }

    /// Have one more flow, and one less if there are many.
    fn add(&mut self, common: &mut Common, key: Key, socket: Socket) -> io::Result<u64> {
        if self.flows.len() >= MAX_DATAGRAM_FLOWS {
            let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.last_used);
            if let Some(oldest) = oldest.map(|(number, _)| *number) {
                self.remove(common, oldest);
            }
        }
        let number = common.number();
        let source = Source::Datagrams(number);
        match &socket {
            Socket::Udp(socket) => common.watch(socket, source, EventSet::IN)?,
            Socket::Echo(socket) => common.watch(socket, source, EventSet::IN)?,
            Socket::Forward(index, peer) => {
                self.peers.insert((*index, *peer), number);
            }
        }
        self.numbers.insert(key, number);
        let last_used = common.now;
        let flow = Flow {
            key,
            socket,
            last_used,
        };
        common.timers.set(source.token(), Some(flow.end()));
        self.flows.insert(number, flow);
        Ok(number)
    }

    fn remove(&mut self, common: &mut Common, number: u64) {
        let Some(flow) = self.flows.remove(&number) else {
            return;
        };
        self.numbers.remove(&flow.key);
        if let Socket::Forward(index, peer) = flow.socket {
            self.peers.remove(&(index, peer));
        }
        common.timers.set(Source::Datagrams(number).token(), None);
    }

    /// A flow's deadline came: it ends, unless it was used meanwhile.
    pub fn timed_out(&mut self, common: &mut Common, number: u64) {
        let Some(flow) = self.flows.get(&number) else {
            return;
        };
        let end = flow.end();
        if end <= common.now {
            self.remove(common, number);
        } else {
            let token = Source::Datagrams(number).token();
            common.timers.set(token, Some(end));
        }
    }

    /// Take to the guest what came for a flow.
    pub fn serve(&mut self, common: &mut Common, number: u64) {
        let mut failures = 0;
        for _ in 0..TURN {
            if !common.link.has_room() {
                break;
            }
            let Some(flow) = self.flows.get_mut(&number) else {
                return;
            };
            let received = match &flow.socket {
                Socket::Udp(socket) => socket.recv(&mut self.buffer),
                Socket::Echo(socket) => {
                    rustix::net::recv(socket, &mut self.buffer[..], RecvFlags::empty())
                        .map(|(len, _)| len)
                        .map_err(Into::into)
                }
                Socket::Forward(..) => return,
            };
            match received {
                Ok(len) => {
                    flow.last_used = common.now;
                    let bytes = self.buffer.get(..len).unwrap_or_default();
                    deliver(common, flow.key, bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if failures == MAX_FAILURES => return,
                Err(error) => {
                    failures += 1;
                    let reason = host::reason(&error);
                    let Key { guest, remote, .. } = flow.key;
                    if !flow.key.is_echo {
                        undelivered_datagram(common, guest, remote, reason);
                    }
                }
            }
        }
        common.has_work(Source::Datagrams(number));
    }

    /// Take to the guest what came for a forward.
    pub fn serve_forward(&mut self, common: &mut Common, index: usize) {
        let mut failures = 0;
        for _ in 0..TURN {
            if !common.link.has_room() {
                break;
            }
            let Some(forward) = self.forwards.get(&index) else {
                return;
            };
            let guest = forward.guest;
            match forward.socket.recv_from(&mut self.buffer) {
                Ok((len, peer)) => {
                    let Some(key) = self.peer(common, index, guest, peer) else {
                        continue;
                    };
                    let bytes = self.buffer.get(..len).unwrap_or_default();
                    deliver(common, key, bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) if failures == MAX_FAILURES => return,
                // A peer of a moment ago is gone; others may be there.
                Err(_) => failures += 1,
            }
        }
        common.has_work(Source::Forward(index));
    }

    /// The flow of somebody at a forward: to the guest, a port of the gateway's.
    fn peer(
        &mut self,
        common: &mut Common,
        index: usize,
        guest: SocketAddrV4,
        peer: SocketAddr,
    ) -> Option<Key> {
        if let Some(number) = self.peers.get(&(index, peer)) {
            let flow = self.flows.get_mut(number)?;
            flow.last_used = common.now;
            return Some(flow.key);
        }
        let key = |port| Key {
            is_echo: false,
            guest,
            remote: SocketAddrV4::new(GATEWAY, port),
        };
        // There are more ports than flows.
        let key = PORTS.map(key).find(|key| !self.numbers.contains_key(key))?;
        self.add(common, key, Socket::Forward(index, peer)).ok()?;
        Some(key)
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.flows.len()
    }
}

impl Flow {
    /// When it ends if nothing passes.
    fn end(&self) -> Instant {
        self.last_used
            + match self.socket {
                Socket::Echo(_) => QUIET_ECHO,
                Socket::Udp(_) | Socket::Forward(..) => QUIET,
            }
    }
}

/// The socket of a flow that the guest opens.
fn open(common: &Common, key: Key) -> Result<Socket, Icmpv4DstUnreachable> {
    let opened = if key.is_echo {
        let to = *key.remote.ip();
        echo_destination(common, to)?;
        host::echoes(to).map(Socket::Echo)
    } else {
        let to = host::destination(common, key.remote)?;
        host::datagrams(to).map(Socket::Udp)
    };
    opened.map_err(|error| match (key.is_echo, error.kind()) {
        // A host where programs may not ping: to the guest, nobody is there.
        (true, io::ErrorKind::PermissionDenied) => Icmpv4DstUnreachable::HostUnreachable,
        _ => host::reason(&error),
    })
}

/// Whether an address may be pinged.
fn echo_destination(common: &Common, to: Ipv4Addr) -> Result<(), Icmpv4DstUnreachable> {
    if common.is_restricted {
        return Err(Icmpv4DstUnreachable::HostProhibited);
    }
    if is_inside(to) || !host::is_routed(to) {
        return Err(Icmpv4DstUnreachable::HostUnreachable);
    }
    Ok(())
}

/// Give the guest a message of a flow.
fn deliver(common: &mut Common, key: Key, bytes: &[u8]) {
    if key.is_echo {
        return deliver_echo(common, key, bytes);
    }
    let udp = UdpRepr {
        src_port: key.remote.port(),
        dst_port: key.guest.port(),
    };
    let len = bytes.len();
    if len > LONGEST {
        return;
    }
    let mut datagram = vec![0; udp.header_len() + len];
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut datagram),
        &(*key.remote.ip()).into(),
        &(*key.guest.ip()).into(),
        len,
        |payload| payload.copy_from_slice(bytes),
        &ChecksumCapabilities::default(),
    );
    let header = Ipv4Repr {
        src_addr: *key.remote.ip(),
        dst_addr: *key.guest.ip(),
        next_header: IpProtocol::Udp,
        payload_len: datagram.len(),
        hop_limit: HOP_LIMIT,
    };
    common.link.send(&header, &datagram, None);
}

/// Give the guest the answer to a ping, with the identifier that it knows.
fn deliver_echo(common: &mut Common, key: Key, bytes: &[u8]) {
    let Ok(packet) = Icmpv4Packet::new_checked(bytes) else {
        return;
    };
    let message = Icmpv4Repr::parse(&packet, &ChecksumCapabilities::ignored());
    let Ok(Icmpv4Repr::EchoReply { seq_no, data, .. }) = message else {
        return;
    };
    let answer = Icmpv4Repr::EchoReply {
        ident: key.guest.port(),
        seq_no,
        data,
    };
    send_icmp(common, *key.remote.ip(), *key.guest.ip(), &answer);
}
