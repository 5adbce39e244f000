//! The same client without a guest: `netstack` in a thread of this process, on the tap itself. It does what the
//! commands of pv-guest/src/shell/stream.rs do.

use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netstack::hash::WordFnv;
use netstack::{NetFail, Polled, Stack, Tcp};

use super::device::TapDevice;
use super::namespace::{CLIENT, HOST, TAP, set_up_tap};
use super::plan::{Case, NetWork};
use super::report::{Measured, NetSample, Ran};
use crate::error::BenchError;
use crate::io::report::{Sample, thread_cpu_ns};

/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes that are handed over at once, as in the guest.
const PATTERN: usize = 64 << 10;
/// How many requests are under way, as in the guest.
const UNDER_WAY: u64 = 8;
/// Sequence numbers follow from it; the other end is this host.
const SEED: u64 = 0x5eed_0000_0000_0001;

/// Do the work.
///
/// # Errors
/// [`BenchError::Net`].
pub fn run(case: &Case, port: u16, count: u64) -> Result<Ran, BenchError> {
    transfer(case.work, port, count).map_err(|source| BenchError::net(case, source))
}

fn transfer(work: NetWork, port: u16, count: u64) -> io::Result<Ran> {
    let mut client = Client::start()?;
    let bytes = count.saturating_mul(work.bytes());
    let (hash, meter) = if work == NetWork::Packets {
        (0, client.flood(count)?)
    } else {
        let tcp = client.connect(SocketAddrV4::new(HOST, port))?;
        let meter = client.meter();
        let hash = match work {
            NetWork::Receive => client.receive(&tcp, bytes)?,
            NetWork::Send => client.send(&tcp, bytes)?,
            NetWork::RoundTrip | NetWork::Packets => client.round_trips(&tcp, count)?,
        };
        let meter = client.since(meter);
        client.finish(tcp)?;
        (hash, meter)
    };
    let sample = Sample {
        count,
        ns: meter.ns as f64,
        cpu_ns: [meter.cpu_ns, 0],
        ..Sample::default()
    };
    let frames = meter.frames;
    let measured = Measured::Sample(NetSample { sample, frames });
    Ok(Ran { measured, hash })
}

/// What a client has taken.
#[derive(Clone, Copy)]
struct Meter {
    ns: u64,
    cpu_ns: u64,
    frames: u64,
}

struct Client {
    device: Arc<TapDevice>,
    stack: Stack,
    begin: Instant,
}

impl Client {
    fn start() -> io::Result<Self> {
        let device = Arc::new(TapDevice::open(TAP)?);
        set_up_tap()?;
        let mut stack = Stack::new(device.clone(), SEED, 0).map_err(failed)?;
        stack.set_static(CLIENT, 24, Some(HOST)).map_err(failed)?;
        Ok(Self {
            device,
            stack,
            begin: Instant::now(),
        })
    }

    fn now(&self) -> u64 {
        // Five centuries fit.
        self.begin.elapsed().as_nanos() as u64
    }

    fn meter(&self) -> Meter {
        Meter {
            ns: self.now(),
            cpu_ns: thread_cpu_ns(),
            frames: self.device.frames(),
        }
    }

    fn since(&self, before: Meter) -> Meter {
        let now = self.meter();
        Meter {
            ns: now.ns.saturating_sub(before.ns),
            cpu_ns: now.cpu_ns.saturating_sub(before.cpu_ns),
            frames: now.frames.saturating_sub(before.frames),
        }
    }

    fn poll(&mut self) -> Polled {
        let now = self.now();
        self.stack.poll(now)
    }

    /// Work on the stack until that yields a value, and sleep between, as the guest's `Link::until` does.
    fn until<T>(
        &mut self,
        mut work: impl FnMut(&mut Stack) -> Option<Result<T, NetFail>>,
    ) -> io::Result<T> {
        let begin = Instant::now();
        loop {
            let value = work(&mut self.stack);
            let polled = self.poll();
            if let Some(value) = value {
                return value.map_err(failed);
            }
            if begin.elapsed() > PATIENCE {
                return Err(failed(NetFail::TimedOut));
            }
            if polled.has_changed || polled.has_more {
                continue;
            }
            let due = polled.due_ns.map(|due| due.saturating_sub(self.now()));
            let most = due.map_or(PATIENCE, Duration::from_nanos);
            self.device.wait(polled.is_short, most.min(PATIENCE))?;
        }
    }

    fn connect(&mut self, to: SocketAddrV4) -> io::Result<Tcp> {
        let tcp = self.stack.connect(to).map_err(failed)?;
        self.until(|stack| stack.established(&tcp))?;
        Ok(tcp)
    }

    fn receive(&mut self, tcp: &Tcp, bytes: u64) -> io::Result<u64> {
        let (mut left, mut hash) = (bytes, WordFnv::new());
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            left -= self.read(tcp, |came| {
                let now = came.get(..most).unwrap_or(came);
                hash.add(now);
                now.len()
            })? as u64;
        }
        Ok(hash.finish())
    }

    fn read(&mut self, tcp: &Tcp, mut take: impl FnMut(&[u8]) -> usize) -> io::Result<usize> {
        self.until(|stack| stack.read(tcp, &mut take).transpose())
    }

    fn send(&mut self, tcp: &Tcp, bytes: u64) -> io::Result<u64> {
        let words = (1..=PATTERN as u64 / 8).map(|number| {
            let value = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            value ^ value >> 31
        });
        let pattern: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        let (mut left, mut hash) = (bytes, WordFnv::new());
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(PATTERN).min(PATTERN);
            let now = pattern.get(..count).unwrap_or(&pattern);
            self.write_all(tcp, now)?;
            hash.add(now);
            left -= now.len() as u64;
        }
        self.stack.close(tcp);
        self.until(|stack| stack.delivered(tcp))?;
        Ok(hash.finish())
    }

    fn write_all(&mut self, tcp: &Tcp, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = self.until(|stack| match stack.write(tcp, rest) {
                Ok(0) => None,
                other => Some(other),
            })?;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    fn round_trips(&mut self, tcp: &Tcp, count: u64) -> io::Result<u64> {
        for turn in 0..count {
            let sent = turn as u8;
            self.write_all(tcp, &[sent])?;
            let mut is_same = false;
            self.read(tcp, |came| {
                is_same = came == [sent];
                came.len()
            })?;
            is_same.then_some(()).ok_or_else(differs)?;
        }
        Ok(0)
    }

    fn flood(&mut self, count: u64) -> io::Result<Meter> {
        let ping = self.stack.begin_ping(HOST).map_err(failed)?;
        // The first one has the neighbour asked for, too.
        self.ask(&ping, 0, 1)?;
        let meter = self.meter();
        self.ask(&ping, 1, count.saturating_add(1))?;
        let meter = self.since(meter);
        self.stack.end_ping(ping);
        Ok(meter)
    }

    fn ask(&mut self, ping: &netstack::Ping, first: u64, end: u64) -> io::Result<()> {
        let (mut asked, mut answered) = (first, first);
        while answered < end {
            let before = answered;
            let is_right = self.until(|stack| {
                loop {
                    match stack.answer(ping) {
                        // A request carries the number's low half.
                        Ok(Some(echo)) if echo.is_intact && echo.sequence == answered as u16 => {
                            answered += 1;
                        }
                        Ok(Some(_)) => return Some(Ok(false)),
                        Ok(None) => break,
                        Err(error) => return Some(Err(error)),
                    }
                }
                while asked < end
                    && asked - answered < UNDER_WAY
                    && stack.ask(ping, asked as u16).is_ok()
                {
                    asked += 1;
                }
                (answered > before).then_some(Ok(true))
            })?;
            is_right.then_some(()).ok_or_else(differs)?;
        }
        Ok(())
    }

    fn finish(&mut self, tcp: Tcp) -> io::Result<()> {
        self.stack.close(&tcp);
        self.until(|stack| stack.finished(&tcp))?;
        self.stack.discard(tcp);
        Ok(())
    }
}

fn failed(error: NetFail) -> io::Error {
    io::Error::other(error.to_string())
}

fn differs() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "what came back is not what was sent",
    )
}
