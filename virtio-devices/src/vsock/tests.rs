//! The device against a driver written by hand, and programs at its sockets.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::connection::Payload;
use super::host::Entrance;
use super::table::Table;
use super::wire::{HEADER_LEN, HOST, Header, NO_RECEIVE, NO_SEND, STREAM, op};
use super::{BUFFER, Handle, MAX_CONNECTIONS, MAX_RESETS, Vsock};
use crate::device::feature;
use crate::driver::{Driver, PATIENCE, WRITE};

pub const CID: u64 = 7;
const ROOM: u32 = 32 << 10;
const SHORT: Duration = Duration::from_millis(100);
/// Where the driver's buffers are: for packets that come, a page each, and for one that goes.
pub const COMING: u64 = 0x10_0000;
pub const GOING: u64 = 0x20_0000;
/// How many buffers the driver offers, and their length.
const BUFFERS: u16 = 8;
const LEN: u32 = 4096;

/// A guest with the device, and the folder of its sockets.
pub struct Guest {
    pub driver: Driver,
    pub handle: Handle,
    folder: TempDir,
    came: u16,
    gone: u16,
}

impl Guest {
    pub fn new(features: u64) -> Guest {
        let mut guest = Guest::without_buffers(features);
        guest.offer_all();
        guest
    }

    pub fn without_buffers(features: u64) -> Guest {
        let folder = tempfile::tempdir().expect("a folder");
        let vsock = Vsock::new(CID, &folder.path().join("v")).expect("a socket");
        let handle = vsock.handle();
        let mut driver = Driver::new(Box::new(vsock));
        driver.start(features);
        Guest {
            driver,
            handle,
            folder,
            came: 0,
            gone: 0,
        }
    }

    /// Start the driver afresh.
    pub fn restart(&mut self) {
        self.driver.start(0);
        (self.came, self.gone) = (0, 0);
        self.offer_all();
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("v")
    }

    /// Listen at what a port of the host's stands for.
    pub fn listen(&self, port: u32) -> UnixListener {
        UnixListener::bind(self.folder.path().join(format!("v_{port}"))).expect("a socket")
    }

    /// A program that wants to a port of the guest's.
    pub fn call(&self, port: u32) -> UnixStream {
        let mut program = self.knock();
        let line = format!("CONNECT {port}\n");
        program.write_all(line.as_bytes()).expect("room");
        program
    }

    fn knock(&self) -> UnixStream {
        let program = UnixStream::connect(self.path()).expect("somebody listens");
        patient(&program);
        program
    }

    fn offer_all(&mut self) {
        for head in 0..BUFFERS {
            self.offer(head);
        }
        self.driver.kick(0);
    }

    fn offer(&mut self, head: u16) {
        let at = COMING + u64::from(head) * u64::from(LEN);
        self.driver.lay_out(0, head, &[(at, LEN, WRITE)]);
        self.driver.rings[0].offer(&self.driver.memory, head);
    }

    /// The next packet, if one comes within a time; its buffer is offered again.
    pub fn next_within(&mut self, time: Duration) -> Option<(Header, Vec<u8>)> {
        let start = Instant::now();
        while self.driver.rings[0].used_index(&self.driver.memory) == self.came {
            assert_eq!(self.driver.transport.fault(), None);
            if start.elapsed() > time {
                return None;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        let (head, len) = self.driver.rings[0].used(&self.driver.memory, self.came);
        self.came = self.came.wrapping_add(1);
        let at = COMING + u64::from(head) * u64::from(LEN);
        let bytes = self.driver.get(at, len as usize);
        let (header, data) = bytes.split_at(HEADER_LEN);
        let header = Header::parse(header.try_into().expect("a header"));
        assert_eq!(header.len as usize, data.len());
        assert_eq!((header.from_cid, header.to_cid), (HOST, CID));
        let data = data.to_vec();
        self.offer(head as u16);
        self.driver.kick(0);
        Some((header, data))
    }

    pub fn next(&mut self) -> (Header, Vec<u8>) {
        self.next_within(PATIENCE).expect("a packet comes")
    }

    /// The next packet, which is one without data.
    fn expect(&mut self, op: u16) -> Header {
        let (header, data) = self.next();
        assert_eq!((header.op, data.len()), (op, 0), "{header:?}");
        header
    }

    fn expect_silence(&mut self) {
        let came = self.next_within(SHORT);
        assert!(came.is_none(), "{came:?}");
    }

    /// Send a packet as it is.
    pub fn send_raw(&mut self, header: &Header, data: &[u8]) {
        self.driver.put(GOING, &header.bytes());
        self.driver.put(GOING + HEADER_LEN as u64, data);
        let len = (HEADER_LEN + data.len()) as u32;
        self.driver.submit(1, &[(GOING, len, 0)]);
        self.gone = self.gone.wrapping_add(1);
        self.driver.wait_used(1, self.gone);
    }

    /// Send a packet of a connection.
    fn send(&mut self, (host, guest): (u32, u32), op: u16, flags: u32, data: &[u8]) {
        self.send_with(packet(host, guest, op, flags), data);
    }

    fn send_with(&mut self, header: Header, data: &[u8]) {
        let len = data.len() as u32;
        self.send_raw(&Header { len, ..header }, data);
    }

    /// Connect to a listening program.
    fn connect(&mut self, listener: &UnixListener, ports: (u32, u32)) -> UnixStream {
        self.send(ports, op::REQUEST, 0, &[]);
        let answer = self.expect(op::RESPONSE);
        assert_eq!((answer.from_port, answer.to_port), ports);
        assert_eq!((answer.room, answer.taken), (BUFFER, 0));
        let (program, _) = listener.accept().expect("a connection");
        patient(&program);
        program
    }
}

/// A packet's header, from the guest.
pub fn packet(host: u32, guest: u32, op: u16, flags: u32) -> Header {
    Header {
        from_cid: CID,
        to_cid: HOST,
        from_port: guest,
        to_port: host,
        len: 0,
        kind: STREAM,
        op,
        flags,
        room: ROOM,
        taken: 0,
    }
}

fn patient(program: &UnixStream) {
    program.set_read_timeout(Some(PATIENCE)).expect("a stream");
    program.set_write_timeout(Some(PATIENCE)).expect("a stream");
}

/// Bytes that tell their place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|index| (index.wrapping_mul(0x9e37_79b1) >> 23) as u8)
        .collect()
}

fn line(program: &mut UnixStream) -> String {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with('\n') && program.read(&mut byte).expect("a line") > 0 {
        text.push(byte[0].into());
    }
    text
}

fn has_ended(program: &mut UnixStream) -> bool {
    program.read(&mut [0; 1]).expect("an end") == 0
}

#[test]
fn the_configuration_is_the_context_identifier() {
    let guest = Guest::new(0);
    let mut bytes = [0xff; 12];
    guest.driver.transport.read(0x100, &mut bytes);
    assert_eq!(bytes, [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(guest.driver.transport.device_type(), 19);
}

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
fn a_guest_gets_no_more_than_it_has_room_for() {
    let mut guest = Guest::new(0);
    let listener = guest.listen(5000);
    let ports = (5000, 40);
    let request = Header {
        room: 100,
        ..packet(ports.0, ports.1, op::REQUEST, 0)
    };
    guest.send_with(request, &[]);
    guest.expect(op::RESPONSE);
    let (mut program, _) = listener.accept().expect("a connection");
    let bytes = pattern(250);
    program.write_all(&bytes).expect("room");
    let (header, data) = guest.next();
    assert_eq!((header.op, &data[..]), (op::RW, &bytes[..100]));
    guest.expect(op::CREDIT_REQUEST);
    guest.expect_silence();
    let mut update = Header {
        room: 100,
        taken: 60,
        ..packet(ports.0, ports.1, op::CREDIT_UPDATE, 0)
    };
    guest.send_with(update, &[]);
    assert_eq!(guest.next().1, bytes[100..160]);
    guest.expect(op::CREDIT_REQUEST);
    // An end is told without credit, but after what came before it.
    program.shutdown(Shutdown::Write).expect("is open");
    guest.expect_silence();
    update.taken = 160;
    guest.send_with(update, &[]);
    assert_eq!(guest.next().1, bytes[160..]);
    assert_eq!(guest.expect(op::SHUTDOWN).flags, NO_SEND);
}

#[test]
fn what_a_guest_says_of_its_room_may_be_nonsense() {
    let mut guest = Guest::new(0);
    let listener = guest.listen(5000);
    let mut program = guest.connect(&listener, (5000, 40));
    for (room, taken) in [
        (0, u32::MAX),
        (u32::MAX, u32::MAX),
        (1, 0x8000_0000),
        (u32::MAX, 0),
    ] {
        let header = packet(5000, 40, op::CREDIT_UPDATE, 0);
        guest.send_with(
            Header {
                room,
                taken,
                ..header
            },
            &[],
        );
    }
    program.write_all(b"on").expect("room");
    assert_eq!(guest.next().1, b"on");
}

#[test]
fn a_megabyte_goes_each_way_within_credit() {
    let mut guest = Guest::new(feature::EVENT_IDX);
    let listener = guest.listen(5000);
    let ports = (5000, 40);
    let mut program = guest.connect(&listener, ports);
    let bytes = pattern(1 << 20);
    let expected = bytes.clone();
    let echo = std::thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        program.read_exact(&mut got).expect("all comes");
        assert!(got == expected);
        program.write_all(&got).expect("all goes");
        program
    });
    // To the program: never more under way than it has room for.
    let (mut sent, mut taken) = (0u32, 0u32);
    while (sent as usize) < bytes.len() {
        let free = BUFFER - (sent - taken);
        if free < 3000 {
            let (header, _) = guest.next();
            assert_eq!(header.op, op::CREDIT_UPDATE);
            taken = header.taken;
            continue;
        }
        let from = sent as usize;
        let part = &bytes[from..(from + 3000).min(bytes.len())];
        guest.send(ports, op::RW, 0, part);
        sent += part.len() as u32;
    }
    // And back: never more than the guest said.
    let mut got = Vec::new();
    let mut told = 0;
    while got.len() < bytes.len() {
        let (header, data) = guest.next();
        match header.op {
            op::RW => got.extend(data),
            op::CREDIT_UPDATE | op::CREDIT_REQUEST => {}
            other => panic!("operation {other}"),
        }
        assert!(got.len() - told <= ROOM as usize);
        if got.len() - told > ROOM as usize / 2 {
            told = got.len();
            let update = packet(ports.0, ports.1, op::CREDIT_UPDATE, 0);
            let taken = told as u32;
            guest.send_with(Header { taken, ..update }, &[]);
        }
    }
    assert!(got == bytes);
    drop(echo.join().expect("the program had all"));
}

#[test]
fn a_guest_that_sends_beyond_its_credit_is_reset_and_costs_no_memory() {
    let mut guest = Guest::new(0);
    let listener = guest.listen(5000);
    let ports = (5000, 40);
    let mut program = guest.connect(&listener, ports);
    let part = pattern(4000);
    let mut sent = 0;
    let reset = loop {
        guest.send(ports, op::RW, 0, &part);
        sent += part.len();
        assert!(sent < 64 << 20, "the device keeps everything");
        if let Some((header, _)) = guest.next_within(Duration::ZERO)
            && header.op == op::RST
        {
            break header;
        }
    };
    assert_eq!(reset.from_port, 5000);
    // What the stream had taken is there, whole packets of it or parts.
    let mut got = Vec::new();
    program.read_to_end(&mut got).expect("an end");
    assert!(!got.is_empty() && got.len() < sent);
    let expected = part.iter().cycle();
    assert!(got.iter().eq(expected.take(got.len())));
}

#[test]
fn a_program_that_reads_gives_credit() {
    let mut guest = Guest::new(0);
    let listener = guest.listen(5000);
    let ports = (5000, 40);
    let mut program = guest.connect(&listener, ports);
    guest.send(ports, op::RW, 0, &pattern(4000));
    guest.expect_silence();
    guest.send(ports, op::CREDIT_REQUEST, 0, &[]);
    assert_eq!(guest.expect(op::CREDIT_UPDATE).taken, 4000);
    for _ in 0..4 {
        guest.send(ports, op::RW, 0, &pattern(4000));
    }
    guest.send(ports, op::RW, 0, &pattern(500));
    let update = guest.expect(op::CREDIT_UPDATE);
    assert_eq!((update.room, update.taken), (BUFFER, 4000 + 16_500));
    let mut got = vec![0; 20_500];
    program.read_exact(&mut got).expect("all of it");
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
    fn keep(&self, _: usize, _: &mut VecDeque<u8>) {}
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
