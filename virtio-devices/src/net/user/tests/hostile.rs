//! Frames that no honest guest sends: nothing panics or hangs, flows stay bounded, and the network
//! works afterwards.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};

use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, TcpControl,
    TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr,
};

use super::guest::{Guest, MAC};
use super::options;
use crate::net::user::{GATEWAY, GATEWAY_MAC, GUEST, MAX_CONNECTIONS, MAX_DATAGRAM_FLOWS};

/// Where frames of the loopback's go: only to sockets of this test.
#[derive(Clone, Copy)]
struct Ports {
    tcp: u16,
    udp: u16,
}

/// A frame that is nearly right.
#[derive(Clone, Debug)]
struct Wild {
    kind: u8,
    port: u16,
    flags: u8,
    seq: i32,
    ack: i32,
    window: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
    bends: Vec<(usize, u8)>,
    cut: usize,
    header: u8,
    fragment: Option<(u16, bool)>,
}

fn wild() -> impl Strategy<Value = Wild> {
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    // Most are right: then what they say is what is tried.
    let options = prop_oneof![
        3 => Just(Vec::new()),
        1 => Just(vec![1, 3, 3, 14]),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    let flags = prop_oneof![
        4 => prop::sample::select(vec![0x10, 0x18, 0x11, 0x04, 0x14, 0x02, 0x12]),
        1 => any::<u8>(),
    ];
    let bends = prop::collection::vec((0..120usize, any::<u8>()), 0..3);
    let fragment = prop::option::weighted(0.1, ((0..8000u16).prop_map(|at| at * 8), any::<bool>()));
    let near = || prop_oneof![4 => -3..3i32, 1 => -70_000..70_000i32, 1 => any::<i32>()];
    (
        (0..8u8, 40_000..40_004u16, flags),
        (near(), near(), any::<u16>(), options),
        (payload, bends),
        (
            prop_oneof![8 => Just(usize::MAX), 1 => 0..100usize],
            0..3u8,
            fragment,
        ),
    )
        .prop_map(|(a, b, c, d)| Wild {
            kind: a.0,
            port: a.1,
            flags: a.2,
            seq: b.0,
            ack: b.1,
            window: b.2,
            options: b.3,
            payload: c.0,
            bends: c.1,
            cut: d.0,
            header: d.1,
            fragment: d.2,
        })
}

/// What is known of a connection from what came last: where it is.
#[derive(Clone, Copy, Default)]
struct Known {
    seq: TcpSeqNumber,
    ack: TcpSeqNumber,
}

impl Wild {
    /// The header and the frame, as bytes.
    fn bytes(&self, ports: Ports, known: Known) -> Vec<u8> {
        let (protocol, body) = match self.kind {
            0..5 => (IpProtocol::Tcp, self.segment(ports.tcp, known)),
            5 => (IpProtocol::Udp, self.datagram(ports.udp)),
            6 => (
                IpProtocol::Icmp,
                [&[8, 0, 0, 0], &self.payload[..]].concat(),
            ),
            _ => (IpProtocol::from(self.flags), self.payload.clone()),
        };
        let mut packet = vec![0; 20];
        packet.extend(body);
        let len = packet.len() as u16;
        let mut ip = Ipv4Packet::new_unchecked(&mut packet);
        ip.set_version(4);
        ip.set_header_len(20);
        ip.set_total_len(len);
        ip.set_hop_limit(1);
        ip.set_next_header(protocol);
        ip.set_src_addr(GUEST);
        ip.set_dst_addr(GATEWAY);
        if let Some((at, has_more)) = self.fragment {
            ip.set_frag_offset(at);
            ip.set_more_frags(has_more);
        }
        for (at, byte) in &self.bends {
            if let Some(place) = packet.get_mut(*at) {
                *place = *byte;
            }
        }
        // Bent headers must be right otherwise, and may go nowhere but to this test.
        let mut ip = Ipv4Packet::new_unchecked(&mut packet);
        ip.set_dst_addr(GATEWAY);
        if ip.header_len() >= 20 && usize::from(ip.header_len()) <= usize::from(len) {
            ip.fill_checksum();
        }
        let mut frame = vec![0; 26];
        frame[0] = self.header;
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame[12..]);
        ethernet.set_src_addr(EthernetAddress(MAC));
        ethernet.set_dst_addr(GATEWAY_MAC);
        ethernet.set_ethertype(EthernetProtocol::Ipv4);
        frame.extend(packet);
        frame.truncate(self.cut.max(1));
        frame
    }

    fn segment(&self, port: u16, known: Known) -> Vec<u8> {
        let options = &self.options[..self.options.len() & !3];
        let mut bytes = vec![0; 20];
        bytes.extend_from_slice(options);
        bytes.extend_from_slice(&self.payload);
        let mut segment = TcpPacket::new_unchecked(&mut bytes);
        segment.set_src_port(self.port);
        segment.set_dst_port(port);
        segment.set_seq_number(TcpSeqNumber(known.seq.0.wrapping_add(self.seq)));
        segment.set_ack_number(TcpSeqNumber(known.ack.0.wrapping_add(self.ack)));
        segment.set_header_len(20 + options.len() as u8);
        segment.set_window_len(self.window);
        bytes[13] = self.flags & 0x3f;
        let mut segment = TcpPacket::new_unchecked(&mut bytes);
        segment.fill_checksum(&GUEST.into(), &GATEWAY.into());
        bytes
    }

    fn datagram(&self, port: u16) -> Vec<u8> {
        let mut bytes = vec![0; 8];
        bytes.extend_from_slice(&self.payload);
        bytes[..2].copy_from_slice(&self.port.to_be_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        let len = bytes.len() as u16;
        bytes[4..6].copy_from_slice(&len.to_be_bytes());
        bytes
    }
}

/// Open a connection by hand from `port`; returns where it is.
fn open(guest: &mut Guest, from: u16, to: u16) -> Known {
    let repr = |control, ack_number| TcpRepr {
        src_port: from,
        dst_port: to,
        control,
        seq_number: TcpSeqNumber(1000),
        ack_number,
        window_len: 60_000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None::<TcpTimestampRepr>,
        payload: &[],
    };
    let send = |guest: &mut Guest, repr: &TcpRepr| {
        let mut packet = vec![0; 20 + repr.buffer_len()];
        let len = packet.len() as u16;
        let mut ip = Ipv4Packet::new_unchecked(&mut packet);
        ip.set_version(4);
        ip.set_header_len(20);
        ip.set_total_len(len);
        ip.set_hop_limit(64);
        ip.set_next_header(IpProtocol::Tcp);
        ip.set_src_addr(GUEST);
        ip.set_dst_addr(GATEWAY);
        ip.fill_checksum();
        repr.emit(
            &mut TcpPacket::new_unchecked(ip.payload_mut()),
            &GUEST.into(),
            &GATEWAY.into(),
            &ChecksumCapabilities::default(),
        );
        guest.send_packet(&packet);
    };
    send(guest, &repr(TcpControl::Syn, None));
    let packet = guest.receive_packet();
    let packet = Ipv4Packet::new_checked(&packet[..]).expect("a packet");
    let segment = TcpPacket::new_checked(packet.payload()).expect("a segment");
    assert!(segment.syn() && segment.ack());
    let known = Known {
        seq: segment.ack_number(),
        ack: segment.seq_number() + 1,
    };
    let mut last = repr(TcpControl::None, Some(known.ack));
    last.seq_number = known.seq;
    send(guest, &last);
    known
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_frames_break_the_network(
        frames in prop::collection::vec(wild(), 1..60),
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..100), 0..5),
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener");
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a port");
        datagrams.set_nonblocking(true).expect("a socket");
        let ports = Ports {
            tcp: listener.local_addr().expect("an address").port(),
            udp: datagrams.local_addr().expect("an address").port(),
        };
        let mut guest = Guest::new(&options());
        let known = open(&mut guest, 40_000, ports.tcp);
        let mut streams = Vec::new();
        for (index, frame) in frames.iter().enumerate() {
            guest.wire.send_raw(&frame.bytes(ports, known));
            if let Some(noise) = noise.get(index) {
                guest.wire.send_raw(noise);
            }
            while let Ok((mut stream, _)) = listener.accept() {
                stream.set_nonblocking(true).expect("a stream");
                // The other end may be gone already.
                let _ = stream.write_all(&[7; 3000]);
                streams.push(stream);
            }
            for stream in &mut streams {
                let _ = stream.read(&mut [0; 1000]);
            }
            while guest.wire.take().is_some() {}
        }
        prop_assert!(guest.nat.flows() <= (MAX_CONNECTIONS + MAX_DATAGRAM_FLOWS) as u64);
        // It goes on as if nothing had been.
        while guest.wire.take().is_some() {}
        let handle = guest.connect((GATEWAY, ports.tcp), 50_000);
        guest.until("a connection is to be had", |guest| guest.socket(handle).may_send());
        guest.send(handle, b"still there");
        // Others may wait before it, which say nothing, or something else.
        guest.until("it is heard", |_| {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true).expect("a stream");
                streams.push(stream);
            }
            streams.iter_mut().any(|stream| {
                let mut got = [0; 11];
                stream.read(&mut got).is_ok_and(|len| got[..len] == *b"still there")
            })
        });
    }
}
