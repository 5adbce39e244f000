//! Rules and limits: what means nothing, how many there may be, resets and lost connections, sleep.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{CID, COMING, GOING, Guest, SHORT, has_ended, line, packet};
use crate::driver::WRITE;
use crate::vsock::connection::Payload;
use crate::vsock::host::Entrance;
use crate::vsock::table::Table;
use crate::vsock::wire::{HEADER_LEN, HOST, Header, NO_RECEIVE, NO_SEND, op};
use crate::vsock::{MAX_CONNECTIONS, MAX_RESETS};

#[test]
fn the_configuration_is_the_context_identifier() {
    let guest = Guest::new(0);
    let mut bytes = [0xff; 12];
    guest.driver.transport.read(0x100, &mut bytes);
    assert_eq!(bytes, [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(guest.driver.transport.device_type(), 19);
}

#[test]
fn what_means_nothing_is_reset_and_what_is_anothers_is_not_heard() {
    let mut guest = Guest::new(0);
    let header = packet(5000, 40, op::RW, 0);
    for wrong in [
        Header {
            from_cid: 8,
            ..header
        },
        Header {
            to_cid: 3,
            ..header
        },
        Header {
            to_cid: HOST | 1 << 32,
            ..header
        },
        Header {
            op: op::RST,
            ..header
        },
        Header {
            op: op::RST,
            kind: 9,
            ..header
        },
    ] {
        guest.send_raw(&wrong, &[]);
    }
    guest.expect_silence();
    guest.send_raw(
        &Header {
            kind: 9,
            op: op::REQUEST,
            ..header
        },
        &[],
    );
    assert_eq!(guest.expect(op::RST).kind, 9);
    for op in [
        op::RESPONSE,
        op::SHUTDOWN,
        op::RW,
        op::CREDIT_UPDATE,
        op::CREDIT_REQUEST,
        0,
        99,
    ] {
        guest.send_raw(&Header { op, ..header }, &[]);
        guest.expect(op::RST);
    }
    // The same where there is a connection.
    let listener = guest.listen(5000);
    for op in [op::REQUEST, op::RESPONSE, 0, 99] {
        let mut program = guest.connect(&listener, (5000, 40));
        guest.send((5000, 40), op, 0, &[]);
        guest.expect(op::RST);
        assert!(has_ended(&mut program));
    }
    // And data behind an end.
    let _program = guest.connect(&listener, (5000, 40));
    guest.send((5000, 40), op::SHUTDOWN, NO_SEND, &[]);
    guest.send((5000, 40), op::RW, 0, b"late");
    guest.expect(op::RST);
}

#[test]
fn there_are_so_many_connections_and_no_more() {
    let mut guest = Guest::new(0);
    let listener = guest.listen(5000);
    let mut programs = Vec::new();
    for port in 0..MAX_CONNECTIONS as u32 {
        programs.push(guest.connect(&listener, (5000, port)));
    }
    guest.send((5000, 1000), op::REQUEST, 0, &[]);
    guest.expect(op::RST);
    // A program waits outside until there is room.
    let mut waiting = guest.call(1234);
    guest.expect_silence();
    guest.send((5000, 3), op::RST, 0, &[]);
    let request = guest.expect(op::REQUEST);
    guest.send((request.from_port, 1234), op::RESPONSE, 0, &[]);
    assert!(line(&mut waiting).starts_with("OK "));
    // One that only waits for the guest's last word makes room.
    drop(programs.remove(0));
    while guest.expect(op::SHUTDOWN).flags != NO_RECEIVE | NO_SEND {}
    guest.send((5000, 1000), op::REQUEST, 0, &[]);
    let mut answers = [guest.next().0.op, guest.next().0.op];
    answers.sort_unstable();
    assert_eq!(answers, [op::RESPONSE, op::RST]);
}

#[test]
fn a_guest_that_takes_no_resets_is_not_listened_to_until_it_does() {
    let mut guest = Guest::without_buffers(0);
    let wrong = packet(5000, 40, op::RW, 0);
    guest.driver.put(GOING, &wrong.bytes());
    guest.driver.lay_out(1, 0, &[(GOING, HEADER_LEN as u32, 0)]);
    let rings = guest.driver.rings[1];
    for count in 1..=MAX_RESETS as u16 {
        rings.offer(&guest.driver.memory, 0);
        guest.driver.kick(1);
        guest.driver.wait_used(1, count);
    }
    let heard = rings.used_index(&guest.driver.memory);
    for _ in 0..100 {
        rings.offer(&guest.driver.memory, 0);
    }
    guest.driver.kick(1);
    std::thread::sleep(SHORT);
    assert_eq!(rings.used_index(&guest.driver.memory), heard);
    let offered = rings.available_index(&guest.driver.memory);
    guest.offer_all();
    for _ in 0..offered {
        guest.expect(op::RST);
    }
    guest.driver.wait_used(1, offered);
}

#[test]
fn a_reset_ends_connections_and_the_socket_stays() {
    let mut guest = Guest::new(0);
    let listener = guest.listen(5000);
    let mut program = guest.connect(&listener, (5000, 40));
    let mut early = guest.knock();
    guest.driver.set_status(0);
    assert!(has_ended(&mut program));
    assert!(has_ended(&mut early));
    let _waiting = guest.call(99);
    guest.restart();
    assert_eq!(guest.expect(op::REQUEST).to_port, 99);
    let path = guest.path();
    drop(guest.driver);
    assert!(!path.exists(), "the socket goes with the device");
}

#[test]
fn a_guest_is_told_that_its_connections_are_gone() {
    let mut guest = Guest::new(0);
    let listener = guest.listen(5000);
    let mut program = guest.connect(&listener, (5000, 40));
    guest.handle.lose_connections();
    assert!(has_ended(&mut program));
    let at = COMING + 0x8_0000;
    guest.driver.put(at, &[0xff; 8]);
    guest.driver.submit(2, &[(at, 8, WRITE)]);
    guest.driver.wait_used(2, 1);
    assert_eq!(guest.driver.rings[2].used(&guest.driver.memory, 0), (0, 4));
    assert_eq!(
        guest.driver.get(at, 8),
        [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]
    );
    guest.send((5000, 40), op::RW, 0, b"late");
    guest.expect(op::RST);
    // One event each time, and none without a reason.
    guest.driver.submit(2, &[(at, 8, WRITE)]);
    std::thread::sleep(SHORT);
    assert_eq!(guest.driver.rings[2].used_index(&guest.driver.memory), 1);
    guest.handle.lose_connections();
    guest.driver.wait_used(2, 2);
}

#[test]
fn what_is_no_packet_needs_a_reset() {
    let header = |len| {
        Header {
            len,
            ..packet(5000, 40, op::RW, 0)
        }
        .bytes()
    };
    for (bytes, len) in [
        (header(0), 43),
        (header(1), 44),
        (header(u32::MAX), 1044),
        (vec![], 0),
    ] {
        let mut guest = Guest::new(0);
        guest.driver.put(GOING, &bytes);
        guest.driver.submit(1, &[(GOING, len, 0)]);
        let fault = guest.driver.wait_fault();
        assert!(fault.contains("shorter than its header"), "{fault}");
    }
    for chain in [(COMING, 44, WRITE), (COMING, 4096, 0)] {
        let mut guest = Guest::without_buffers(0);
        guest.driver.submit(0, &[chain]);
        // Nobody looks at it before there is something for it.
        let _program = guest.call(1);
        let fault = guest.driver.wait_fault();
        assert!(fault.contains("receive buffer"), "{fault}");
        guest.restart();
        guest.expect_silence();
    }
}

/// A packet without data.
struct NoData;

impl Payload for NoData {
    fn write(&mut self, _: &File) -> std::io::Result<usize> {
        Ok(0)
    }
    fn keep(&mut self, _: usize, _: &mut VecDeque<u8>) {}
}

/// Whether a table's descriptor would wake the worker.
fn is_awake(table: &Table) -> bool {
    let mut events = [EpollEvent::default(); 1];
    let outer = Epoll::new().expect("an epoll");
    let event = EpollEvent::new(EventSet::IN, 0);
    outer
        .ctl(ControlOperation::Add, table.fd(), event)
        .expect("is open");
    outer.wait(0, &mut events).expect("no signal") > 0
}

#[test]
fn nothing_wakes_the_worker_while_nothing_happens() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("v");
    let entrance = Arc::new(Entrance::open(&path).expect("a socket"));
    let wake = EventFd::new(EFD_NONBLOCK).expect("an eventfd");
    let mut table = Table::new(CID, entrance, wake).expect("a table");
    assert!(!is_awake(&table));
    let mut program = UnixStream::connect(&path).expect("somebody listens");
    assert!(is_awake(&table));
    program.write_all(b"CONNECT 5\n").expect("room");
    while is_awake(&table) {
        table.events();
    }
    let read = |mut stream: &File, _| stream.read(&mut [0; 100]);
    let request = table.next(read).expect("a request");
    let mut response = packet(request.from_port, 5, op::RESPONSE, 0);
    response.room = 3;
    table.packet(&response, &mut NoData);
    // It has more than the guest takes, so it waits for the guest, not for itself.
    program.write_all(b"abc").expect("room");
    while is_awake(&table) {
        table.events();
    }
    assert_eq!(table.next(read).expect("data").len, 3);
    program.write_all(b"def").expect("room");
    while is_awake(&table) {
        table.events();
    }
    assert_eq!(
        table.next(read).map(|header| header.op),
        Some(op::CREDIT_REQUEST)
    );
    assert_eq!(table.next(read), None);
    assert!(!is_awake(&table) && !table.has_packets());
    assert_eq!(table.len(), 1);
}
