//! A balloon, with pages that are written down: each range must be whole pages of memory.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use fastrand::Rng;
use virtio_devices::Device;
use virtio_devices::balloon::{Balloon, Handle, PAGE, Pages};
use vm_memory::GuestAddress;

use crate::random::Choose;
use crate::tally::Tally;
use crate::virtio::driver::Driver;
use crate::virtio::layout::{self, BUFFERS};
use crate::virtio::ledger::Ledger;
use crate::virtio::maker::{Maker, Request};
use crate::virtio::plan::Mood;

/// What cases should come to.
pub const OUTCOMES: &[&str] = &[
    "pages given up",
    "pages taken again",
    "queue : a list of pages ends within a number",
    "queue : a list of pages has more than ",
    "queue : a page is not in memory",
    "queue : a report of free pages has readable buffers",
    "queue : free page reporting was not negotiated",
];

/// VIRTIO_BALLOON_F_PAGE_REPORTING.
const REPORTING: u64 = 1 << 5;
/// The queues.
const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const REPORT: usize = 2;

/// What a balloon asked of the host.
#[derive(Default)]
struct Seen {
    given_up: u64,
    taken: u64,
    last: Option<(u64, u64)>,
    wrong: Option<String>,
}

impl Seen {
    fn check(&mut self, at: GuestAddress, len: u64) {
        self.last = Some((at.0, len));
        let is_whole = at.0.is_multiple_of(PAGE) && len.is_multiple_of(PAGE);
        if !is_whole || !layout::is_memory(at.0, len) {
            self.wrong.get_or_insert(format!(
                "the balloon has {len} bytes at {:#x} given up or taken",
                at.0
            ));
        }
    }
}

#[derive(Default)]
struct Record(Mutex<Seen>);

impl Record {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages for Record {
    fn give_up(&self, at: GuestAddress, len: u64) -> io::Result<()> {
        let mut seen = self.seen();
        seen.given_up += 1;
        seen.check(at, len);
        // Every third time the host refuses.
        match seen.given_up % 3 {
            0 => Err(io::ErrorKind::OutOfMemory.into()),
            _ => Ok(()),
        }
    }

    fn take_again(&self, at: GuestAddress, len: u64) -> io::Result<()> {
        let mut seen = self.seen();
        seen.taken += 1;
        seen.check(at, len);
        Ok(())
    }
}

/// See the module.
#[derive(Default)]
pub struct Subject {
    record: Arc<Record>,
    handle: Option<Handle>,
}

impl Subject {
    /// Count what was seen, and say what was wrong with it.
    fn look(&self, tally: &mut Tally) -> Result<(), String> {
        let seen = std::mem::take(&mut *self.record.seen());
        for (count, outcome) in [
            (seen.given_up, "pages given up"),
            (seen.taken, "pages taken again"),
        ] {
            if count > 0 {
                tally.reached(outcome);
            }
        }
        seen.wrong.map_or(Ok(()), Err)
    }
}

impl crate::virtio::Subject for Subject {
    fn device(&mut self, _: &mut Rng) -> io::Result<Box<dyn Device>> {
        let balloon = Balloon::new(self.record.clone());
        self.handle = Some(balloon.handle());
        Ok(Box::new(balloon))
    }

    fn request(&mut self, maker: &mut Maker<'_>, queue: usize) -> Option<Request> {
        let mut request = Request::default();
        if queue == REPORT {
            if maker.features & REPORTING == 0 && maker.mood == Mood::Legal {
                return None;
            }
            for _ in 0..1 + maker.rng.u32(..4) {
                let len = maker.rng.u32(1..9) * PAGE as u32;
                let at = maker.buffer(len) / PAGE * PAGE;
                request.writes(at, len);
            }
            return Some(request);
        }
        // Lists of numbers, 64 bits of them at a time.
        let most = maker.rng.one_of(&[2, 16, 300]);
        let words: Vec<u64> = (0..1 + maker.rng.usize(..most))
            .map(|_| pages(maker))
            .collect();
        let len = 8 * words.len() as u32;
        let at = maker.header(&words);
        let cut = maker.rng.u32(..len);
        request.reads(at, cut);
        request.reads(at + u64::from(cut), len - cut);
        // Not legal where it is long, so for the others alone.
        if maker.mood != Mood::Legal && maker.rng.once_in(20) {
            let len = maker.rng.u32(0x3000..0x9000);
            let at = maker.buffer(len);
            request.reads(at, len);
        }
        Some(request)
    }

    fn outside(&mut self, what: u64, _: &mut Tally) {
        if let Some(handle) = &self.handle {
            handle.set_target(what as u32 % 64);
        }
    }

    fn inspect(&mut self, _: &Ledger, tally: &mut Tally) -> Result<(), String> {
        self.look(tally)
    }

    fn probe(&mut self, driver: &mut Driver<'_>, tally: &mut Tally) -> Result<(), String> {
        let list = BUFFERS[0].start;
        driver.put(list, &[0x60, 0, 0, 0, 0x61, 0, 0, 0]);
        for queue in [INFLATE, DEFLATE] {
            driver.ask(queue, &[(list, 8, false)])?;
            self.is_last(0x6_0000, 0x2000)?;
        }
        driver.ask(REPORT, &[(0x7_0000, 0x3000, true)])?;
        self.is_last(0x7_0000, 0x3000)?;
        self.look(tally)
    }

    fn close(&mut self) {
        self.handle = None;
    }
}

impl Subject {
    fn is_last(&self, at: u64, len: u64) -> Result<(), String> {
        match self.record.seen().last.take() {
            Some(last) if last == (at, len) => Ok(()),
            other => Err(format!(
                "the balloon was given {len} bytes at {at:#x}, and tells the host {other:x?}"
            )),
        }
    }
}

/// Two numbers of pages: mostly such that there are, next to each other or not.
fn pages(maker: &mut Maker<'_>) -> u64 {
    let first = match maker.rng.u32(..40) {
        0 if maker.mood != Mood::Legal => {
            maker.rng.one_of(&[0xc0, 0xff, 0x140, 0x1_0000, u32::MAX])
        }
        0..20 => 0x50 + maker.rng.u32(..0x6f),
        _ => 0x100 + maker.rng.u32(..0x3f),
    };
    let second = if maker.rng.bool() {
        first.saturating_add(1)
    } else {
        first ^ 2
    };
    let second = if maker.mood == Mood::Legal {
        second.min(0x13f)
    } else {
        second
    };
    u64::from(first) | u64::from(second) << 32
}
