//! Turns SIGINT, SIGTERM and SIGHUP into calls on a thread of their own, where all is allowed that
//! a signal handler forbids. A closed standard output becomes an error instead of a death.
//!
//! The vCPUs' kick signal (SIGRTMIN) is not touched: it stays as its owner left it.

use std::io::{self, PipeReader, PipeWriter};
use std::marker::PhantomData;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::ptr;
use std::thread::{self, JoinHandle};

use libc::{c_int, signalfd_siginfo, sigset_t};

const WATCHED: [c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// Keeps the signals coming; dropping it gives them their defaults back in this thread.
///
/// It cannot be sent to another thread, as the signal mask it restores is this one's.
#[must_use = "dropping it stops the watch"]
pub struct SignalGuard {
    /// Closing it ends the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
    mask_before: sigset_t,
    this_thread_only: PhantomData<*const ()>,
}

/// Calls `on_signal` with the number of each SIGINT, SIGTERM and SIGHUP from now on, on a thread
/// of its own. Ignores SIGPIPE, so that writing to a closed pipe is an `EPIPE` error.
///
/// Call it first in `main`: the signals are blocked in this thread and in those that it starts
/// later; an older thread would still be killed by them. A signal that is ignored already
/// (`nohup`) stays ignored. `on_signal` should only start the end, not wait for it; if it panics,
/// the process exits with 128 plus the signal's number, as the shell would show.
///
/// # Errors
/// The error of the system call that failed; no signal is blocked then.
pub fn install(on_signal: impl Fn(i32) + Send + 'static) -> io::Result<SignalGuard> {
    // SAFETY: SIG_IGN is a valid disposition of SIGPIPE and runs no code.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let watched = set_of(WATCHED.into_iter().filter(|&signal| !is_ignored(signal)));
    let arrivals = signal_fd(&watched)?;
    let (stop_reader, stop) = io::pipe()?;
    let mut guard = SignalGuard {
        stop: Some(stop),
        thread: None,
        mask_before: block(&watched)?,
        this_thread_only: PhantomData,
    };
    // Should the start fail, dropping the guard unblocks the signals.
    guard.thread = Some(
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || watch(&arrivals, &stop_reader, &on_signal))?,
    );
    Ok(guard)
}

impl Drop for SignalGuard {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It ends by itself; a panic of the closure ended the process already.
            let _ = thread.join();
        }
        // SAFETY: the mask is the one that pthread_sigmask gave for this very thread, as the guard
        // is not Send.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.mask_before, ptr::null_mut()) };
    }
}

fn watch(arrivals: &OwnedFd, stop: &PipeReader, on_signal: &dyn Fn(i32)) {
    while let Some(signal) = next_signal(arrivals, stop) {
        // With the signals blocked and nobody reading them, only SIGKILL would be left.
        if std::panic::catch_unwind(AssertUnwindSafe(|| on_signal(signal))).is_err() {
            std::process::exit(128 + signal);
        }
    }
}

/// Waits for a signal; `None` when the guard is gone.
fn next_signal(arrivals: &OwnedFd, stop: &PipeReader) -> Option<i32> {
    let wait_for = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    loop {
        let mut polled = [wait_for(arrivals.as_raw_fd()), wait_for(stop.as_raw_fd())];
        // SAFETY: the array has the two entries that are announced and outlives the call.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), 2, -1) };
        if ready <= 0 {
            // Interrupted, or the kernel is out of memory for the moment.
            continue;
        }
        if polled[1].revents != 0 {
            return None;
        }
        if let Some(signal) = read_signal(arrivals) {
            return Some(signal);
        }
    }
}

fn read_signal(arrivals: &OwnedFd) -> Option<i32> {
    let mut info = MaybeUninit::<signalfd_siginfo>::uninit();
    let size = mem::size_of::<signalfd_siginfo>();
    // SAFETY: `info` has room for `size` bytes and outlives the call.
    let got = unsafe { libc::read(arrivals.as_raw_fd(), info.as_mut_ptr().cast(), size) };
    if usize::try_from(got) != Ok(size) {
        return None;
    }
    // SAFETY: the read filled all `size` bytes, and any bytes are a valid signalfd_siginfo.
    i32::try_from(unsafe { info.assume_init() }.ssi_signo).ok()
}

fn signal_fd(signals: &sigset_t) -> io::Result<OwnedFd> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: -1 asks for a new descriptor; the set is initialized by `set_of`.
    let fd = unsafe { libc::signalfd(-1, signals, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: signalfd just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Blocks them in this thread; the mask from before.
fn block(signals: &sigset_t) -> io::Result<sigset_t> {
    let mut before = MaybeUninit::uninit();
    // SAFETY: the set is initialized by `set_of`, and there is room for the old mask.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, signals, before.as_mut_ptr()) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    // SAFETY: pthread_sigmask succeeded, so it wrote the old mask.
    Ok(unsafe { before.assume_init() })
}

fn set_of(signals: impl Iterator<Item = c_int>) -> sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: there is room for a set, and sigemptyset initializes all of it.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for signal in signals {
        // SAFETY: the set is initialized; sigaddset refuses numbers that are no signal.
        unsafe { libc::sigaddset(&mut set, signal) };
    }
    set
}

fn is_ignored(signal: c_int) -> bool {
    let mut current = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null new action only reads; on success the old one is written whole.
    unsafe {
        libc::sigaction(signal, ptr::null(), current.as_mut_ptr()) == 0
            && current.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(test)]
mod tests;
