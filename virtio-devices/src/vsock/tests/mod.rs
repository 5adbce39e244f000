//! The device against a driver written by hand, and programs at its sockets.

mod credit;
mod hostile;
mod rules;
mod streams;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::wire::{HEADER_LEN, HOST, Header, STREAM, op};
use super::{BUFFER, Handle, Vsock};
use crate::driver::{Driver, PATIENCE, WRITE};

const CID: u64 = 7;
const ROOM: u32 = 32 << 10;
const SHORT: Duration = Duration::from_millis(100);
/// Where the driver's buffers are: for packets that come, a page each, and for one that goes.
const COMING: u64 = 0x10_0000;
const GOING: u64 = 0x20_0000;
/// How many buffers the driver offers, and their length.
const BUFFERS: u16 = 8;
const LEN: u32 = 4096;

/// A guest with the device, and the folder of its sockets.
struct Guest {
    driver: Driver,
    handle: Handle,
    folder: TempDir,
    came: u16,
    gone: u16,
}

impl Guest {
    fn new(features: u64) -> Guest {
        let mut guest = Guest::without_buffers(features);
        guest.offer_all();
        guest
    }

    fn without_buffers(features: u64) -> Guest {
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
    fn restart(&mut self) {
        self.driver.start(0);
        (self.came, self.gone) = (0, 0);
        self.offer_all();
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("v")
    }

    /// Listen at what a port of the host's stands for.
    fn listen(&self, port: u32) -> UnixListener {
        UnixListener::bind(self.folder.path().join(format!("v_{port}"))).expect("a socket")
    }

    /// A program that wants to a port of the guest's.
    fn call(&self, port: u32) -> UnixStream {
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
    fn next_within(&mut self, time: Duration) -> Option<(Header, Vec<u8>)> {
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

    fn next(&mut self) -> (Header, Vec<u8>) {
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
    fn send_raw(&mut self, header: &Header, data: &[u8]) {
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
fn packet(host: u32, guest: u32, op: u16, flags: u32) -> Header {
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
