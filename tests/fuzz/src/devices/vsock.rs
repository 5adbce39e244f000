//! A socket device. Programs of the host's come, speak, hear and go, at its entrance and at the sockets
//! that stand for ports.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use tempfile::TempDir;
use virtio_devices::Device;
use virtio_devices::vsock::{Handle, Vsock};

use crate::random::Choose;
use crate::tally::Tally;
use crate::virtio::driver::{self, Driver};
use crate::virtio::layout::BUFFERS;
use crate::virtio::ledger::Ledger;
use crate::virtio::maker::{Maker, Request};

/// What cases should come to.
pub const OUTCOMES: &[&str] = &[
    "guest connected",
    "program connected",
    "program heard",
    "program spoke",
    "program left",
    "a full stream",
    "connections lost",
    "queue : a receive buffer is too small, or not for writing",
    "queue : a packet is shorter than its header says",
    "queue : an event has no room",
];

/// The queues.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const EVENT: usize = 2;
/// The guest's and the host's identifiers.
const CID: u64 = 7;
const HOST: u64 = 2;
/// A header's length, in bytes (virtio 1.2, 5.10.6).
const HEADER: u32 = 44;
/// The host's port that somebody listens at, and the first of programs that came by the entrance.
const PORT: u32 = 5000;
const PROGRAMS: u32 = 1 << 30;
/// The guest's port of the known request.
const KNOWN: u32 = 900;
/// The most programs at a time: each has two descriptors of this process.
const MOST: usize = 200;
/// VIRTIO_VSOCK_OP_: request, response, reset, data.
const REQUEST: u64 = 1;
const RESPONSE: u64 = 2;
const DATA: u64 = 5;

/// See the module.
pub struct Subject {
    folder: TempDir,
    listener: UnixListener,
    handle: Option<Handle>,
    programs: Vec<UnixStream>,
    /// The ports, the guest's and the host's, that the guest has asked for in this case.
    asked: Vec<(u32, u32)>,
}

impl Subject {
    /// Sockets in a folder.
    ///
    /// # Errors
    /// The host's.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let folder = tempfile::tempdir_in(folder)?;
        let listener = UnixListener::bind(folder.path().join(format!("v_{PORT}")))?;
        listener.set_nonblocking(true)?;
        Ok(Subject {
            folder,
            listener,
            handle: None,
            programs: Vec::new(),
            asked: Vec::new(),
        })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("v")
    }

    /// Let in whom the guest has connected to a program.
    fn accept(&mut self, tally: &mut Tally) {
        while let Ok((stream, _)) = self.listener.accept() {
            tally.reached("guest connected");
            self.keep(stream);
        }
    }

    fn keep(&mut self, stream: UnixStream) {
        if self.programs.len() < MOST && stream.set_nonblocking(true).is_ok() {
            self.programs.push(stream);
        }
    }

    /// A program comes by the entrance.
    fn call(&mut self, what: u64) {
        let Ok(mut stream) = UnixStream::connect(self.path()) else {
            return;
        };
        let port = what % 3;
        let line = match what >> 8 & 7 {
            0 => "HELLO\n".into(),
            1 => "CONN".into(),
            2 => format!("CONNECT {}\n", what >> 16),
            3 => format!("CONNECT {port}\nand more"),
            _ => format!("CONNECT {port}\n"),
        };
        // Nobody has to hear it.
        let _ = stream.write_all(line.as_bytes());
        self.keep(stream);
    }

    fn hear(&mut self, which: usize, tally: &mut Tally) {
        let mut bytes = [0; 8192];
        let Some(program) = self.programs.get_mut(which) else {
            return;
        };
        match program.read(&mut bytes) {
            Ok(0) => {
                self.programs.swap_remove(which);
            }
            Ok(count) => {
                tally.bytes += count as u64;
                tally.reached(if bytes.starts_with(b"OK ") {
                    "program connected"
                } else {
                    "program heard"
                });
            }
            Err(_) => {}
        }
    }

    fn speak(&mut self, which: usize, len: usize, tally: &mut Tally) {
        let Some(program) = self.programs.get_mut(which) else {
            return;
        };
        match program.write(&vec![0xbb; len]) {
            Ok(_) => tally.reached("program spoke"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tally.reached("a full stream")
            }
            Err(_) => {}
        }
    }
}

impl crate::virtio::Subject for Subject {
    fn device(&mut self, _: &mut Rng) -> io::Result<Box<dyn Device>> {
        let vsock = Vsock::new(CID, &self.path()).map_err(io::Error::other)?;
        self.handle = Some(vsock.handle());
        self.asked.clear();
        Ok(Box::new(vsock))
    }

    fn request(&mut self, maker: &mut Maker<'_>, queue: usize) -> Option<Request> {
        let mut request = Request::default();
        match queue {
            RECEIVE => {
                let most = maker.rng.one_of(&[46, 100, 4096, 4096, 0x8000]);
                let len = maker.rng.u32(HEADER + 1..most);
                maker.pieces(&mut request, len, 3, true);
            }
            TRANSMIT => packet(maker, &mut request, &mut self.asked),
            _ => {
                let len = maker.rng.u32(4..64);
                maker.pieces(&mut request, len, 2, true);
            }
        }
        Some(request)
    }

    /// Packets go to the device at once, others wait for what there is to say.
    fn finishes(&self, queue: usize) -> bool {
        queue == TRANSMIT
    }

    fn outside(&mut self, what: u64, tally: &mut Tally) {
        self.accept(tally);
        let which = (what >> 40) as usize % self.programs.len().max(1);
        let some = (what >> 16) as usize;
        match what % 32 {
            0 => {
                if let Some(handle) = &self.handle {
                    handle.lose_connections();
                    tally.reached("connections lost");
                }
            }
            1 if some.is_multiple_of(4) => (0..60).for_each(|more| self.call(what + more)),
            1..10 => self.call(what >> 5),
            10..18 => self.speak(which, 1 + some % 5000, tally),
            18 => self.speak(which, 1 + some % 0x4_0000, tally),
            19..29 => (0..self.programs.len())
                .rev()
                .for_each(|which| self.hear(which, tally)),
            _ if which < self.programs.len() => {
                self.programs.swap_remove(which);
                tally.reached("program left");
            }
            _ => {}
        }
    }

    fn inspect(&mut self, _: &Ledger, tally: &mut Tally) -> Result<(), String> {
        self.accept(tally);
        self.programs.clear();
        // Whom nobody let in yet.
        while self.listener.accept().is_ok() {}
        Ok(())
    }

    /// The guest hears that connections were lost; then it connects to a program, and each hears the other.
    fn probe(&mut self, driver: &mut Driver<'_>, _: &mut Tally) -> Result<(), String> {
        let (out, to) = (BUFFERS[0].start, BUFFERS[1].start);
        // A loss that was told during the case, and that no driver has heard of, is told now. So it comes
        // before the known connection, and not after.
        if let Some(handle) = &self.handle {
            handle.lose_connections();
        }
        driver.put(to, &[0xff; 4]);
        driver.ask(EVENT, &[(to, 4, true)])?;
        if driver.get(to, 4) != [0; 4] {
            return Err("the event of lost connections is another".into());
        }
        send(driver, out, REQUEST, b"")?;
        await_packet(driver, to, RESPONSE)?;
        let accepted = self.listener.accept();
        let (mut program, _) =
            accepted.map_err(|error| format!("nobody has connected: {error}"))?;
        program
            .set_nonblocking(true)
            .map_err(|error| error.to_string())?;
        send(driver, out, DATA, b"a known request")?;
        let mut heard = [0; 15];
        match program.read_exact(&mut heard) {
            Ok(()) if &heard == b"a known request" => {}
            other => {
                return Err(format!(
                    "instead of the known request a program hears {heard:?}: {other:?}"
                ));
            }
        }
        program
            .write_all(b"a known answer")
            .map_err(|error| error.to_string())?;
        let data = await_packet(driver, to, DATA)?;
        match data == b"a known answer" {
            true => Ok(()),
            false => Err(format!(
                "instead of the known answer the guest hears {data:?}"
            )),
        }
    }

    fn close(&mut self) {
        self.handle = None;
        self.programs.clear();
    }
}

/// The words of a header.
fn header(ports: (u32, u32), len: u32, op: u64, flags: u32, room: u32) -> [u64; 6] {
    let (guest, host) = ports;
    [
        CID,
        HOST,
        u64::from(guest) | u64::from(host) << 32,
        u64::from(len) | 1 << 32 | op << 48,
        u64::from(flags) | u64::from(room) << 32,
        0,
    ]
}

/// A packet of the guest's: mostly one that means something.
fn packet(maker: &mut Maker<'_>, request: &mut Request, asked: &mut Vec<(u32, u32)>) {
    let (any, program, guest) = (
        maker.rng.u32(..),
        PROGRAMS + maker.rng.u32(..3),
        maker.rng.u32(..3),
    );
    let host = maker
        .rng
        .one_of(&[PORT, PORT, PORT, program, program, program, PORT + 1, any]);
    let guest = maker.rng.one_of(&[guest, guest, guest, guest, guest, any]);
    let op = match maker.rng.u32(..20) {
        0..5 => REQUEST,
        5..8 => RESPONSE,
        8..14 => DATA,
        14..19 => maker.rng.u64(1..8),
        _ => maker.rng.u64(..0x1_0000),
    };
    let mut ports = (guest, host);
    match asked.is_empty() {
        _ if op == REQUEST => asked.push(ports),
        false if !maker.rng.once_in(4) => ports = maker.rng.one_of(asked),
        _ => {}
    }
    let some = maker.rng.u32(..);
    let flags = maker.rng.one_of(&[0, 1, 2, 3, some]);
    let room = maker.rng.one_of(&[0x8000, 0x8000, 0x8000, 0, 5, some]);
    let most = maker.rng.one_of(&[1, 64, 3000, 3000, 0x1_8000]);
    let len = if op == DATA { maker.rng.u32(..most) } else { 0 };
    let mut words = header(ports, len, op, flags, room);
    words[5] = maker.rng.one_of(&[0, 0, 0, u64::from(some)]);
    if maker.rng.once_in(24) {
        let bits = maker.rng.u64(..);
        let which = maker.rng.one_of(&[0, 1]);
        words[which] = maker.rng.one_of(&[0, 1, 2, 3, bits]);
    }
    if maker.rng.once_in(24) {
        words[3] ^= 3 << 32;
    }
    let at = maker.header(&words);
    request.reads(at, HEADER);
    if len > 0 {
        maker.pieces(request, len, 3, false);
    }
}

/// Send a known packet.
fn send(driver: &mut Driver<'_>, at: u64, op: u64, data: &[u8]) -> Result<(), String> {
    let len = data.len() as u32;
    for (place, word) in (at..)
        .step_by(8)
        .zip(header((KNOWN, PORT), len, op, 0, 0x8000))
    {
        driver.put(place, &word.to_le_bytes());
    }
    driver.put(at + 64, data);
    driver
        .ask(TRANSMIT, &[(at, HEADER, false), (at + 64, len, false)])
        .map(|_| ())
}

/// Take packets until one comes for the known port, and return its data.
fn await_packet(driver: &mut Driver<'_>, at: u64, op: u64) -> Result<Vec<u8>, String> {
    let mut data = Vec::new();
    driver::wait("the known answer", || {
        let len = driver.ask(RECEIVE, &[(at, 4096, true)])? as usize;
        let found = driver.get(at, len.min(4096));
        let number = |at: usize, len: usize| {
            let bytes = found.get(at..at + len).unwrap_or_default();
            bytes
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let is_ours = number(16, 4) == u64::from(PORT) && number(20, 4) == u64::from(KNOWN);
        data = found.get(HEADER as usize..).unwrap_or_default().to_vec();
        Ok(is_ours && number(30, 2) == op)
    })?;
    Ok(data)
}
