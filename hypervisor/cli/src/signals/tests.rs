//! Each test runs in a forked process: a signal to the whole of this one would reach the test
//! harness's own threads, which do not block it.

use std::sync::mpsc;
use std::time::Duration;

use super::*;

/// Runs `child` in a forked process with this thread alone; its wait status.
fn in_child(child: impl FnOnce() -> bool) -> c_int {
    // SAFETY: the child uses what the closure brought and leaves by _exit or a signal; it takes no
    // lock that a thread of the parent may hold, but the allocator's, which fork hands over sound.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // Whoever runs the tests may ignore some: nohup does, and a shell for what it runs behind.
        for signal in WATCHED {
            // SAFETY: SIG_DFL is a valid disposition, and runs no code of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        // A panic must not unwind into a second test harness.
        let passed = std::panic::catch_unwind(AssertUnwindSafe(child));
        let status = if passed.unwrap_or(false) { 0 } else { 1 };
        // SAFETY: _exit runs no destructors, so nothing of the parent's is torn down twice.
        unsafe { libc::_exit(status) };
    }
    let mut status = 0;
    // SAFETY: the status has room; the child is ours and nobody else waits for it.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    status
}

fn exited_with(status: c_int) -> Option<c_int> {
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}

fn send(signal: c_int) {
    // SAFETY: kill only sends, to this process.
    unsafe { libc::kill(libc::getpid(), signal) };
}

fn is_blocked(signal: c_int) -> bool {
    // SAFETY: a null set only reads the mask, which has room and is then initialized.
    unsafe {
        let mut mask = MaybeUninit::uninit();
        libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr());
        libc::sigismember(mask.as_ptr(), signal) == 1
    }
}

#[test]
fn each_signal_calls_the_closure() {
    let status = in_child(|| {
        let (seen, told) = mpsc::channel();
        let Ok(_guard) = install(move |signal| seen.send(signal).unwrap_or(())) else {
            return false;
        };
        WATCHED.into_iter().all(|signal| {
            send(signal);
            told.recv_timeout(Duration::from_secs(10)) == Ok(signal)
        })
    });
    assert_eq!(exited_with(status), Some(0));
}

#[test]
fn dropping_the_guard_gives_the_default_back() {
    let status = in_child(|| {
        let Ok(guard) = install(|_| {}) else {
            return false;
        };
        drop(guard);
        send(libc::SIGTERM);
        false
    });
    assert!(libc::WIFSIGNALED(status), "{status:#x}");
    assert_eq!(libc::WTERMSIG(status), libc::SIGTERM);
}

#[test]
fn only_the_watched_signals_are_blocked() {
    let status = in_child(|| {
        let Ok(_guard) = install(|_| {}) else {
            return false;
        };
        WATCHED.into_iter().all(is_blocked)
            && !is_blocked(libc::SIGRTMIN())
            && !is_blocked(libc::SIGQUIT)
    });
    assert_eq!(exited_with(status), Some(0));
}

#[test]
fn an_ignored_hangup_stays_ignored() {
    let status = in_child(|| {
        // SAFETY: SIG_IGN is a valid disposition and runs no code.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
        let (seen, told) = mpsc::channel();
        let Ok(_guard) = install(move |signal| seen.send(signal).unwrap_or(())) else {
            return false;
        };
        send(libc::SIGHUP);
        send(libc::SIGTERM);
        told.recv_timeout(Duration::from_secs(10)) == Ok(libc::SIGTERM)
    });
    assert_eq!(exited_with(status), Some(0));
}

#[test]
fn a_closed_pipe_is_an_error() {
    let status = in_child(|| {
        // SAFETY: SIG_DFL is a valid disposition; Rust's runtime had set another.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let (Ok(_guard), Ok((reader, mut writer))) = (install(|_| {}), io::pipe()) else {
            return false;
        };
        drop(reader);
        let written = io::Write::write(&mut writer, b"x");
        written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    });
    assert_eq!(exited_with(status), Some(0));
}

#[test]
fn a_closure_that_panics_ends_the_process() {
    let status = in_child(|| {
        let Ok(_guard) = install(|_| std::panic::resume_unwind(Box::new("on purpose"))) else {
            return false;
        };
        send(libc::SIGTERM);
        thread::sleep(Duration::from_secs(10));
        false
    });
    assert_eq!(exited_with(status), Some(128 + libc::SIGTERM));
}
