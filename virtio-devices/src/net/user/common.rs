//! What everybody in the thread works with: the link, the time, what is waited for, and who has work
//! left. Owned by the thread. Knows no protocol.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use smoltcp::time::Instant;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::link::Link;
use super::timers::Timers;

/// What an event belongs to; a token is a kind and a number, never used again for anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// The device's end of the wire.
    Wire,
    /// Whoever stops the thread, or has news of the driver.
    Wake,
    /// A forward, by its index.
    Forward(usize),
    /// A connection, by its number.
    Connection(u64),
    /// A flow of datagrams, by its number.
    Datagrams(u64),
}

/// Where a token's kind is.
const KIND: u32 = 56;

impl Source {
    pub fn token(self) -> u64 {
        let (kind, number) = match self {
            Source::Wire => (0, 0),
            Source::Wake => (1, 0),
            Source::Forward(index) => (2, index as u64),
            Source::Connection(number) => (3, number),
            Source::Datagrams(number) => (4, number),
        };
        kind << KIND | number
    }

    pub fn of(token: u64) -> Option<Source> {
        let number = token & ((1 << KIND) - 1);
        match token >> KIND {
            0 => Some(Source::Wire),
            1 => Some(Source::Wake),
            2 => usize::try_from(number).ok().map(Source::Forward),
            3 => Some(Source::Connection(number)),
            4 => Some(Source::Datagrams(number)),
            _ => None,
        }
    }
}

/// See the module.
pub(super) struct Common {
    pub link: Link,
    /// When the turn began.
    pub now: Instant,
    pub timers: Timers,
    /// Where questions about names go.
    pub resolver: SocketAddr,
    /// Whether the guest may open nothing itself.
    pub is_restricted: bool,
    epoll: Epoll,
    start: std::time::Instant,
    numbers: u64,
    queue: VecDeque<Source>,
    queued: HashSet<Source>,
}

impl Common {
    pub fn new(link: Link, resolver: SocketAddr, is_restricted: bool) -> io::Result<Common> {
        Ok(Common {
            link,
            now: Instant::ZERO,
            timers: Timers::default(),
            resolver,
            is_restricted,
            epoll: Epoll::new()?,
            start: std::time::Instant::now(),
            numbers: 0,
            queue: VecDeque::new(),
            queued: HashSet::new(),
        })
    }

    /// A number that nobody had before.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Wait for a descriptor's changes until it is closed. Each is told once: what was there before it
    /// was asked for counts as one.
    pub fn watch(&self, fd: &impl AsRawFd, source: Source, events: EventSet) -> io::Result<()> {
        let event = EpollEvent::new(events | EventSet::EDGE_TRIGGERED, source.token());
        self.epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), event)
    }

    /// Sleep until something happens, or a deadline comes; then a turn begins.
    pub fn wait(&mut self, has_more: bool, events: &mut [EpollEvent]) -> io::Result<usize> {
        // What needs the wire waits for it; the wire itself is told.
        let is_held = self.link.is_blocked();
        let timeout = if has_more || (!self.queue.is_empty() && !is_held) {
            0
        } else if is_held {
            -1
        } else {
            self.until_deadline()
        };
        let count = self.epoll.wait(timeout, events);
        self.now = self.clock();
        count
    }

    /// Milliseconds, rounded up so that the deadline has come then; -1 without one.
    fn until_deadline(&self) -> i32 {
        let Some(deadline) = self.timers.next() else {
            return -1;
        };
        let left = deadline - self.clock().min(deadline);
        let left = left.total_micros().div_ceil(1000);
        i32::try_from(left).unwrap_or(i32::MAX)
    }

    /// The time since the start, which never jumps.
    fn clock(&self) -> Instant {
        let micros = self.start.elapsed().as_micros();
        Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// Somebody has work, for when there is room on the link.
    pub fn has_work(&mut self, source: Source) {
        if self.queued.insert(source) {
            self.queue.push_back(source);
        }
    }

    /// How many have work.
    pub fn work(&self) -> usize {
        self.queue.len()
    }

    /// Who has had work for the longest time.
    pub fn take_work(&mut self) -> Option<Source> {
        let source = self.queue.pop_front()?;
        self.queued.remove(&source);
        Some(source)
    }
}
