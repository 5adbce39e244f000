//! What a driver accepts of its device: checksums that it makes, segments that it cuts; and packets of
//! other sizes.

use std::io::{Read, Write};
use std::net::TcpListener;

use smoltcp::wire::Ipv4Packet;

use super::guest::Guest;
use super::{options, pattern};
use crate::net::Offloads;
use crate::net::user::{GATEWAY, UserNetOptions};

/// Have a megabyte come from the host; returns the guest.
fn download(mut guest: Guest) -> Guest {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let bytes = pattern(1 << 20, 9);
    let sent = bytes.clone();
    let host = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(&sent).expect("all goes");
    });
    let handle = guest.connect((GATEWAY, port), 40_000);
    guest.until("the connection is there", |guest| {
        guest.socket(handle).may_send()
    });
    assert!(guest.receive_all(handle) == bytes);
    host.join().expect("all went");
    guest
}

#[test]
fn a_driver_without_offloads_gets_frames_that_are_done() {
    let guest = download(Guest::new(&options()));
    assert_eq!((guest.wire.unsummed, guest.wire.uncut), (0, 0));
    assert_eq!(guest.wire.longest, 1514);
}

#[test]
fn a_driver_with_offloads_gets_long_segments_to_sum_and_to_cut() {
    for tso4 in [false, true] {
        let guest = Guest::new(&options());
        let offloads = Offloads {
            checksum: true,
            tso4,
            ..Offloads::default()
        };
        guest.nat.set_offloads(offloads).expect("a thread");
        let guest = download(guest);
        assert!(guest.wire.unsummed > 0);
        assert_eq!(guest.wire.uncut > 0, tso4);
        assert_eq!(guest.wire.longest > 1514, tso4);
    }
}

#[test]
fn the_mtu_is_kept_to() {
    for mtu in [576, 9000] {
        let guest = download(Guest::new(&UserNetOptions { mtu, ..options() }));
        assert_eq!(guest.wire.longest, usize::from(mtu) + 14);
    }
}

#[test]
fn a_long_segment_without_a_checksum_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut guest = Guest::new(&options());
    let handle = guest.connect((GATEWAY, port), 40_000);
    guest.until("the connection is there", |guest| {
        guest.socket(handle).may_send()
    });
    let (mut stream, _) = listener.accept().expect("a connection");
    // Learn where the connection is from its next segment, then send one by hand instead.
    let bytes = pattern(20_000, 3);
    let (mut packet, mut segment) = (vec![0; 40], None);
    guest.socket(handle).send_slice(b"x").expect("is open");
    guest.poll();
    let mut got = [0];
    stream.read_exact(&mut got).expect("one");
    guest.until("it is acknowledged", |guest| {
        guest.socket(handle).send_queue() == 0
    });
    stream.write_all(b"y").expect("is open");
    let start = std::time::Instant::now();
    while segment.is_none() && start.elapsed() < crate::driver::PATIENCE {
        let frame = guest.wire.take();
        segment = frame.filter(|frame| frame.ends_with(b"y"));
    }
    let frame = segment.expect("a segment");
    let came = Ipv4Packet::new_checked(&frame[14..]).expect("a packet");
    let tcp = smoltcp::wire::TcpPacket::new_checked(came.payload()).expect("a segment");
    let (seq, ack) = (tcp.ack_number(), tcp.seq_number() + 1);
    packet.extend_from_slice(&bytes);
    let mut ip = Ipv4Packet::new_unchecked(&mut packet);
    ip.set_version(4);
    ip.set_header_len(20);
    ip.set_total_len(40 + 20_000);
    ip.set_hop_limit(64);
    ip.set_next_header(smoltcp::wire::IpProtocol::Tcp);
    ip.set_src_addr(came.dst_addr());
    ip.set_dst_addr(came.src_addr());
    ip.fill_checksum();
    let mut out = smoltcp::wire::TcpPacket::new_unchecked(ip.payload_mut());
    out.set_src_port(40_000);
    out.set_dst_port(port);
    out.set_seq_number(seq);
    out.set_ack_number(ack);
    out.set_header_len(20);
    out.set_ack(true);
    out.set_window_len(60_000);
    let mut frame = vec![0; 12 + 14];
    frame[12..18].copy_from_slice(super::super::GATEWAY_MAC.as_bytes());
    frame[18..24].copy_from_slice(&super::guest::MAC);
    frame[24..26].copy_from_slice(&[8, 0]);
    frame.extend_from_slice(&packet);
    // Without a right checksum and without the flag it is no segment.
    guest.wire.send_raw(&frame);
    stream
        .set_read_timeout(Some(std::time::Duration::from_millis(100)))
        .expect("a stream");
    assert!(stream.read(&mut [0]).is_err());
    // NEEDS_CSUM, and segments of TCP.
    frame[..2].copy_from_slice(&[1, 1]);
    guest.wire.send_raw(&frame);
    stream
        .set_read_timeout(Some(crate::driver::PATIENCE))
        .expect("a stream");
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).expect("all comes");
    assert!(got == bytes);
}
