//! Bounds a run: a guest that hangs is interrupted, by a timer that signals this thread alone.
//! No second thread, whose mere presence would make each `KVM_RUN` dearer.

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use super::error::FloorError;

/// Once the limit has passed, signals come this often: the first may hit outside of `KVM_RUN`.
const AGAIN: Duration = Duration::from_millis(10);

/// Interrupts the `KVM_RUN` of the thread that made it, from `limit` on until dropped.
pub struct Watchdog {
    timer: libc::timer_t,
    limit: Duration,
    started: Instant,
}

impl Watchdog {
    pub fn start(limit: Duration) -> Result<Self, FloorError> {
        let signal = SIGRTMIN() + 3;
        register_signal_handler(signal, ignore).map_err(|error| no_watchdog(error.into()))?;
        let timer = create(signal)?;
        let watchdog = Self {
            timer,
            limit,
            started: Instant::now(),
        };
        watchdog.arm()?;
        Ok(watchdog)
    }

    /// Whether an interrupted `KVM_RUN` was this watchdog's doing; the host sends signals too.
    pub fn has_fired(&self) -> bool {
        self.started.elapsed() >= self.limit
    }

    pub fn limit(&self) -> Duration {
        self.limit
    }

    fn arm(&self) -> Result<(), FloorError> {
        let when = libc::itimerspec {
            it_value: spec(self.limit),
            it_interval: spec(AGAIN),
        };
        // SAFETY: the timer is this watchdog's own and alive until drop; `when` outlives the call.
        let status = unsafe { libc::timer_settime(self.timer, 0, &when, std::ptr::null_mut()) };
        check(status)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // SAFETY: `start` created the timer, and nobody else deletes it.
        unsafe { libc::timer_delete(self.timer) };
    }
}

fn create(signal: c_int) -> Result<libc::timer_t, FloorError> {
    // SAFETY: sigevent is integers and pointers; all zero is a value of each.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = signal;
    // SAFETY: gettid has no preconditions.
    event.sigev_notify_thread_id = unsafe { libc::gettid() };
    let mut timer = MaybeUninit::uninit();
    // SAFETY: both pointers are to locals that outlive the call.
    check(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, timer.as_mut_ptr()) })?;
    // SAFETY: timer_create succeeded, and so wrote the timer.
    Ok(unsafe { timer.assume_init() })
}

/// The signal's whole purpose is that `KVM_RUN` returns EINTR.
extern "C" fn ignore(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}

fn spec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: duration.as_secs() as libc::time_t,
        tv_nsec: duration.subsec_nanos().into(),
    }
}

fn check(status: c_int) -> Result<(), FloorError> {
    match status {
        0 => Ok(()),
        _ => Err(no_watchdog(std::io::Error::last_os_error())),
    }
}

fn no_watchdog(source: std::io::Error) -> FloorError {
    FloorError::NoWatchdog { source }
}
