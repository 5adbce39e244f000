//! What the gateway itself does: addresses, DHCP, pings; and that it sleeps.

use std::net::Ipv4Addr;
use std::time::Duration;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{dhcpv4, icmp};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr,
};

use super::guest::{Guest, MAC};
use super::options;
use crate::net::user::{
    GATEWAY, GATEWAY_MAC, GUEST, RESOLVER, UserNet, UserNetError, UserNetOptions,
};

#[test]
fn dhcp_leases_the_address_the_gateway_and_the_name_server() {
    for is_restricted in [false, true] {
        let mut guest = Guest::without_address(&UserNetOptions {
            is_restricted,
            ..options()
        });
        let handle = guest.sockets.add(dhcpv4::Socket::new());
        let mut lease = None;
        guest.until("a lease comes", |guest| {
            let socket = guest.sockets.get_mut::<dhcpv4::Socket>(handle);
            if let Some(dhcpv4::Event::Configured(config)) = socket.poll() {
                lease = Some((
                    config.address,
                    config.router,
                    config.dns_servers.to_vec(),
                    config.server.address,
                ));
            }
            lease.is_some()
        });
        let (address, router, names, server) = lease.expect("a lease");
        assert_eq!(address.to_string(), "10.0.2.15/24");
        assert_eq!(server, GATEWAY);
        assert_eq!(router, (!is_restricted).then_some(GATEWAY));
        assert_eq!(
            names,
            if is_restricted {
                vec![]
            } else {
                vec![RESOLVER]
            }
        );
    }
}

#[test]
fn who_has_is_answered_for_the_gateway_and_the_name_server_alone() {
    let mut guest = Guest::without_address(&options());
    let question = |target| ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(MAC),
        source_protocol_addr: GUEST,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    };
    for target in [Ipv4Addr::new(10, 0, 2, 4), GUEST, GATEWAY, RESOLVER] {
        let mut frame = vec![0; 14 + 28];
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
        ethernet.set_src_addr(EthernetAddress(MAC));
        ethernet.set_dst_addr(EthernetAddress::BROADCAST);
        ethernet.set_ethertype(EthernetProtocol::Arp);
        question(target).emit(&mut ArpPacket::new_unchecked(ethernet.payload_mut()));
        guest.wire.send(&frame);
    }
    for expected in [GATEWAY, RESOLVER] {
        let mut answer = None;
        let start = std::time::Instant::now();
        while answer.is_none() && start.elapsed() < crate::driver::PATIENCE {
            answer = guest.wire.take();
            std::thread::yield_now();
        }
        let frame = answer.expect("an answer");
        let frame = EthernetFrame::new_checked(&frame[..]).expect("a frame");
        assert_eq!(frame.dst_addr(), EthernetAddress(MAC));
        let packet = ArpPacket::new_checked(frame.payload()).expect("an answer");
        let answer = ArpRepr::parse(&packet).expect("an answer");
        assert_eq!(
            answer,
            ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Reply,
                source_hardware_addr: GATEWAY_MAC,
                source_protocol_addr: expected,
                target_hardware_addr: EthernetAddress(MAC),
                target_protocol_addr: GUEST,
            }
        );
    }
}

/// Ping an address, and return what came back.
fn ping(guest: &mut Guest, to: Ipv4Addr) -> (IpAddress, Vec<u8>) {
    let buffer = || {
        let metadata = vec![icmp::PacketMetadata::EMPTY; 4];
        icmp::PacketBuffer::new(metadata, vec![0; 4096])
    };
    let mut socket = icmp::Socket::new(buffer(), buffer());
    socket.bind(icmp::Endpoint::Ident(0x77)).expect("is free");
    let message = Icmpv4Repr::EchoRequest {
        ident: 0x77,
        seq_no: 3,
        data: b"are you there",
    };
    let room = socket
        .send(message.buffer_len(), to.into())
        .expect("has room");
    let mut packet = Icmpv4Packet::new_unchecked(room);
    message.emit(&mut packet, &ChecksumCapabilities::default());
    let handle = guest.sockets.add(socket);
    let mut answer = None;
    guest.until("a ping is answered", |guest| {
        let socket = guest.sockets.get_mut::<icmp::Socket>(handle);
        answer = socket
            .recv()
            .ok()
            .map(|(bytes, from)| (from, bytes.to_vec()));
        answer.is_some()
    });
    guest.sockets.remove(handle);
    answer.expect("an answer")
}

#[test]
fn the_gateway_answers_pings() {
    let mut guest = Guest::new(&options());
    let (from, bytes) = ping(&mut guest, GATEWAY);
    assert_eq!(from, GATEWAY.into());
    let answer = Icmpv4Packet::new_checked(&bytes[..]).expect("a message");
    let answer = Icmpv4Repr::parse(&answer, &ChecksumCapabilities::default());
    assert_eq!(
        answer,
        Ok(Icmpv4Repr::EchoReply {
            ident: 0x77,
            seq_no: 3,
            data: b"are you there"
        })
    );
}

/// A packet of a protocol that nobody speaks, or a ping, as bytes.
fn packet(to: Ipv4Addr, next_header: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let header = Ipv4Repr {
        src_addr: GUEST,
        dst_addr: to,
        next_header,
        payload_len: payload.len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; 20 + payload.len()];
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
    header.emit(&mut packet, &ChecksumCapabilities::default());
    packet.payload_mut().copy_from_slice(payload);
    bytes
}

#[test]
fn what_cannot_be_delivered_is_said() {
    let mut guest = Guest::new(&options());
    let mut echo = vec![0; 16];
    let message = Icmpv4Repr::EchoRequest {
        ident: 1,
        seq_no: 1,
        data: &[0; 8],
    };
    let mut view = Icmpv4Packet::new_unchecked(&mut echo);
    message.emit(&mut view, &ChecksumCapabilities::default());
    let nobody = Ipv4Addr::new(10, 0, 2, 77);
    for (to, protocol, payload, reason, from) in [
        (
            GATEWAY,
            99,
            &[1; 20][..],
            Icmpv4DstUnreachable::ProtoUnreachable,
            GATEWAY,
        ),
        (
            nobody,
            1,
            &echo,
            Icmpv4DstUnreachable::HostUnreachable,
            GATEWAY,
        ),
        (
            Ipv4Addr::LOCALHOST,
            1,
            &echo,
            Icmpv4DstUnreachable::HostUnreachable,
            GATEWAY,
        ),
    ] {
        let sent = packet(to, IpProtocol::from(protocol), payload);
        guest.send_packet(&sent);
        let came = guest.receive_packet();
        let came = Ipv4Packet::new_checked(&came[..]).expect("a packet");
        assert_eq!((came.src_addr(), came.dst_addr()), (from, GUEST));
        let message = Icmpv4Packet::new_checked(came.payload()).expect("a message");
        let Ok(Icmpv4Repr::DstUnreachable {
            reason: is,
            header,
            data,
        }) = Icmpv4Repr::parse(&message, &ChecksumCapabilities::default())
        else {
            panic!("{message}");
        };
        assert_eq!((is, header.dst_addr, data), (reason, to, payload));
    }
}

#[test]
fn nothing_wakes_the_thread_while_nothing_happens() {
    let mut guest = Guest::new(&options());
    ping(&mut guest, GATEWAY);
    guest.go_on(Duration::from_millis(50));
    assert!(guest.nat.wakeups() > 0, "pings do wake it");
    assert_rests(&guest);
}

/// The thread comes to rest: on a busy host what was sent takes a while. One that spins never does.
#[track_caller]
fn assert_rests(guest: &Guest) {
    let rests = (0..50).any(|_| {
        let before = guest.nat.wakeups();
        std::thread::sleep(Duration::from_millis(200));
        guest.nat.wakeups() == before
    });
    assert!(rests, "{} wake-ups", guest.nat.wakeups());
}

#[test]
fn a_guest_that_takes_no_frames_makes_neither_memory_grow_nor_the_thread_spin() {
    let mut guest = Guest::new(&options());
    let mut echo = vec![0; 8 + 1400];
    let message = Icmpv4Repr::EchoRequest {
        ident: 1,
        seq_no: 1,
        data: &[0; 1400],
    };
    let mut view = Icmpv4Packet::new_unchecked(&mut echo);
    message.emit(&mut view, &ChecksumCapabilities::default());
    let sent = packet(GATEWAY, IpProtocol::Icmp, &echo);
    for _ in 0..2000 {
        guest.send_packet(&sent);
    }
    assert_rests(&guest);
    let (mut count, mut quiet) = (0, 0);
    while quiet < 50 {
        match guest.wire.take() {
            Some(_) => (count, quiet) = (count + 1, 0),
            None => {
                quiet += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    // What the wire has room for, and what waits for it.
    assert!((128..1000).contains(&count), "{count}");
    ping(&mut guest, GATEWAY);
}

#[test]
fn a_network_that_cannot_be_says_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let mut wrong = options();
    wrong.forwards = vec![format!("tcp::{port}-:80").parse().expect("a forward")];
    let error = UserNet::start(&wrong).err().expect("the port is taken");
    assert!(matches!(error, UserNetError::Listen { .. }));
    let text = error.to_string();
    assert!(
        text.contains(&format!("127.0.0.1:{port}")) && text.contains("choose a port"),
        "{text}"
    );
    for mtu in [0, 575, 65_521] {
        let wrong = UserNetOptions { mtu, ..options() };
        assert!(matches!(
            UserNet::start(&wrong),
            Err(UserNetError::Mtu { .. })
        ));
    }
}
