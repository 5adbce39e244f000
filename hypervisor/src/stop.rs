//! Ends a run from another thread.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

/// How long [`Stop::stop`] waits for the guest's thread.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How often it kicks that thread meanwhile.
const KICK_EVERY: Duration = Duration::from_millis(5);

/// Why a run was ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The time that was given to it is over.
    Timeout,
    /// A signal of this number, or Ctrl-C (2), asked for it.
    Signal(i32),
}

#[derive(Debug, Default)]
struct Shared {
    /// 0: go on; 1: timeout; 2 and on: 2 + signal.
    reason: AtomicU32,
    /// The thread in the guest, while it is there.
    thread: Mutex<Option<libc::pthread_t>>,
    changed: Condvar,
}

/// A handle that ends a run; clones end the same run.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Shared>);

extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

fn kick_signal() -> libc::c_int {
    SIGRTMIN()
}

/// The kick interrupts KVM_RUN; its handler does nothing.
fn install_kick() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only for a signal number out of range, which SIGRTMIN is not.
        let _ = register_signal_handler(kick_signal(), nothing);
    });
}

impl Stop {
    /// End the run, now or as soon as it starts. The first reason stands.
    ///
    /// Returns true once the run has ended (or has not begun), and false when it has not within
    /// `PATIENCE`: then something holds the thread up on the host, such as a full pipe behind the
    /// guest's console. From the thread that runs the guest, only the reason is set.
    pub fn stop(&self, reason: StopReason) -> bool {
        let code = match reason {
            StopReason::Timeout => 1,
            StopReason::Signal(signal) => 2 + signal.unsigned_abs(),
        };
        let _ = self
            .0
            .reason
            .compare_exchange(0, code, Ordering::SeqCst, Ordering::SeqCst);
        let deadline = Instant::now() + PATIENCE;
        // A kick that arrives just before KVM_RUN is lost, hence again until the thread has left.
        let mut thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(id) = *thread {
            if is_this_thread(id) || Instant::now() > deadline {
                return false;
            }
            kick(id);
            thread = match self.0.changed.wait_timeout(thread, KICK_EVERY) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }

    /// The reason to stop, once there is one.
    pub fn reason(&self) -> Option<StopReason> {
        match self.0.reason.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(StopReason::Timeout),
            code => Some(StopReason::Signal(code as i32 - 2)),
        }
    }

    /// Mark this thread as the one in the guest, until the result is dropped.
    pub(crate) fn running(&self) -> Running<'_> {
        install_kick();
        // SAFETY: has no preconditions.
        let id = unsafe { libc::pthread_self() };
        *self.0.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
        Running(self)
    }
}

fn is_this_thread(id: libc::pthread_t) -> bool {
    // SAFETY: neither call has preconditions on ids of live threads, which `id` is (see `kick`).
    unsafe { libc::pthread_equal(id, libc::pthread_self()) != 0 }
}

fn kick(id: libc::pthread_t) {
    // SAFETY: the caller holds the lock under which `Running` clears the id before the thread
    // leaves `Vm::run`, so the thread is alive; its handler does nothing.
    unsafe { libc::pthread_kill(id, kick_signal()) };
}

/// See [`Stop::running`].
pub(crate) struct Running<'a>(&'a Stop);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self
            .0
            .0
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
        self.0.0.changed.notify_all();
    }
}
