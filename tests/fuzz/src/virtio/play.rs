//! Plays a plan against a device, and counts what comes of it. Waits only as long as a device that
//! will never answer may be waited for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use virtio_devices::MmioTransport;
use virtio_devices::transport::mmio::STATUS;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::driver::PATIENCE;
use super::plan::{Awaited, Mark, Mood, Op, Plan, Store};
use super::{Subject, layout, outcomes};
use crate::tally::Tally;

/// How long a device is waited for that may have been given nonsense.
const WHILE: Duration = Duration::from_micros(400);

/// What a play needs.
pub struct Play<'a> {
    /// The device.
    pub transport: &'a mut MmioTransport,
    /// The guest's memory.
    pub memory: &'a GuestMemoryMmap,
    /// What is behind the device.
    pub subject: &'a mut dyn Subject,
    /// Where it is counted.
    pub tally: &'a mut Tally,
    /// Bytes that tell what became of requests.
    pub marks: Vec<Mark>,
    /// Whether this driver's complaint was counted.
    pub is_told: bool,
}

impl Play<'_> {
    /// Do all of it, with the second thread at work meanwhile.
    ///
    /// # Errors
    /// What the device did wrong.
    pub fn all(&mut self, plan: &Plan) -> Result<(), String> {
        let is_over = AtomicBool::new(false);
        let memory = self.memory;
        std::thread::scope(|scope| {
            if !plan.scribbles.is_empty() {
                scope.spawn(|| scribble(memory, &plan.scribbles, &is_over));
            }
            let result = plan.ops.iter().try_for_each(|op| self.one(plan.mood, op));
            is_over.store(true, Ordering::SeqCst);
            result
        })
    }

    fn one(&mut self, mood: Mood, op: &Op) -> Result<(), String> {
        self.tally.operations += 1;
        match op {
            Op::Store(what) => store(self.memory, what),
            Op::Write { offset, bytes } => self.write(*offset, bytes),
            Op::Read { offset, width } => self.read(*offset, *width)?,
            Op::Offered => self.tally.offered += 1,
            Op::Mark(mark) => self.marks.push(*mark),
            Op::Settle(queues) => self.settle(mood, queues)?,
            Op::Count(queues) => self.count(queues),
            Op::Outside(what) => self.subject.outside(*what, self.tally),
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let is_reset = offset == STATUS && bytes == [0; 4];
        if is_reset {
            self.tell();
        }
        self.transport.write(offset, bytes);
        if is_reset {
            self.tally.resets += 1;
            self.is_told = false;
        }
    }

    /// Registers below the configuration read as zeros unless it is one, in one piece.
    fn read(&mut self, offset: u64, width: usize) -> Result<(), String> {
        let mut bytes = vec![0xee; width];
        self.transport.read(offset, &mut bytes);
        let is_register = width == 4 && offset.is_multiple_of(4);
        if offset < 0x100 && !is_register && bytes.iter().any(|byte| *byte != 0) {
            return Err(format!("{width} bytes at {offset:#x} read as {bytes:02x?}"));
        }
        Ok(())
    }

    /// Wait until all has come back, or a while; a legal driver, until all has that must.
    fn settle(&mut self, mood: Mood, queues: &[Awaited]) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let is_late = |queue: &&Awaited| self.used(queue) != queue.index;
            let late: Vec<_> = queues.iter().filter(is_late).collect();
            if late.is_empty() || self.transport.needs_reset() {
                break;
            }
            let must = late
                .iter()
                .find(|queue| queue.is_certain && mood == Mood::Legal);
            match must {
                None if start.elapsed() > WHILE => break,
                Some(must) if start.elapsed() > PATIENCE => {
                    let used = self.used(must);
                    return Err(format!(
                        "a legal driver waits for ever for {must:?}, which is at {used}"
                    ));
                }
                _ => std::thread::yield_now(),
            }
        }
        match self.tell() {
            Some(why) if mood == Mood::Legal => {
                Err(format!("a legal driver has to reset the device: {why}"))
            }
            _ => Ok(()),
        }
    }

    /// Count a complaint, once a driver; returns it.
    pub fn tell(&mut self) -> Option<String> {
        if !self.transport.needs_reset() {
            return None;
        }
        let why = self.transport.fault()?;
        if !std::mem::replace(&mut self.is_told, true) {
            self.tally.needs_resets += 1;
            self.tally.reached(&outcomes::of_report(&why));
        }
        Some(why)
    }

    /// Count what came back: the used rings are as the device left them, or a plan has spoilt them.
    fn count(&mut self, queues: &[Awaited]) {
        for queue in queues {
            let used = self.used(queue);
            if used > queue.index {
                continue;
            }
            self.tally.finished += u64::from(used);
            if used != queue.index && !self.transport.needs_reset() {
                self.tally.reached("reset with requests in flight");
            }
            let lens = (0..u64::from(used.min(64))).map(|index| {
                let at = GuestAddress(queue.used + 8 + 8 * index);
                self.memory.read_obj::<u32>(at).unwrap_or(0)
            });
            let is_sensible = |len: &u32| u64::from(*len) <= layout::BUFFERS[1].end;
            self.tally.bytes += lens.filter(is_sensible).map(u64::from).sum::<u64>();
        }
        for mark in self.marks.drain(..) {
            let byte = self
                .memory
                .read_obj::<u8>(GuestAddress(mark.at))
                .unwrap_or(0);
            if let Some(outcome) = (mark.means)(byte) {
                self.tally.reached(outcome);
                self.tally.bytes += mark.bytes;
            }
        }
    }

    fn used(&self, queue: &Awaited) -> u16 {
        let at = GuestAddress(queue.used + 2);
        self.memory.load(at, Ordering::SeqCst).unwrap_or(0)
    }
}

/// The second thread.
fn scribble(memory: &GuestMemoryMmap, stores: &[Store], is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        for what in stores {
            store(memory, what);
        }
        std::thread::yield_now();
    }
}

/// Do one store. What is not in memory is not there for a guest, either.
fn store(memory: &GuestMemoryMmap, what: &Store) {
    let _ = match what {
        Store::Word { at, value } => memory.store(*value, GuestAddress(*at), Ordering::SeqCst),
        Store::Half { at, value } => memory.store(*value, GuestAddress(*at), Ordering::SeqCst),
        Store::Bytes { at, bytes } => memory.write_slice(bytes, GuestAddress(*at)),
    };
}
