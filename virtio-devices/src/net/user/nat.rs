//! The thread: waits for the wire, for sockets and for deadlines, and leads each event to who it
//! belongs to. Started by the carrier. Sleeps without any timer while nothing is owed to anybody.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{EthernetAddress, Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, IpProtocol};
use vmm_sys_util::epoll::{EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::common::{Common, Source};
use super::datagram::{Datagrams, UdpForward};
use super::fragments::{Fragments, is_fragment};
use super::packet::{Content, Frame, Packet};
use super::tcp::{Connections, TcpForward};
use super::{BROADCAST, GATEWAY, TURN, dhcp, is_guest, local};
use crate::net::{LONGEST, Offloads};

/// What others tell the thread.
#[derive(Default)]
pub(super) struct News {
    /// End.
    pub stop: AtomicBool,
    /// What the driver accepts, as bits: see [`pack`].
    pub offloads: AtomicU64,
    /// How often the thread woke up: what it tells others.
    pub wakeups: AtomicU64,
    /// How many flows there are.
    pub flows: AtomicU64,
}

/// See the module.
pub(super) struct Nat {
    common: Common,
    connections: Connections,
    datagrams: Datagrams,
    fragments: Fragments,
    wake: EventFd,
    news: Arc<News>,
    offloads: u64,
    mtu: u16,
    frame: Vec<u8>,
    /// The wire may have frames.
    may_read: bool,
}

/// What the thread starts with.
pub(super) struct Start {
    pub common: Common,
    pub tcp: HashMap<usize, TcpForward>,
    pub udp: HashMap<usize, UdpForward>,
    pub wake: EventFd,
    pub news: Arc<News>,
    pub mtu: u16,
    pub seed: u64,
}

impl Nat {
    /// Wait for everything that is there from the start.
    pub fn new(start: Start) -> io::Result<Nat> {
        let mut common = start.common;
        let both = EventSet::IN | EventSet::OUT;
        common.watch(common.link.wire(), Source::Wire, both)?;
        common.watch(&start.wake, Source::Wake, EventSet::IN)?;
        for (index, forward) in &start.tcp {
            common.watch(&forward.listener, Source::Forward(*index), EventSet::IN)?;
        }
        for (index, forward) in &start.udp {
            common.watch(&forward.socket, Source::Forward(*index), EventSet::IN)?;
        }
        Ok(Nat {
            connections: Connections::new(&mut common, start.tcp, start.seed),
            datagrams: Datagrams::new(start.udp),
            common,
            fragments: Fragments::default(),
            wake: start.wake,
            news: start.news,
            offloads: 0,
            mtu: start.mtu,
            frame: vec![0; LONGEST],
            may_read: false,
        })
    }

    /// The thread: ends when it is told to.
    pub fn run(&mut self) {
        let mut events = vec![EpollEvent::default(); TURN];
        while !self.news.stop.load(Ordering::SeqCst) {
            let count = match self.common.wait(self.may_read, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Nothing can be waited for any more: the guest's wire is cut.
                Err(_) => return,
            };
            self.news.wakeups.fetch_add(1, Ordering::Relaxed);
            for event in events.iter().take(count) {
                if let Some(source) = Source::of(event.data()) {
                    self.event(source, event.event_set());
                }
            }
            self.turn();
        }
    }

    fn event(&mut self, source: Source, events: EventSet) {
        match source {
            Source::Wire => {
                self.may_read = true;
                self.common.link.unblock();
            }
            Source::Wake => self.hear(),
            Source::Connection(number) => {
                self.connections.event(&mut self.common, number, events);
            }
            Source::Forward(_) | Source::Datagrams(_) => self.common.has_work(source),
        }
    }

    /// There is news.
    fn hear(&mut self) {
        // Nothing in it: the news itself is what counts.
        let _ = self.wake.read();
        let offloads = self.news.offloads.load(Ordering::SeqCst);
        if offloads != self.offloads {
            self.offloads = offloads;
            self.common.link.set_offloads(unpack(offloads));
            self.connections.link_changed(&mut self.common);
        }
    }

    /// Frames, deadlines, then work as long as the link has room, all of it bounded.
    fn turn(&mut self) {
        self.read_wire();
        self.common.link.flush();
        if !self.common.link.is_blocked() {
            while let Some(token) = self.common.timers.take_due(self.common.now) {
                match Source::of(token) {
                    Some(Source::Datagrams(number)) => {
                        self.datagrams.timed_out(&mut self.common, number);
                    }
                    Some(source) => self.common.has_work(source),
                    None => {}
                }
            }
        }
        for _ in 0..self.common.work() {
            if !self.common.link.has_room() {
                break;
            }
            if let Some(source) = self.common.take_work() {
                self.work(source);
            }
        }
        self.common.link.flush();
        let flows = self.connections.len() + self.datagrams.len();
        self.news.flows.store(flows as u64, Ordering::Relaxed);
    }

    fn work(&mut self, source: Source) {
        let common = &mut self.common;
        match source {
            Source::Connection(number) => self.connections.serve(common, number),
            Source::Datagrams(number) => self.datagrams.serve(common, number),
            Source::Forward(index) if self.connections.has_forward(index) => {
                self.connections.serve_forward(common, index);
            }
            Source::Forward(index) => self.datagrams.serve_forward(common, index),
            Source::Wire | Source::Wake => {}
        }
    }

    /// Take frames off the wire.
    fn read_wire(&mut self) {
        for _ in 0..TURN {
            if !self.may_read {
                return;
            }
            match rustix::io::read(self.common.link.wire(), &mut self.frame) {
                Ok(0) => self.may_read = false,
                Ok(len) => {
                    let bytes = std::mem::take(&mut self.frame);
                    if let Some(frame) = bytes.get(..len).and_then(Frame::parse) {
                        self.frame(&frame);
                    }
                    self.frame = bytes;
                }
                Err(rustix::io::Errno::INTR) => {}
                // Empty, or cut for good.
                Err(_) => self.may_read = false,
            }
        }
    }

    fn frame(&mut self, frame: &Frame) {
        match &frame.content {
            Content::Arp(bytes) => local::arp(&mut self.common, frame.from, bytes),
            Content::Ipv4(packet) => {
                if is_guest(packet.header.src_addr) {
                    self.common.link.learn(packet.header.src_addr, frame.from);
                }
                if !is_fragment(packet) {
                    return self.packet(packet);
                }
                let whole = self.fragments.add(self.common.now, packet);
                if let Some(packet) = whole
                    .as_deref()
                    .and_then(|whole| Packet::parse(whole, false))
                {
                    self.packet(&packet);
                }
            }
        }
    }

    fn packet(&mut self, packet: &Packet) {
        let (from, to) = (packet.header.src_addr, packet.header.dst_addr);
        let protocol = packet.header.next_header;
        // Who has no address yet may ask for one, and nothing else.
        if protocol == IpProtocol::Udp && (to == GATEWAY || to.is_broadcast()) {
            let datagram = packet.udp();
            let request = datagram.filter(|datagram| datagram.dst_port() == dhcp::SERVER);
            if let Some(request) = request {
                return dhcp::answer(&mut self.common, self.mtu, request.payload());
            }
        }
        // Nobody answers what was sent to many, or by who cannot be (RFC 1122, 3.2.2).
        let is_for_many = to.is_broadcast() || to.is_multicast() || to == BROADCAST;
        if is_for_many || !is_guest(from) {
            return;
        }
        let common = &mut self.common;
        match protocol {
            IpProtocol::Tcp => self.connections.packet(common, packet),
            IpProtocol::Udp => {
                if let Some(datagram) = packet.udp() {
                    self.datagrams.outgoing(common, packet, &datagram);
                }
            }
            IpProtocol::Icmp => self.ping(packet),
            _ => local::undelivered(common, packet, Icmpv4DstUnreachable::ProtoUnreachable),
        }
    }

    /// Of ICMP, echo requests alone are answered.
    fn ping(&mut self, packet: &Packet) {
        let Ok(message) = Icmpv4Packet::new_checked(packet.payload) else {
            return;
        };
        let message = Icmpv4Repr::parse(&message, &ChecksumCapabilities::default());
        let Ok(Icmpv4Repr::EchoRequest {
            ident,
            seq_no,
            data,
        }) = message
        else {
            return;
        };
        let common = &mut self.common;
        if matches!(packet.header.dst_addr, GATEWAY | super::RESOLVER) {
            local::pong(common, packet, ident, seq_no, data);
        } else {
            self.datagrams.ping(common, packet, ident);
        }
    }
}

/// Offloads as bits.
pub(super) fn pack(offloads: Offloads) -> u64 {
    u64::from(offloads.checksum) | u64::from(offloads.tso4) << 1
}

fn unpack(bits: u64) -> Offloads {
    Offloads {
        checksum: bits & 1 != 0,
        tso4: bits & 2 != 0,
        ..Offloads::default()
    }
}

/// The device's address as smoltcp has it.
pub(super) fn station(mac: [u8; 6]) -> EthernetAddress {
    EthernetAddress(mac)
}
