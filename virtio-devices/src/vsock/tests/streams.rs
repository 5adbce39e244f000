//! Streams: who connects to whom, and how they end.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Instant;

use super::{COMING, GOING, Guest, has_ended, line, packet, pattern};
use crate::device::feature;
use crate::driver::{PATIENCE, WRITE};
use crate::vsock::wire::{Header, NO_RECEIVE, NO_SEND, op};

#[test]
fn a_guest_speaks_with_a_program_and_ends_it() {
    for features in [0, feature::EVENT_IDX] {
        let mut guest = Guest::new(features);
        let listener = guest.listen(5000);
        let ports = (5000, 40);
        let mut program = guest.connect(&listener, ports);
        guest.send(ports, op::RW, 0, b"hello");
        let mut got = [0; 5];
        program.read_exact(&mut got).expect("five");
        assert_eq!(&got, b"hello");
        program.write_all(b"world!").expect("room");
        let (header, data) = guest.next();
        assert_eq!((header.op, header.taken), (op::RW, 5));
        assert_eq!(data, b"world!");
        guest.send(ports, op::SHUTDOWN, NO_RECEIVE | NO_SEND, &[]);
        assert!(has_ended(&mut program));
        guest.expect(op::RST);
        guest.send(ports, op::RW, 0, b"late");
        guest.expect(op::RST);
    }
}

#[test]
fn nobody_at_a_port_is_a_reset() {
    let mut guest = Guest::new(0);
    guest.send((5000, 40), op::REQUEST, 0, &[]);
    let reset = guest.expect(op::RST);
    assert_eq!((reset.from_port, reset.to_port), (5000, 40));
    // A socket that nobody listens at any more.
    drop(guest.listen(5001));
    guest.send((5001, 40), op::REQUEST, 0, &[]);
    guest.expect(op::RST);
}

#[test]
fn a_program_reaches_a_port_of_the_guests() {
    let mut guest = Guest::new(0);
    let mut program = guest.call(1234);
    // What follows the line is for the guest.
    program.write_all(b"early").expect("room");
    let request = guest.expect(op::REQUEST);
    assert_eq!(request.to_port, 1234);
    let ports = (request.from_port, 1234);
    guest.expect_silence();
    guest.send(ports, op::RESPONSE, 0, &[]);
    let (header, data) = guest.next();
    assert_eq!((header.op, &data[..]), (op::RW, &b"early"[..]));
    assert_eq!(line(&mut program), format!("OK {}\n", ports.0));
    guest.send(ports, op::RW, 0, b"answer");
    let mut got = [0; 6];
    program.read_exact(&mut got).expect("six");
    assert_eq!(&got, b"answer");
    drop(program);
    while guest.expect(op::SHUTDOWN).flags != NO_RECEIVE | NO_SEND {}
    guest.send(ports, op::RST, 0, &[]);
    guest.expect_silence();
}

#[test]
fn a_program_that_is_refused_or_makes_no_sense_gets_an_end() {
    let mut guest = Guest::new(0);
    let mut program = guest.call(1234);
    let request = guest.expect(op::REQUEST);
    guest.send((request.from_port, 1234), op::RST, 0, &[]);
    assert!(has_ended(&mut program));
    let mut program = guest.knock();
    program.write_all(b"GET / HTTP/1.1\n").expect("room");
    // What it said was not taken.
    let error = program.read(&mut [0; 1]).expect_err("an end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    guest.expect_silence();
}

#[test]
fn a_program_that_does_not_wait_is_taken_back() {
    let mut guest = Guest::new(0);
    let program = guest.call(1234);
    let request = guest.expect(op::REQUEST);
    drop(program);
    guest.expect(op::RST);
    guest.send((request.from_port, 1234), op::RESPONSE, 0, &[]);
    guest.expect(op::RST);
}

#[test]
fn each_side_may_end_first_and_listen_on() {
    let mut guest = Guest::new(0);
    let listener = guest.listen(5000);
    let ports = (5000, 40);
    let mut program = guest.connect(&listener, ports);
    guest.send(ports, op::SHUTDOWN, NO_SEND, &[]);
    assert!(has_ended(&mut program));
    program.write_all(b"still").expect("room");
    assert_eq!(guest.next().1, b"still");
    drop(program);
    while guest.expect(op::SHUTDOWN).flags != NO_RECEIVE | NO_SEND {}
    guest.send(ports, op::RST, 0, &[]);

    let mut program = guest.connect(&listener, ports);
    program.shutdown(Shutdown::Write).expect("is open");
    assert_eq!(guest.expect(op::SHUTDOWN).flags, NO_SEND);
    guest.send(ports, op::RW, 0, b"still");
    let mut got = [0; 5];
    program.read_exact(&mut got).expect("five");
    guest.send(ports, op::SHUTDOWN, NO_SEND | NO_RECEIVE, &[]);
    assert!(has_ended(&mut program));
    guest.expect(op::RST);

    let mut program = guest.connect(&listener, ports);
    guest.send(ports, op::SHUTDOWN, NO_RECEIVE, &[]);
    let start = Instant::now();
    let error = loop {
        match program.write_all(b"deaf") {
            Ok(()) => assert!(start.elapsed() < PATIENCE, "the program is never told"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_program_that_is_gone_is_a_reset_to_who_speaks_on() {
    let mut guest = Guest::new(0);
    let listener = guest.listen(5000);
    let ports = (5000, 40);
    let mut program = guest.connect(&listener, ports);
    program.write_all(b"last words").expect("room");
    drop(program);
    // It gets what was said, and is heard by nobody; then it is told, and told again.
    guest.send(ports, op::RW, 0, b"anybody");
    assert_eq!(guest.next().1, b"last words");
    while guest.expect(op::SHUTDOWN).flags != NO_RECEIVE | NO_SEND {}
    guest.send(ports, op::RW, 0, b"anybody");
    guest.expect(op::RST);
}

#[test]
fn packets_may_lie_in_any_pieces() {
    let mut guest = Guest::without_buffers(0);
    let at = COMING;
    // A buffer in three pieces, the header across two of them.
    guest.driver.submit(
        0,
        &[
            (at, 40, WRITE),
            (at + 0x100, 10, WRITE),
            (at + 0x200, 100, WRITE),
        ],
    );
    let listener = guest.listen(5000);
    let request = packet(5000, 40, op::REQUEST, 0).bytes();
    guest.driver.put(GOING, &request[..7]);
    guest.driver.put(GOING + 0x100, &request[7..]);
    guest
        .driver
        .submit(1, &[(GOING, 7, 0), (GOING + 0x100, 37, 0)]);
    guest.driver.wait_used(0, 1);
    let (mut program, _) = listener.accept().expect("a connection");
    let data = Header {
        len: 5,
        ..packet(5000, 40, op::RW, 0)
    }
    .bytes();
    guest.driver.put(GOING, &data);
    guest.driver.put(GOING + 0x100, b"hexxx");
    guest.driver.put(GOING + 0x200, b"llobeyond");
    guest.driver.submit(
        1,
        &[(GOING, 44, 0), (GOING + 0x100, 2, 0), (GOING + 0x200, 9, 0)],
    );
    guest.driver.wait_used(1, 2);
    let mut got = [0; 5];
    program.read_exact(&mut got).expect("five");
    assert_eq!(&got, b"hello");
    let bytes = pattern(80);
    program.write_all(&bytes).expect("room");
    guest.driver.submit(
        0,
        &[
            (at, 40, WRITE),
            (at + 0x100, 10, WRITE),
            (at + 0x200, 100, WRITE),
        ],
    );
    guest.driver.wait_used(0, 2);
    assert_eq!(
        guest.driver.rings[0].used(&guest.driver.memory, 1),
        (0, 124)
    );
    let parts = [
        guest.driver.get(at + 0x104, 6),
        guest.driver.get(at + 0x200, 74),
    ];
    assert_eq!(parts.concat(), bytes);
}
