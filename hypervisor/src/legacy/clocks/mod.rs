//! The timer and the clock of a PC, and the thread that raises their lines in time.
//!
//! The models compute what they show; the thread sleeps until a line has to rise, and for good while none
//! has to. A guest may ask the timer for more interrupts than are good for the host: its line rises five
//! thousand times a second at most, and what is too much is left out. The clock's rises again only once the
//! guest has read why it did.

mod calendar;
mod pit;
mod rtc;

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::lines::Lines;
use super::thread::Thread;
pub use pit::Pit;
pub use rtc::Rtc;

/// Nanoseconds between two interrupts of the timer, at least: what KVM's own has (`min_timer_period_us`).
const LEAST: u64 = 200_000;

/// Pins, as in every PC.
pub const PIT_PIN: usize = 0;
pub const RTC_PIN: usize = 8;

/// Which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The interval timer.
    Pit,
    /// The time of day.
    Rtc,
}

/// Both devices.
///
/// Fields are in the order in which they must be dropped.
pub struct Clocks {
    /// Made when a line has to rise for the first time. It ends when it is told to.
    thread: Option<Thread>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Clocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        let mut debug = f.debug_struct("Clocks");
        debug
            .field("pit", &state.pit)
            .field("rtc", &state.rtc)
            .finish_non_exhaustive()
    }
}

struct Shared {
    state: Mutex<State>,
    /// Something changed that the thread may have to know.
    changed: Condvar,
    lines: Lines,
    start: Instant,
}

struct State {
    pit: Pit,
    rtc: Rtc,
    /// Up to when the timer's rises have been interrupts, or part of one.
    pit_done: u64,
    is_over: bool,
}

/// Now: since the start, and since 1970, in nanoseconds.
#[derive(Clone, Copy)]
struct Now {
    passed: u64,
    wall: u64,
}

impl Clocks {
    /// A timer that does not run, and a clock that shows the host's time.
    pub fn new(lines: Lines) -> Self {
        let start = Instant::now();
        let state = State {
            pit: Pit::default(),
            rtc: Rtc::new(Now::at(start).wall),
            pit_done: 0,
            is_over: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            lines,
            start,
        };
        Self {
            thread: None,
            shared: Arc::new(shared),
        }
    }

    /// Read a port.
    pub fn read(&mut self, clock: Clock, offset: u16) -> u8 {
        self.with(|state, now| match clock {
            Clock::Pit => state.pit.read(offset, now.passed),
            Clock::Rtc => state.rtc.read(offset, now.wall),
        })
    }

    /// Write a port.
    pub fn write(&mut self, clock: Clock, offset: u16, value: u8) {
        self.with(|state, now| match clock {
            Clock::Pit => state.pit.write(offset, value, now.passed),
            Clock::Rtc => state.rtc.write(offset, value, now.wall),
        });
    }

    /// Do something with the devices; their lines follow, and so does the thread.
    fn with<R>(&mut self, work: impl FnOnce(&mut State, Now) -> R) -> R {
        let mut state = self.shared.lock();
        let now = Now::at(self.shared.start);
        let result = work(&mut state, now);
        self.shared.settle(&mut state, now);
        let is_due = state.due(now).is_some();
        drop(state);
        if is_due && self.thread.is_none() {
            let shared = Arc::clone(&self.shared);
            // Without a thread no line rises by itself, as if the host were too slow for it.
            self.thread = Thread::start("clocks", move || shared.work()).ok();
        }
        self.shared.changed.notify_one();
        result
    }
}

impl Drop for Clocks {
    fn drop(&mut self) {
        // The thread is joined behind this.
        self.shared.lock().is_over = true;
        self.shared.changed.notify_one();
    }
}

impl Now {
    fn at(start: Instant) -> Self {
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let wall = SystemTime::UNIX_EPOCH.elapsed();
        Self {
            passed: ns(start.elapsed()),
            // A host before 1970 is in 1970.
            wall: ns(wall.unwrap_or_default()),
        }
    }
}

impl State {
    /// In how many nanoseconds a line has to rise, if one has to.
    fn due(&self, now: Now) -> Option<u64> {
        let pit = self.pit.next_rise(self.pit_done);
        let pit = pit.map(|at| at.max(self.pit_done + LEAST).saturating_sub(now.passed));
        let rtc = self.rtc.next_interrupt();
        let rtc = rtc.map(|at| at.saturating_sub(now.wall));
        pit.into_iter().chain(rtc).min()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked left clocks that can be set.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Have the lines be what they are by now.
    fn settle(&self, state: &mut State, now: Now) {
        let rise = state.pit.next_rise(state.pit_done);
        if rise.is_none_or(|at| at > now.passed) {
            self.lines.set(PIT_PIN, state.pit.output(now.passed));
        } else if now.passed >= state.pit_done + LEAST {
            // Whatever the output is by now, it was low before it rose.
            self.lines.set(PIT_PIN, false);
            self.lines.set(PIT_PIN, true);
            state.pit_done = now.passed;
        }
        state.rtc.look(now.wall);
        self.lines.set(RTC_PIN, state.rtc.interrupt());
    }

    /// The thread: have lines rise in time, until it is over.
    fn work(&self) {
        let mut state = self.lock();
        while !state.is_over {
            let now = Now::at(self.start);
            self.settle(&mut state, now);
            state = match state.due(now) {
                Some(wait) => {
                    let wait = Duration::from_nanos(wait.max(1));
                    let waited = self.changed.wait_timeout(state, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}
