//! Connections, out and in: bytes, ends, resets, and neither side ahead of the other.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use smoltcp::socket::tcp::State;

use super::guest::Guest;
use super::{options, pattern};
use crate::driver::PATIENCE;
use crate::net::user::{Forward, GATEWAY, MAX_CONNECTIONS, UserNetOptions};

const SHORT: Duration = Duration::from_millis(100);
const MEGABYTE: usize = 1 << 20;

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a stream");
    stream.set_write_timeout(Some(PATIENCE)).expect("a stream");
    stream
}

fn forward() -> UserNetOptions {
    UserNetOptions {
        forwards: vec!["tcp::0-:80".parse().expect("a forward")],
        ..options()
    }
}

/// A guest, its connection, and the stream of the host's at the other end.
fn connected(options: &UserNetOptions) -> (Guest, smoltcp::iface::SocketHandle, TcpStream) {
    let (listener, port) = listener();
    let mut guest = Guest::new(options);
    let handle = guest.connect((GATEWAY, port), 40_000);
    guest.until("the connection is there", |guest| {
        guest.socket(handle).may_send()
    });
    let stream = accept(&listener);
    (guest, handle, stream)
}

#[test]
fn a_megabyte_goes_each_way_and_each_side_may_end_first() {
    for guest_is_first in [true, false] {
        let (mut guest, handle, mut stream) = connected(&options());
        let (up, down) = (pattern(MEGABYTE, 1), pattern(MEGABYTE, 2));
        let (expected, sent) = (up.clone(), down.clone());
        let host = std::thread::spawn(move || {
            let mut got = Vec::new();
            if guest_is_first {
                stream.read_to_end(&mut got).expect("all comes");
                stream.write_all(&sent).expect("all goes");
            } else {
                stream.write_all(&sent).expect("all goes");
                stream.shutdown(Shutdown::Write).expect("is open");
                stream.read_to_end(&mut got).expect("all comes");
            }
            assert!(got == expected, "{} bytes of the guest's", got.len());
        });
        if guest_is_first {
            guest.send(handle, &up);
            guest.socket(handle).close();
            assert!(guest.receive_all(handle) == down);
        } else {
            assert!(guest.receive_all(handle) == down);
            guest.send(handle, &up);
            guest.socket(handle).close();
        }
        guest.until("it is over", |guest| {
            matches!(
                guest.socket(handle).state(),
                State::TimeWait | State::Closed
            )
        });
        host.join().expect("the host had all");
        guest.until_no_flows();
    }
}

#[test]
fn a_port_without_a_listener_refuses() {
    let (listener, port) = listener();
    drop(listener);
    let mut guest = Guest::new(&options());
    let handle = guest.connect((GATEWAY, port), 40_000);
    guest.until("it is refused", |guest| {
        guest.socket(handle).state() == State::Closed
    });
    guest.until_no_flows();
}

#[test]
fn a_segment_of_no_connection_is_refused() {
    let (mut guest, handle, stream) = connected(&options());
    // The network has this connection no more, the guest has.
    drop(stream);
    guest.until("the host ends", |guest| {
        guest.socket(handle).state() == State::CloseWait
    });
    guest.socket(handle).close();
    guest.until("it is over", |guest| {
        guest.socket(handle).state() == State::Closed
    });
    guest.until_no_flows();
    let other = guest.connect((Ipv4Addr::new(10, 0, 2, 200), 80), 40_001);
    guest.go_on(SHORT);
    assert_eq!(
        guest.socket(other).state(),
        State::SynSent,
        "ICMP says it, not TCP"
    );
    assert_eq!(guest.nat.flows(), 0);
}

#[test]
fn resets_go_through_both_ways() {
    let (mut guest, handle, stream) = connected(&options());
    crate::net::user::host::reset(stream);
    guest.until("the guest is told", |guest| {
        guest.socket(handle).state() == State::Closed
    });
    guest.until_no_flows();

    let (mut guest, handle, mut stream) = connected(&options());
    guest.socket(handle).abort();
    guest.poll();
    let error = stream.read(&mut [0; 1]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    guest.until_no_flows();
}

#[test]
fn whoever_does_not_read_holds_the_other_back_and_nothing_is_lost() {
    let (mut guest, handle, mut stream) = connected(&options());
    // More than every buffer on the way has room for.
    let (up, down) = (pattern(16 * MEGABYTE, 3), pattern(16 * MEGABYTE, 4));
    let mut sent = 0;
    let mut still = 0;
    guest.until("the guest is held back", |guest| {
        let socket = guest.socket(handle);
        let before = sent;
        while socket.can_send() && sent < up.len() {
            sent += socket.send_slice(&up[sent..]).expect("is open");
        }
        still = if sent == before { still + 1 } else { 0 };
        still > 40
    });
    assert!(sent < up.len(), "the host's buffers took everything");
    let before = guest.nat.wakeups();
    std::thread::sleep(SHORT);
    assert!(guest.nat.wakeups() - before < 5, "it waits without turning");
    let expected = up[..sent].to_vec();
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        stream.read_exact(&mut got).expect("all comes");
        assert!(got == expected);
        stream
    });
    guest.until("the host has it", |_| reader.is_finished());
    let mut stream = reader.join().expect("the host had all");
    // The other way.
    let expected = down.clone();
    let writer = std::thread::spawn(move || stream.write_all(&down).map(|()| stream));
    std::thread::sleep(SHORT);
    assert!(!writer.is_finished(), "the host is held back");
    assert!(guest.receive(handle, expected.len()) == expected);
    assert!(writer.join().expect("no panic").is_ok());
}

#[test]
fn an_idle_connection_wakes_nobody() {
    let (mut guest, handle, mut stream) = connected(&options());
    guest.send(handle, b"hello");
    let mut got = [0; 5];
    stream.read_exact(&mut got).expect("five");
    guest.go_on(SHORT);
    let before = guest.nat.wakeups();
    std::thread::sleep(3 * SHORT);
    assert_eq!(guest.nat.wakeups(), before);
    stream.write_all(b"again").expect("is open");
    assert_eq!(guest.receive(handle, 5), b"again");
}

#[test]
fn a_thousand_short_connections_leave_nothing() {
    let (listener, port) = listener();
    let host = std::thread::spawn(move || {
        for _ in 0..1000 {
            let mut stream = accept(&listener);
            let mut name = [0; 2];
            stream.read_exact(&mut name).expect("two");
            stream.write_all(&name).expect("is open");
        }
    });
    let mut guest = Guest::new(&options());
    for number in 0..1000u16 {
        let handle = guest.connect((GATEWAY, port), 20_000 + number);
        guest.until("the connection is there", |guest| {
            guest.socket(handle).may_send()
        });
        guest.send(handle, &number.to_le_bytes());
        assert_eq!(guest.receive_all(handle), number.to_le_bytes());
        guest.socket(handle).close();
        guest.until("it is over", |guest| !guest.socket(handle).is_open());
        guest.sockets.remove(handle);
    }
    host.join().expect("the host had all");
    guest.until_no_flows();
}

#[test]
fn there_are_so_many_connections_and_no_more() {
    let (listener, port) = listener();
    let host = std::thread::spawn(move || {
        let accepted = (0..MAX_CONNECTIONS).map(|_| accept(&listener));
        accepted.collect::<Vec<_>>()
    });
    let mut guest = Guest::new(&options());
    let small = || smoltcp::socket::tcp::SocketBuffer::new(vec![0; 256]);
    let mut handles = Vec::new();
    for number in 0..MAX_CONNECTIONS as u16 {
        let mut socket = smoltcp::socket::tcp::Socket::new(small(), small());
        let context = guest.net.context();
        socket
            .connect(context, (GATEWAY, port), 20_000 + number)
            .expect("a free socket");
        let handle = guest.sockets.add(socket);
        guest.until("the connection is there", |guest| {
            guest.socket(handle).may_send()
        });
        handles.push(handle);
    }
    let streams = host.join().expect("all are there");
    let more = guest.connect((GATEWAY, port), 30_000);
    guest.until("it is refused", |guest| {
        guest.socket(more).state() == State::Closed
    });
    drop(streams);
    for handle in handles {
        guest.socket(handle).abort();
    }
    guest.until_no_flows();
}

/// Where a guest's forward is.
fn entrance(guest: &Guest) -> Forward {
    guest.nat.listens()[0]
}

#[test]
fn a_forward_leads_into_the_guest() {
    let mut guest = Guest::new(&forward());
    let handle = guest.tcp();
    guest.socket(handle).listen(80).expect("is free");
    let mut stream = TcpStream::connect(entrance(&guest).host).expect("somebody listens");
    let (up, down) = (pattern(MEGABYTE, 5), pattern(MEGABYTE, 6));
    let (sent, expected) = (up.clone(), down.clone());
    let host = std::thread::spawn(move || {
        stream.write_all(&sent).expect("all goes");
        stream.shutdown(Shutdown::Write).expect("is open");
        let mut got = Vec::new();
        stream.read_to_end(&mut got).expect("all comes");
        assert!(got == expected);
    });
    guest.until("somebody connects", |guest| guest.socket(handle).may_send());
    let peer = guest.socket(handle).remote_endpoint().expect("a peer");
    assert_eq!(peer.addr, GATEWAY.into());
    assert!(guest.receive_all(handle) == up);
    guest.send(handle, &down);
    guest.socket(handle).close();
    guest.until("it is over", |guest| !guest.socket(handle).is_open());
    host.join().expect("the host had all");
    guest.until_no_flows();
}

#[test]
fn a_forward_to_nobody_is_reset() {
    let mut guest = Guest::new(&forward());
    let mut stream = TcpStream::connect(entrance(&guest).host).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a stream");
    let reader = std::thread::spawn(move || stream.read(&mut [0; 1]));
    guest.until("the host is told", |_| reader.is_finished());
    let error = reader.join().expect("no panic").expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    guest.until_no_flows();
}

#[test]
fn a_restricted_guest_opens_nothing_and_is_reached_by_forwards() {
    let (listener, port) = listener();
    listener.set_nonblocking(true).expect("a listener");
    let restricted = UserNetOptions {
        is_restricted: true,
        ..forward()
    };
    let mut guest = Guest::new(&restricted);
    let out = guest.connect((GATEWAY, port), 40_000);
    guest.go_on(SHORT);
    assert_eq!(guest.socket(out).state(), State::SynSent);
    assert!(listener.accept().is_err(), "nobody came");
    guest.socket(out).abort();
    let handle = guest.tcp();
    guest.socket(handle).listen(80).expect("is free");
    let mut stream = TcpStream::connect(entrance(&guest).host).expect("somebody listens");
    stream.write_all(b"hello").expect("is open");
    assert_eq!(guest.receive(handle, 5), b"hello");
}

#[test]
fn the_name_server_is_asked_over_tcp_too() {
    let (listener, port) = listener();
    let asked = UserNetOptions {
        resolver: Some(([127, 0, 0, 1], port).into()),
        ..options()
    };
    let mut guest = Guest::new(&asked);
    let handle = guest.connect((crate::net::user::RESOLVER, 53), 40_000);
    guest.until("the connection is there", |guest| {
        guest.socket(handle).may_send()
    });
    drop(accept(&listener));
    let other = guest.connect((crate::net::user::RESOLVER, 80), 40_001);
    guest.until("it is refused", |guest| {
        guest.socket(other).state() == State::Closed
    });
}

#[test]
fn a_guest_that_begins_afresh_connects_from_the_same_port() {
    let (listener, port) = listener();
    let mut guest = Guest::new(&options());
    for round in 0..3u8 {
        let handle = guest.connect((GATEWAY, port), 40_000);
        guest.until("the connection is there", |guest| {
            guest.socket(handle).may_send()
        });
        let mut stream = accept(&listener);
        guest.send(handle, &[round]);
        let mut got = [9];
        stream.read_exact(&mut got).expect("one");
        assert_eq!(got, [round]);
        // The guest forgets it without a word, as by a reboot.
        guest.sockets.remove(handle);
    }
}
