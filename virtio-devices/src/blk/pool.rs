//! The engine of threads: commands side by side, each of which waits in system calls. For hosts
//! without io_uring, and for images that are more than a file. Threads sleep while there is nothing
//! to do; dropping the engine ends them, once all that was submitted has ended.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::backend::{Command, Engine, Finished};
use super::runner::Runner;
use crate::chain::Buffer;

/// How many threads an engine has: commands beyond wait their turn.
pub(super) const THREADS: usize = 4;

/// A command that no thread has yet.
struct Waiting {
    slot: usize,
    command: Command,
    buffers: Vec<Buffer>,
}

/// What threads and engine share.
#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    finished: VecDeque<Finished>,
    is_over: bool,
    is_cancelled: bool,
}

struct Shared {
    state: Mutex<State>,
    /// Something waits, or it is over.
    work: Condvar,
    /// Something has finished.
    done: Condvar,
    event: EventFd,
}

impl Shared {
    /// A poisoned lock holds a whole value all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next command; none when it is over.
    fn next(&self) -> Option<Waiting> {
        let mut state = self.lock();
        loop {
            if let Some(waiting) = state.waiting.pop_front() {
                return Some(waiting);
            }
            if state.is_over {
                return None;
            }
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self, slot: usize, result: io::Result<()>) {
        self.lock().finished.push_back(Finished { slot, result });
        self.done.notify_one();
        // Full only while it is readable anyway.
        let _ = self.event.write(1);
    }

    /// A thread: ends when it is over and nothing waits.
    fn work(&self, mut runner: Box<dyn Runner>) {
        while let Some(Waiting {
            slot,
            command,
            buffers,
        }) = self.next()
        {
            let result = match self.lock().is_cancelled {
                true => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
                false => Ok(()),
            };
            let result = result.and_then(|()| runner.run(command, &buffers));
            self.finish(slot, result);
        }
    }
}

/// See the module.
pub(super) struct PoolEngine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Given, and not submitted yet.
    batch: Vec<Waiting>,
    in_flight: usize,
}

impl PoolEngine {
    /// An engine with a thread for each of these.
    pub fn new(runners: Vec<Box<dyn Runner>>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            event: EventFd::new(EFD_NONBLOCK)?,
        });
        let mut engine = PoolEngine {
            shared,
            threads: Vec::new(),
            batch: Vec::new(),
            in_flight: 0,
        };
        for runner in runners {
            let shared = Arc::clone(&engine.shared);
            let work = move || {
                // The panic's message is out; a command that never ends would hang the guest.
                if catch_unwind(AssertUnwindSafe(|| shared.work(runner))).is_err() {
                    std::process::abort();
                }
            };
            let thread = std::thread::Builder::new().name("disk".into());
            engine.threads.push(thread.spawn(work)?);
        }
        Ok(engine)
    }
}

impl Engine for PoolEngine {
    fn fd(&self) -> Option<RawFd> {
        Some(self.shared.event.as_raw_fd())
    }

    fn start(&mut self, slot: usize, command: Command, buffers: &[Buffer]) {
        self.batch.push(Waiting {
            slot,
            command,
            buffers: buffers.to_vec(),
        });
        self.in_flight += 1;
    }

    fn submit(&mut self) -> io::Result<()> {
        let count = self.batch.len();
        if count > 0 {
            self.shared.lock().waiting.extend(self.batch.drain(..));
            match count {
                1 => self.shared.work.notify_one(),
                _ => self.shared.work.notify_all(),
            }
        }
        Ok(())
    }

    fn finished(&mut self) -> io::Result<Option<Finished>> {
        let mut finished = self.shared.lock().finished.pop_front();
        if finished.is_none() {
            // What comes after this makes it readable again.
            let _ = self.shared.event.read();
            finished = self.shared.lock().finished.pop_front();
        }
        self.in_flight -= usize::from(finished.is_some());
        Ok(finished)
    }

    fn wait(&mut self) -> io::Result<()> {
        self.submit()?;
        let mut state = self.shared.lock();
        while state.finished.is_empty() && self.in_flight > 0 {
            state = self
                .shared
                .done
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    fn cancel(&mut self) {
        self.shared.lock().is_cancelled = true;
    }
}

impl Drop for PoolEngine {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_over = true;
        drop(state);
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A panic of the thread has ended the process.
            let _ = thread.join();
        }
    }
}
