//! Datagrams, out and in, in one packet or several, and to nobody.

use std::collections::HashMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{icmp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{
    EthernetAddress, Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet,
    Ipv4Repr, UdpPacket, UdpRepr,
};

use super::guest::{Guest, MAC};
use super::{options, pattern};
use crate::driver::PATIENCE;
use crate::net::user::carrier::pair;
use crate::net::user::common::{Common, Source};
use crate::net::user::datagram::Datagrams;
use crate::net::user::link::Link;
use crate::net::user::packet::Packet;
use crate::net::user::{GATEWAY, GUEST, MAX_DATAGRAM_FLOWS, RESOLVER, UserNetOptions};

fn bound() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let port = socket.local_addr().expect("an address").port();
    (socket, port)
}

fn socket(guest: &mut Guest, port: u16) -> SocketHandle {
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 8], vec![0; 8192]);
    let mut socket = udp::Socket::new(buffer(), buffer());
    socket.bind(port).expect("is free");
    guest.sockets.add(socket)
}

fn send(guest: &mut Guest, handle: SocketHandle, to: (Ipv4Addr, u16), bytes: &[u8]) {
    let socket = guest.sockets.get_mut::<udp::Socket>(handle);
    socket.send_slice(bytes, to).expect("has room");
    guest.poll();
}

fn receive(guest: &mut Guest, handle: SocketHandle) -> (Vec<u8>, String) {
    let mut came = None;
    guest.until("a datagram comes", |guest| {
        let socket = guest.sockets.get_mut::<udp::Socket>(handle);
        let received = socket.recv().ok();
        came = received.map(|(bytes, meta)| (bytes.to_vec(), meta.endpoint.to_string()));
        came.is_some()
    });
    came.expect("a datagram")
}

#[test]
fn datagrams_are_echoed_with_the_sender_that_the_guest_knows() {
    let (host, port) = bound();
    let mut guest = Guest::new(&options());
    let (first, second) = (socket(&mut guest, 5000), socket(&mut guest, 5001));
    for (handle, bytes) in [(first, &b"one"[..]), (second, b"two"), (first, b"")] {
        send(&mut guest, handle, (GATEWAY, port), bytes);
        let mut got = [0; 100];
        let (len, peer) = {
            // The guest has to resolve the gateway first.
            host.set_nonblocking(true).expect("a socket");
            let mut came = None;
            guest.until("it arrives", |_| {
                came = host.recv_from(&mut got).ok();
                came.is_some()
            });
            came.expect("a datagram")
        };
        assert_eq!(&got[..len], bytes);
        host.send_to(&got[..len], peer).expect("is open");
        let (echo, from) = receive(&mut guest, handle);
        assert_eq!((&echo[..], from), (bytes, format!("10.0.2.2:{port}")));
    }
    assert_eq!(guest.nat.flows(), 2);
}

#[test]
fn nobody_else_may_answer() {
    let (host, port) = bound();
    let (stranger, _) = bound();
    let mut guest = Guest::new(&options());
    let handle = socket(&mut guest, 5000);
    send(&mut guest, handle, (GATEWAY, port), b"hello");
    host.set_nonblocking(true).expect("a socket");
    let mut peer = None;
    guest.until("it arrives", |_| {
        peer = host.recv_from(&mut [0; 100]).ok();
        peer.is_some()
    });
    let (_, peer) = peer.expect("a datagram");
    // The host may refuse it at once, or later.
    let _ = stranger.send_to(b"wrong", peer);
    host.send_to(b"right", peer).expect("is open");
    assert_eq!(receive(&mut guest, handle).0, b"right");
}

#[test]
fn a_datagram_to_nobody_comes_back_as_an_error() {
    let (host, port) = bound();
    drop(host);
    let mut guest = Guest::new(&options());
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
    let mut errors = icmp::Socket::new(buffer(), buffer());
    errors
        .bind(icmp::Endpoint::Udp(5000.into()))
        .expect("is free");
    let errors = guest.sockets.add(errors);
    let handle = socket(&mut guest, 5000);
    send(&mut guest, handle, (GATEWAY, port), b"is anybody there");
    let mut came = None;
    guest.until("an error comes", |guest| {
        let socket = guest.sockets.get_mut::<icmp::Socket>(errors);
        came = socket.recv().ok().map(|(bytes, _)| bytes.to_vec());
        came.is_some()
    });
    let bytes = came.expect("an error");
    let message = Icmpv4Packet::new_checked(&bytes[..]).expect("a message");
    let message = Icmpv4Repr::parse(&message, &ChecksumCapabilities::default());
    let Ok(Icmpv4Repr::DstUnreachable {
        reason,
        header,
        data,
    }) = message
    else {
        panic!("{message:?}");
    };
    assert_eq!(reason, Icmpv4DstUnreachable::PortUnreachable);
    assert_eq!((header.src_addr, header.dst_addr), (GUEST, GATEWAY));
    let [a, b] = port.to_be_bytes();
    assert_eq!(data[..4], [0x13, 0x88, a, b]);
}

/// A packet of UDP, in fragments of `step` bytes.
fn fragments(port: u16, payload: &[u8], step: usize) -> Vec<Vec<u8>> {
    let udp = UdpRepr {
        src_port: 5000,
        dst_port: port,
    };
    let mut datagram = vec![0; 8 + payload.len()];
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut datagram),
        &GUEST.into(),
        &GATEWAY.into(),
        payload.len(),
        |place| place.copy_from_slice(payload),
        &ChecksumCapabilities::default(),
    );
    let parts = datagram.chunks(step).enumerate();
    let fragment = |(index, part): (usize, &[u8])| {
        let header = Ipv4Repr {
            src_addr: GUEST,
            dst_addr: GATEWAY,
            next_header: IpProtocol::Udp,
            payload_len: part.len(),
            hop_limit: 64,
        };
        let mut bytes = vec![0; 20 + part.len()];
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
        header.emit(&mut packet, &ChecksumCapabilities::ignored());
        packet.clear_flags();
        packet.set_ident(77);
        packet.set_frag_offset((index * step) as u16);
        packet.set_more_frags(index * step + part.len() < datagram.len());
        packet.fill_checksum();
        packet.payload_mut().copy_from_slice(part);
        bytes
    };
    parts.map(fragment).collect()
}

#[test]
fn what_is_longer_than_a_packet_goes_in_fragments_both_ways() {
    let (host, port) = bound();
    let mut guest = Guest::new(&options());
    let payload = pattern(20_000, 1);
    for fragment in fragments(port, &payload, 1480) {
        guest.send_packet(&fragment);
    }
    let mut got = vec![0; 65_536];
    let (len, peer) = host.recv_from(&mut got).expect("a datagram");
    assert!(got[..len] == payload);
    host.send_to(&got[..len], peer).expect("is open");
    let (mut whole, mut end) = (vec![0; 20_008], 0);
    while end < whole.len() {
        let packet = guest.receive_packet();
        let packet = Ipv4Packet::new_checked(&packet[..]).expect("a packet");
        assert!(packet.verify_checksum() && packet.total_len() <= 1500);
        assert_eq!(usize::from(packet.frag_offset()), end, "in order");
        let part = packet.payload();
        whole[end..end + part.len()].copy_from_slice(part);
        end += part.len();
        assert_eq!(packet.more_frags(), end < whole.len());
    }
    let datagram = UdpPacket::new_checked(&whole[..]).expect("a datagram");
    assert!(datagram.verify_checksum(&GATEWAY.into(), &GUEST.into()));
    assert!(datagram.payload() == payload);
}

#[test]
fn a_forward_knows_its_peers_apart() {
    let forwarded = UserNetOptions {
        forwards: vec!["udp::0-:7".parse().expect("a forward")],
        is_restricted: true,
        ..options()
    };
    let mut guest = Guest::new(&forwarded);
    let entrance = guest.nat.listens()[0].host;
    let handle = socket(&mut guest, 7);
    let (first, _) = bound();
    let (second, _) = bound();
    let mut peers = Vec::new();
    for (peer, name) in [
        (&first, b"first_"),
        (&second, b"second"),
        (&first, b"again_"),
    ] {
        peer.send_to(name, entrance).expect("is open");
        let (bytes, from) = receive(&mut guest, handle);
        assert_eq!(bytes, name);
        peers.push(from.parse::<std::net::SocketAddrV4>().expect("a peer"));
    }
    assert_eq!(peers[0], peers[2]);
    assert_ne!(peers[0], peers[1]);
    assert_eq!(*peers[0].ip(), GATEWAY);
    for (peer, at) in [(&first, peers[0]), (&second, peers[1])] {
        send(&mut guest, handle, (*at.ip(), at.port()), b"answer");
        peer.set_nonblocking(true).expect("a socket");
        let (mut got, mut came) = ([0; 100], None);
        guest.until("an answer comes", |_| {
            came = peer.recv_from(&mut got).ok();
            came.is_some()
        });
        let (len, from) = came.expect("an answer");
        assert_eq!((&got[..len], from), (&b"answer"[..], entrance));
    }
}

#[test]
fn names_are_asked_of_the_hosts_server_and_no_other_port_is() {
    let (server, port) = bound();
    let asked = UserNetOptions {
        resolver: Some(([127, 0, 0, 1], port).into()),
        ..options()
    };
    let mut guest = Guest::new(&asked);
    let handle = socket(&mut guest, 5000);
    send(&mut guest, handle, (RESOLVER, 53), b"who is it");
    server.set_nonblocking(true).expect("a socket");
    let mut came = None;
    let mut got = [0; 100];
    guest.until("the server is asked", |_| {
        came = server.recv_from(&mut got).ok();
        came.is_some()
    });
    let (len, peer) = came.expect("a question");
    assert_eq!(&got[..len], b"who is it");
    server.send_to(b"it is me", peer).expect("is open");
    let answer = receive(&mut guest, handle);
    assert_eq!(answer, (b"it is me".to_vec(), "10.0.2.3:53".into()));
    send(&mut guest, handle, (RESOLVER, 54), b"wrong port");
    guest.go_on(Duration::from_millis(50));
    assert_eq!(guest.nat.flows(), 1);
}

#[test]
fn there_are_so_many_flows_and_no_more() {
    let (_host, port) = bound();
    let mut guest = Guest::new(&options());
    for number in 0..2 * MAX_DATAGRAM_FLOWS {
        let mut packet = fragments(port, b"x", 1480).remove(0);
        // Without a checksum, any source port is right.
        packet[20..22].copy_from_slice(&(6000 + number as u16).to_be_bytes());
        packet[26..28].copy_from_slice(&[0, 0]);
        guest.send_packet(&packet);
    }
    guest.until("there are many flows", |guest| {
        guest.nat.flows() == MAX_DATAGRAM_FLOWS as u64
    });
    guest.go_on(Duration::from_millis(50));
    assert_eq!(guest.nat.flows(), MAX_DATAGRAM_FLOWS as u64);
}

#[test]
fn a_quiet_flow_ends_and_one_in_use_does_not() {
    let (host, port) = bound();
    let (_ours, wire) = pair().expect("a pair");
    let link = Link::new(wire, EthernetAddress(MAC), 1500);
    let nobody = ([127, 0, 0, 1], 9).into();
    let mut common = Common::new(link, nobody, false).expect("an epoll");
    let mut flows = Datagrams::new(HashMap::new());
    let bytes = fragments(port, b"x", 1480).remove(0);
    let packet = Packet::parse(&bytes, false).expect("a packet");
    let datagram = packet.udp().expect("a datagram");
    let due = |common: &mut Common, flows: &mut Datagrams, seconds| {
        common.now = Instant::from_secs(seconds);
        while let Some(token) = common.timers.take_due(common.now) {
            match Source::of(token) {
                Some(Source::Datagrams(number)) => flows.timed_out(common, number),
                other => panic!("{other:?}"),
            }
        }
        flows.len()
    };
    flows.outgoing(&mut common, &packet, &datagram);
    assert_eq!(due(&mut common, &mut flows, 100), 1);
    flows.outgoing(&mut common, &packet, &datagram);
    // Its first deadline, which its use has put off.
    assert_eq!(due(&mut common, &mut flows, 120), 1);
    assert_eq!(due(&mut common, &mut flows, 219), 1);
    assert_eq!(due(&mut common, &mut flows, 220), 0);
    assert_eq!(common.timers.next(), None, "nothing is waited for");
    host.recv_from(&mut [0; 10]).expect("it did go out");
}
