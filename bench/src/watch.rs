//! Bounds the runs: one thread for all of them, which looks now and then.

use std::io;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hypervisor::{Stop, StopReason};

/// How often the thread looks. It does not have to be woken, so setting a limit costs no system
/// call in what is measured.
const PERIOD: Duration = Duration::from_millis(100);

/// What is ended when its time is over.
enum Watched {
    Run(Stop),
    Process(Arc<Mutex<Child>>),
}

#[derive(Default)]
struct Shared {
    watched: Mutex<Option<(Watched, Instant)>>,
    is_over: Mutex<bool>,
    ended: Condvar,
}

/// Bounds one run at a time.
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A bounded run; dropped, it has no bound any longer.
pub struct Bounded<'a>(&'a Shared);

impl Watch {
    /// Start the thread.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("bench-watch".into())
            .spawn(move || of_thread.look())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// End the run unless the result is dropped within `limit`.
    pub fn run(&self, stop: Stop, limit: Duration) -> Bounded<'_> {
        self.set(Watched::Run(stop), limit)
    }

    /// Kill the process unless the result is dropped within `limit`.
    pub fn process(&self, child: &Arc<Mutex<Child>>, limit: Duration) -> Bounded<'_> {
        self.set(Watched::Process(Arc::clone(child)), limit)
    }

    fn set(&self, watched: Watched, limit: Duration) -> Bounded<'_> {
        *lock(&self.shared.watched) = Some((watched, Instant::now() + limit));
        Bounded(&self.shared)
    }
}

impl Drop for Bounded<'_> {
    fn drop(&mut self) {
        *lock(&self.0.watched) = None;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *lock(&self.shared.is_over) = true;
        self.shared.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn look(&self) {
        let mut is_over = lock(&self.is_over);
        while !*is_over {
            is_over = match self.ended.wait_timeout(is_over, PERIOD) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
            let mut watched = lock(&self.watched);
            if watched
                .as_ref()
                .is_some_and(|(_, at)| Instant::now() >= *at)
            {
                let overdue = watched.take();
                // The run's own thread takes this lock when it ends.
                drop(watched);
                end(overdue);
            }
        }
    }
}

fn end(overdue: Option<(Watched, Instant)>) {
    match overdue {
        // A run that does not end now is held up by the host, and has its reason all the same.
        Some((Watched::Run(stop), _)) => {
            let _ = stop.stop(StopReason::Timeout);
        }
        // Refused only when it has ended already.
        Some((Watched::Process(child), _)) => {
            let _ = lock(&child).kill();
        }
        None => {}
    }
}

/// Nothing here is left half done by a panic.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn sleeper() -> Arc<Mutex<Child>> {
        let mut command = Command::new("sleep");
        let child = command.arg("30").stdout(Stdio::null()).spawn().unwrap();
        Arc::new(Mutex::new(child))
    }

    #[test]
    fn a_process_is_killed_when_its_time_is_over_and_not_before() {
        let watch = Watch::start().unwrap();
        let child = sleeper();
        drop(watch.process(&child, Duration::ZERO));
        thread::sleep(3 * PERIOD);
        assert!(lock(&child).try_wait().unwrap().is_none());
        let bounded = watch.process(&child, Duration::ZERO);
        thread::sleep(3 * PERIOD);
        drop(bounded);
        let status = lock(&child).wait().unwrap();
        assert!(!status.success());
    }
}
