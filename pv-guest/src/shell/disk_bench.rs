//! `disk NAME bench`: moves blocks with many requests under way, and says how long it took and what
//! was wrong. For the host's half of the benchmark, and for people.
//!
//! Each block of 4 KiB is full of one word, which depends on block and seed, so that whatever comes
//! back is checked in full. Blocks are visited in an order that is no order for the disk, or one
//! behind the other; as long as there are no more requests than blocks, none is visited twice.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use driver_api::{BlockError, Completion, Dma, Env, Operation, Request, SECTOR_SIZE};
use hypercall_abi::Vector;
use zerocopy::IntoBytes as _;

use super::CommandError;
use crate::dev::block::Finished;
use crate::dev::{Disk, DmaMemory, KernelEnv, NamedDisk};
use crate::sync::{SpinLock, WaitQueue};
use crate::{hooks, irq, println, time};

/// What is filled with one word, in bytes.
const BLOCK: usize = 4096;
/// Blocks' sectors.
const BLOCK_SECTORS: u64 = (BLOCK / SECTOR_SIZE) as u64;
/// The largest request, in bytes.
const MOST: usize = 1 << 20;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bench {
    is_write: bool,
    is_random: bool,
    /// Bytes of a request.
    bytes: usize,
    /// Requests under way.
    depth: usize,
    /// Requests in all.
    count: u64,
    seed: u64,
}

impl Bench {
    /// From words: `read|write|sread|swrite BYTES DEPTH COUNT SEED`.
    pub fn parse(words: &[&str]) -> Option<Self> {
        let [what, bytes, depth, count, seed] = *words else {
            return None;
        };
        let (is_write, is_random) = match what {
            "read" => (false, true),
            "write" => (true, true),
            "sread" => (false, false),
            "swrite" => (true, false),
            _ => return None,
        };
        let bench = Self {
            is_write,
            is_random,
            bytes: bytes.parse().ok()?,
            depth: depth.parse().ok()?,
            count: count.parse().ok()?,
            seed: seed.parse().ok()?,
        };
        let is_sound = bench.bytes.is_power_of_two()
            && (BLOCK..=MOST).contains(&bench.bytes)
            && (1..=256).contains(&bench.depth);
        is_sound.then_some(bench)
    }

    /// The request's place on a disk of so many of its size, a power of two.
    fn place(&self, request: u64, places: u64) -> u64 {
        // An odd factor permutes the numbers below a power of two.
        let at = match self.is_random {
            true => request.wrapping_mul(0x9e37_79b1).wrapping_add(self.seed),
            false => request,
        };
        at & (places - 1)
    }

    /// The word of the block that begins at a sector.
    fn word(&self, sector: u64) -> u64 {
        super::disk::mix(self.seed ^ super::disk::mix(sector / BLOCK_SECTORS))
    }

    fn fill(&self, request: &Request<DmaMemory>) {
        let Some(buffer) = &request.buffer else {
            return;
        };
        for (index, sector) in blocks(request) {
            let block = [self.word(sector); BLOCK / 8];
            buffer.write(index * BLOCK, block.as_bytes());
        }
    }

    /// How many blocks are not as they were written.
    fn wrong(&self, request: &Request<DmaMemory>) -> u64 {
        let Some(buffer) = &request.buffer else {
            return 1;
        };
        let mut wrong = 0;
        for (index, sector) in blocks(request) {
            let mut block = [0u64; BLOCK / 8];
            buffer.read(index * BLOCK, block.as_mut_bytes());
            let word = self.word(sector);
            wrong += u64::from(block.iter().any(|found| *found != word));
        }
        wrong
    }
}

/// The blocks of a request: number and first sector.
fn blocks(request: &Request<DmaMemory>) -> impl Iterator<Item = (usize, u64)> {
    let count = request.count as usize * SECTOR_SIZE / BLOCK;
    let first = request.sector;
    (0..count).map(move |index| (index, first + index as u64 * BLOCK_SECTORS))
}

/// Where complete requests go.
struct Inbox {
    finished: SpinLock<Vec<Finished>>,
    waiters: WaitQueue,
}

impl Completion<DmaMemory> for Inbox {
    fn complete(&self, request: Request<DmaMemory>, result: Result<(), BlockError>) {
        self.finished.lock().push((request, result));
        self.waiters.wake_one();
    }
}

impl Inbox {
    /// All that is there, at least one; `into` is empty.
    fn take(&self, into: &mut Vec<Finished>) {
        self.waiters.wait_until(|| {
            let mut finished = self.finished.lock();
            core::mem::swap(&mut *finished, into);
            (!into.is_empty()).then_some(())
        });
    }
}

/// Measure, and print a line.
pub fn run(named: &NamedDisk, bench: Bench) -> Result<(), CommandError<'static>> {
    let disk = &named.disk;
    let count = (bench.bytes / SECTOR_SIZE) as u32;
    let places = disk.info().sectors / u64::from(count);
    let places = places.checked_ilog2().map(|log| 1u64 << log);
    let places = places.ok_or(CommandError::Disk(BlockError::OutOfRange))?;
    let mut idle = Vec::new();
    for _ in 0..bench.depth.min(disk.info().depth) {
        let buffer = KernelEnv.dma(bench.bytes);
        let buffer = buffer.map_err(|_| CommandError::NoMemory)?;
        idle.push(buffer);
    }
    let depth = idle.len();
    let inbox = Arc::new(Inbox {
        finished: SpinLock::new(Vec::with_capacity(depth)),
        waiters: WaitQueue::new(),
    });
    let counts = || {
        let interrupts = Vector::new(named.vector).map_or(0, irq::count);
        let exits = hooks::shared().exits.load(Ordering::Relaxed);
        (exits, interrupts)
    };
    let (before, start) = (counts(), time::now_ns());
    let wrong = transfer(disk, bench, places, count, idle, &inbox)?;
    let ns = time::now_ns().saturating_sub(start);
    let after = counts();
    let exits = after.0.wrapping_sub(before.0);
    let interrupts = after.1.wrapping_sub(before.1);
    println!(
        "@disk count={} bytes={} depth={depth} ns={ns} exits={exits} interrupts={interrupts} wrong={wrong}",
        bench.count, bench.bytes
    );
    let error = CommandError::Disk(BlockError::Io);
    (wrong == 0).then_some(()).ok_or(error)
}

/// Do all requests; how many blocks were wrong.
fn transfer(
    disk: &Disk,
    bench: Bench,
    places: u64,
    count: u32,
    mut idle: Vec<DmaMemory>,
    inbox: &Arc<Inbox>,
) -> Result<u64, CommandError<'static>> {
    let client: Arc<dyn Completion<DmaMemory>> = inbox.clone();
    let operation = match bench.is_write {
        true => Operation::Write,
        false => Operation::Read,
    };
    let depth = idle.len() as u64;
    let (mut begun, mut ended, mut wrong) = (0, 0, 0);
    let mut failed = None;
    let mut finished = Vec::with_capacity(idle.len());
    while ended < bench.count {
        while begun < bench.count && failed.is_none() {
            let Some(buffer) = idle.pop() else { break };
            let request = Request {
                operation,
                sector: bench.place(begun, places) * u64::from(count),
                count,
                buffer: Some(buffer),
                tag: begun,
            };
            if bench.is_write {
                bench.fill(&request);
            }
            if let Err(refused) = disk.submit(request, &client) {
                failed.get_or_insert(refused.error);
                break;
            }
            begun += 1;
        }
        disk.kick();
        if begun == ended {
            break;
        }
        inbox.take(&mut finished);
        for (request, result) in finished.drain(..) {
            ended += 1;
            match result {
                Ok(()) if !bench.is_write => wrong += bench.wrong(&request),
                Ok(()) => {}
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
            idle.extend(request.buffer);
        }
        debug_assert!(idle.len() as u64 <= depth);
    }
    match failed {
        Some(error) => Err(CommandError::Disk(error)),
        None => Ok(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_make_a_benchmark_or_none() {
        let good = Bench::parse(&["read", "4096", "32", "100", "7"]);
        let expected = Bench {
            is_write: false,
            is_random: true,
            bytes: 4096,
            depth: 32,
            count: 100,
            seed: 7,
        };
        assert_eq!(good, Some(expected));
        for wrong in [
            &["read", "4096", "32", "100"][..],
            &["move", "4096", "32", "100", "7"],
            &["read", "512", "32", "100", "7"],
            &["read", "5000", "32", "100", "7"],
            &["read", "2097152", "32", "100", "7"],
            &["read", "4096", "0", "100", "7"],
            &["read", "4096", "257", "100", "7"],
            &["read", "4096", "32", "-1", "7"],
        ] {
            assert_eq!(Bench::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn each_place_is_visited_once() {
        for what in ["read", "sread"] {
            let bench = Bench::parse(&[what, "4096", "1", "1", "12345"]).unwrap();
            let mut places: Vec<u64> = (0..1024).map(|at| bench.place(at, 1024)).collect();
            assert_eq!(places.is_sorted(), what == "sread");
            places.sort_unstable();
            assert!(places.into_iter().eq(0..1024));
        }
    }

    #[test]
    fn words_differ_by_block_and_seed() {
        let [one, other] =
            ["1", "2"].map(|seed| Bench::parse(&["read", "4096", "1", "1", seed]).unwrap());
        assert_eq!(one.word(0), one.word(7), "of one block");
        let mut words = [one.word(0), one.word(8), one.word(1 << 40), other.word(0)];
        words.sort_unstable();
        assert!(words.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
