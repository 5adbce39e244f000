//! Which memory the host gets, by a balloon, and when it comes back.
//!
//! A thread follows the host's wish. It takes frames that nobody uses, and stops where the kernel would
//! have few left. If frames are short, whoever needs one gets it out of the balloon at once, and the host
//! is told later (virtio 1.3, 5.5.3, deflate on OOM); the balloon grows again when many frames are free
//! again. Frames that were used, and were given back, are reported, so that the host may use them
//! meanwhile.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use driver_api::{BALLOON_PAGE, BalloonClient, BalloonDevice, BalloonError, EnvError, PageRun};
use hypercall_abi::Frame;
use hypercall_abi::types::PAGE_SIZE;
use spin::Once;

use crate::mm::frames::{self, Spare};
use crate::sync::{SpinLock, WaitQueue};
use crate::time::MILLISECOND;
use crate::{println, sched};

const _: () = assert!(PAGE_SIZE == BALLOON_PAGE);

/// Frames that change sides at once.
const BATCH: u64 = 1024;
/// The kernel keeps so much of all frames free: a sixteenth.
const RESERVE: u64 = 16;
/// Fewer adjacent frames than this are not reported: the host gives them out by larger pieces.
const REPORT_LEAST: u64 = 16;
/// How long frames must have been free at least, in nanoseconds, so that what comes and goes stays.
const REPORT_AFTER: u64 = 100 * MILLISECOND;
/// The most runs of a report.
const REPORTS_MOST: usize = 8;

static MANAGER: Once<Arc<Manager>> = Once::new();

/// A balloon as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filling {
    /// Pages that the host wants.
    pub wanted: u64,
    /// Pages that it has.
    pub held: u64,
    /// Pages that were taken out again because memory was short, ever.
    pub relieved: u64,
    /// Pages that were reported as free, ever.
    pub reported: u64,
}

/// The machine's balloon; `None` without one.
pub fn filling() -> Option<Filling> {
    MANAGER.get().map(|manager| {
        let held = manager.held.lock().pages;
        Filling {
            wanted: manager.device.wanted().into(),
            held,
            relieved: manager.relieved.load(Ordering::Relaxed),
            reported: manager.reported.load(Ordering::Relaxed),
        }
    })
}

/// Follow a balloon's host from now on. Of several balloons only the first is followed.
///
/// # Errors
/// [`EnvError::NoThread`].
pub(super) fn start(device: Arc<dyn BalloonDevice>) -> Result<(), EnvError> {
    let manager = Arc::new(Manager {
        device,
        held: SpinLock::new(Held {
            runs: Vec::new(),
            relieved: Vec::new(),
            pages: 0,
        }),
        bell: WaitQueue::new(),
        has_wish: AtomicBool::new(true),
        has_relieved: AtomicBool::new(false),
        has_freed: AtomicBool::new(false),
        relieved: AtomicU64::new(0),
        reported: AtomicU64::new(0),
    });
    if MANAGER.get().is_some() {
        return Ok(());
    }
    let worker = manager.clone();
    drop(sched::spawn("balloon", move || worker.work()).map_err(|_| EnvError::NoThread)?);
    MANAGER.call_once(|| manager.clone());
    frames::set_spare(manager.clone());
    manager.device.set_client(manager.clone());
    Ok(())
}

/// What is in the balloon.
struct Held {
    runs: Vec<PageRun>,
    /// Taken out already, and the host does not know yet. Has room for all of `runs`.
    relieved: Vec<PageRun>,
    pages: u64,
}

struct Manager {
    device: Arc<dyn BalloonDevice>,
    held: SpinLock<Held>,
    bell: WaitQueue,
    has_wish: AtomicBool,
    has_relieved: AtomicBool,
    has_freed: AtomicBool,
    relieved: AtomicU64,
    reported: AtomicU64,
}

/// What there is to do.
enum News {
    Wish,
    Relieved,
    Freed,
}

impl BalloonClient for Manager {
    fn notify(&self) {
        self.has_wish.store(true, Ordering::Relaxed);
        self.bell.wake_one();
    }
}

impl Spare for Manager {
    fn relieve(&self) -> bool {
        // Somebody who works on the balloon needs memory for it: there is no help then.
        let Some(mut held) = self.held.try_lock() else {
            return false;
        };
        let Some(run) = held.runs.pop() else {
            return false;
        };
        held.pages -= run.count;
        // There is room, as `keep` has seen to: nothing is allocated.
        held.relieved.push(run);
        drop(held);
        give_back(run);
        self.relieved.fetch_add(run.count, Ordering::Relaxed);
        self.has_relieved.store(true, Ordering::Relaxed);
        self.bell.wake_one();
        true
    }

    fn freed(&self) {
        self.has_freed.store(true, Ordering::Relaxed);
        self.bell.wake_one();
    }
}

/// Let others use a run again, without a report of it: the host knows best what became of it.
fn give_back(run: PageRun) {
    frames::put_quietly(Frame(run.first), run.count);
}

impl Manager {
    fn work(&self) {
        loop {
            let done = match self.bell.wait_until(|| self.news()) {
                News::Relieved => self.tell_of_relief(),
                News::Wish => self.follow(),
                News::Freed => {
                    sched::sleep_ns(REPORT_AFTER);
                    self.follow().and_then(|()| self.report())
                }
            };
            if let Err(error) = done {
                println!("kernel: balloon: {error}");
                if error == BalloonError::Broken {
                    return;
                }
            }
        }
    }

    fn news(&self) -> Option<News> {
        let take = |flag: &AtomicBool| flag.swap(false, Ordering::Relaxed);
        if take(&self.has_relieved) {
            Some(News::Relieved)
        } else if take(&self.has_wish) {
            Some(News::Wish)
        } else if take(&self.has_freed) {
            Some(News::Freed)
        } else {
            None
        }
    }

    /// Do as the host wishes, as far as the kernel can spare frames.
    fn follow(&self) -> Result<(), BalloonError> {
        loop {
            let (wanted, held) = (u64::from(self.device.wanted()), self.held.lock().pages);
            if held < wanted {
                let reserve = frames::counts().total / RESERVE;
                let Some((first, count)) = frames::take_spare(BATCH.min(wanted - held), reserve)
                else {
                    return Ok(());
                };
                let run = PageRun {
                    first: first.0,
                    count,
                };
                if let Err(error) = self.device.inflate(&[run]) {
                    give_back(run);
                    return Err(error);
                }
                self.keep(run);
            } else if held > wanted {
                let Some(run) = self.take_out(held - wanted) else {
                    return Ok(());
                };
                let told = self.device.deflate(&[run]);
                give_back(run);
                told?;
            } else {
                return Ok(());
            }
            self.say();
        }
    }

    fn say(&self) {
        let pages = self.held.lock().pages;
        self.device.say(u32::try_from(pages).unwrap_or(u32::MAX));
    }

    /// Put a run into the balloon, or back to the others if there is no memory to remember it by.
    fn keep(&self, run: PageRun) {
        let mut runs = Vec::new();
        let mut relieved = Vec::new();
        loop {
            let mut held = self.held.lock();
            let needed = held.runs.len() + held.relieved.len() + 1;
            let has_room = held.runs.capacity() >= needed && held.relieved.capacity() >= needed;
            if has_room {
                held.runs.push(run);
                held.pages += run.count;
                return;
            }
            // Vectors with room, made while no lock is held; then what is remembered moves there.
            if Vec::capacity(&runs) >= needed && Vec::capacity(&relieved) >= needed {
                runs.append(&mut held.runs);
                relieved.append(&mut held.relieved);
                core::mem::swap(&mut held.runs, &mut runs);
                core::mem::swap(&mut held.relieved, &mut relieved);
                continue;
            }
            drop(held);
            let (first, second) = (
                runs.try_reserve_exact(2 * needed),
                relieved.try_reserve_exact(2 * needed),
            );
            if first.is_err() || second.is_err() {
                give_back(run);
                return;
            }
        }
    }

    /// Take at most so many pages out of the balloon: the last run, or its end.
    fn take_out(&self, most: u64) -> Option<PageRun> {
        let mut held = self.held.lock();
        let last = held.runs.last_mut()?;
        let count = last.count.min(most);
        last.count -= count;
        let run = PageRun {
            first: last.first + last.count,
            count,
        };
        if last.count == 0 {
            held.runs.pop();
        }
        held.pages -= count;
        Some(run)
    }

    /// Tell the host of runs that are used again already.
    fn tell_of_relief(&self) -> Result<(), BalloonError> {
        loop {
            let run = self.held.lock().relieved.pop();
            let Some(run) = run else {
                self.say();
                return Ok(());
            };
            self.device.deflate(&[run])?;
        }
    }

    /// Report what is free, from the first frame to the last, some runs at a time.
    fn report(&self) -> Result<(), BalloonError> {
        let most = self.device.reports_at_once().min(REPORTS_MOST);
        if most == 0 {
            return Ok(());
        }
        let mut from = Frame(0);
        loop {
            let (mut runs, mut count) = ([PageRun { first: 0, count: 0 }; REPORTS_MOST], 0);
            for place in runs.iter_mut().take(most) {
                // What is told of is nobody's meanwhile, so it must not be all that is left.
                let spare = frames::counts().free / 2;
                let batch = BATCH.min(spare);
                let Some((first, pages)) = frames::take_freed(from, REPORT_LEAST, batch) else {
                    break;
                };
                *place = PageRun {
                    first: first.0,
                    count: pages,
                };
                from = Frame(first.0 + pages);
                count += 1;
            }
            let runs = runs.get(..count).unwrap_or_default();
            let told = self.device.report(runs);
            for run in runs {
                give_back(*run);
                self.reported.fetch_add(run.count, Ordering::Relaxed);
            }
            told?;
            if runs.is_empty() {
                return Ok(());
            }
        }
    }
}
