//! A network card on a socket of datagrams. The other end sends frames of any length and takes them, or
//! leaves them where they are.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use fastrand::Rng;
use virtio_devices::Device;
use virtio_devices::net::{FrameSocket, Net, NetOptions};

use crate::random::Choose;
use crate::tally::Tally;
use crate::virtio::driver::{self, Driver};
use crate::virtio::layout::BUFFERS;
use crate::virtio::maker::{Maker, Request};
use crate::virtio::plan::Mark;

/// What cases should come to.
pub const OUTCOMES: &[&str] = &[
    "frame sent in",
    "frame came out",
    "a full socket",
    "command done",
    "command refused",
    "queue : a receive buffer is too small, or not for writing",
    "queue : a command has no room for its answer",
    "too many in flight",
];

/// The queues.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const CONTROL: usize = 2;
/// VIRTIO_NET_F_MRG_RXBUF.
const MERGED: u64 = 1 << 15;
/// The longest frame with its header.
const LONGEST: usize = 65_562;

/// See the module.
#[derive(Default)]
pub struct Subject {
    wire: Option<UnixDatagram>,
    /// Whether receive buffers have no room but for a header: a frame then takes more of them than
    /// a small queue has.
    has_small_buffers: bool,
}

impl crate::virtio::Subject for Subject {
    fn device(&mut self, rng: &mut Rng) -> io::Result<Box<dyn Device>> {
        let (ours, wire) = UnixDatagram::pair()?;
        wire.set_nonblocking(true)?;
        self.wire = Some(wire);
        self.has_small_buffers = rng.once_in(8);
        let carrier = Arc::new(FrameSocket::new(ours.into())?);
        Ok(Box::new(Net::new(
            carrier,
            NetOptions::new([2, 0, 0, 0, 0, 1]),
        )))
    }

    fn request(&mut self, maker: &mut Maker<'_>, queue: usize) -> Option<Request> {
        let mut request = Request::default();
        match queue {
            RECEIVE => {
                let least = if maker.features & MERGED != 0 {
                    12
                } else {
                    1526
                };
                let most = maker
                    .rng
                    .one_of(&[13, 1527, 1527, 2048, 0x8000])
                    .max(least + 1);
                let len = maker.rng.u32(least..most);
                maker.pieces(&mut request, len, 3, true);
            }
            TRANSMIT => {
                let most = maker.rng.one_of(&[12, 72, 1526, 1526, 9000, 0x1_0000]);
                let len = maker.rng.u32(..most);
                maker.pieces(&mut request, len.max(1), 3, false);
            }
            _ => {
                let class = maker.rng.one_of(&[0u8, 0, 0, 1, 4]);
                let bytes = vec![class, maker.rng.u8(..3), maker.rng.u8(..2), 0];
                let len = maker.rng.one_of(&[3, 3, 3, 3, 2, 4]);
                let at = maker.buffer(4);
                maker.put(at, bytes);
                request.reads(at, len);
                let at = maker.status();
                request.writes(at, 1);
                request.mark = Some(Mark {
                    at,
                    means: answer,
                    bytes: 0,
                });
            }
        }
        Some(request)
    }

    /// Frames wait for the other end, in both directions.
    fn finishes(&self, queue: usize) -> bool {
        queue == CONTROL
    }

    fn outside(&mut self, what: u64, tally: &mut Tally) {
        let Some(wire) = &self.wire else { return };
        let len = match what % 8 {
            // Never 0: the device takes that for the end of its wire.
            0 => 1 + (what >> 8) as usize % 20,
            1 => 1 + (what >> 8) as usize % LONGEST,
            _ => 60 + (what >> 8) as usize % 1467,
        };
        if what & 0x80 != 0 {
            return self.take(tally);
        }
        let frame = vec![0xbb; len];
        // Now and then as many as there is room for.
        let count = if what & 0xf000_0000 == 0 { 1000 } else { 1 };
        for _ in 0..count {
            match wire.send(&frame) {
                Ok(_) => tally.reached("frame sent in"),
                Err(_) => return tally.reached("a full socket"),
            }
        }
    }

    fn probe(&mut self, driver: &mut Driver<'_>, tally: &mut Tally) -> Result<(), String> {
        // What was on its way is out of the way first.
        self.take(tally);
        let at = BUFFERS[0].start;
        // No such command, and then one that is.
        for (class, wanted) in [(1, 1), (0, 0)] {
            driver.put(at, &[class, 0, 1, 7]);
            driver.ask(CONTROL, &[(at, 3, false), (at + 3, 1, true)])?;
            if driver.get(at + 3, 1) != [wanted] {
                return Err(format!(
                    "a known command of class {class} has another answer than {wanted}"
                ));
            }
        }
        self.send(driver)?;
        self.receive(driver)
    }

    fn close(&mut self) {
        *self = Subject::default();
    }
}

fn answer(byte: u8) -> Option<&'static str> {
    match byte {
        0 => Some("command done"),
        1 => Some("command refused"),
        _ => None,
    }
}

/// A frame behind its header that nothing else is like.
fn known() -> Vec<u8> {
    [0; 12]
        .into_iter()
        .chain((0..100).map(|index| index + 7))
        .collect()
}

impl Subject {
    /// Take all frames that came out.
    fn take(&self, tally: &mut Tally) {
        let mut frame = [0; LONGEST];
        while let Some(Ok(len)) = self.wire.as_ref().map(|wire| wire.recv(&mut frame)) {
            tally.bytes += len as u64;
            tally.reached("frame came out");
        }
    }

    fn wire(&self) -> Result<&UnixDatagram, String> {
        self.wire
            .as_ref()
            .ok_or_else(|| "there is no wire".to_owned())
    }

    fn send(&self, driver: &mut Driver<'_>) -> Result<(), String> {
        let at = BUFFERS[0].start;
        driver.put(at, &known());
        driver.ask(TRANSMIT, &[(at, 12, false), (at + 12, 100, false)])?;
        let mut frame = [0; 200];
        let len = self.wire()?.recv(&mut frame);
        match len.as_ref().map(|len| &frame[..*len]) {
            Ok(found) if found == known() => Ok(()),
            other => Err(format!("instead of the known frame comes {other:?}")),
        }
    }

    /// A frame must come, after those that were sent before, of which some are none: so there is room
    /// for it at some time.
    fn receive(&self, driver: &mut Driver<'_>) -> Result<(), String> {
        let at = BUFFERS[1].start;
        let mut is_sent = false;
        driver::wait("the known frame in", || {
            driver.offer(RECEIVE, &[(at, 0x1_0100, true)])?;
            driver::wait("a frame in", || {
                is_sent = is_sent || self.wire()?.send(&known()).is_ok();
                driver.is_back(RECEIVE)
            })?;
            let len = driver.wait(RECEIVE)? as usize;
            let found = driver.get(at, len.min(0x1_0100));
            Ok(found.get(12..) == known().get(12..))
        })
    }
}
