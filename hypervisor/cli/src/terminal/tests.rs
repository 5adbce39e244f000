//! Raw mode on a pseudo-terminal, left in each way a program can end.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::*;

/// One raw terminal at a time, as in a program.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pseudo-terminal: `_user` is the end where a user would sit.
struct Pty {
    _user: OwnedFd,
    terminal: OwnedFd,
}

impl Pty {
    fn open() -> Self {
        let (mut user, mut terminal) = (-1, -1);
        // SAFETY: both numbers have room; null asks for no name, settings or size.
        let result = unsafe {
            libc::openpty(
                &mut user,
                &mut terminal,
                ptr::null_mut(),
                ptr::null(),
                ptr::null(),
            )
        };
        assert_eq!(result, 0, "openpty: {}", io::Error::last_os_error());
        // SAFETY: openpty just made both, and nobody else knows them.
        unsafe {
            Self {
                _user: OwnedFd::from_raw_fd(user),
                terminal: OwnedFd::from_raw_fd(terminal),
            }
        }
    }

    fn fd(&self) -> RawFd {
        self.terminal.as_raw_fd()
    }

    fn enter(&self) -> RawTerminal {
        let entered = RawTerminal::enter_on(self.fd()).expect("raw mode");
        entered.expect("a pseudo-terminal is a terminal")
    }

    /// Input, output, control and local flags, and the special characters.
    fn settings(&self) -> ([libc::tcflag_t; 4], [libc::cc_t; libc::NCCS]) {
        let now = settings_of(self.fd()).expect("settings");
        (
            [now.c_iflag, now.c_oflag, now.c_cflag, now.c_lflag],
            now.c_cc,
        )
    }

    fn is_raw(&self) -> bool {
        self.settings().0[3] & (libc::ICANON | libc::ECHO | libc::ISIG) == 0
    }
}

/// Runs `child` in a forked process; its wait status.
fn in_child(child: impl FnOnce()) -> c_int {
    // SAFETY: the child uses what the closure brought and leaves by _exit or a signal; it takes no
    // lock that a thread of the parent may hold, but the allocator's, which fork hands over sound.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // Whoever runs the tests may ignore some: nohup does, and a shell for what it runs behind.
        for signal in FATAL {
            // SAFETY: SIG_DFL is a valid disposition, and runs no code of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        // A panic must not unwind into a second test harness.
        let passed = std::panic::catch_unwind(AssertUnwindSafe(child)).is_ok();
        // SAFETY: _exit runs no destructors, so nothing of the parent's is torn down twice.
        unsafe { libc::_exit(if passed { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: the status has room; the child is ours and nobody else waits for it.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    status
}

#[test]
fn raw_mode_takes_keys_unread_and_keeps_output_sane() {
    let _alone = alone();
    let pty = Pty::open();
    let terminal = pty.enter();
    assert!(pty.is_raw());
    let output = pty.settings().0[1];
    assert_eq!(
        output & (libc::OPOST | libc::ONLCR),
        libc::OPOST | libc::ONLCR
    );
    drop(terminal);
}

#[test]
fn drop_restores_and_allows_another() {
    let _alone = alone();
    let pty = Pty::open();
    let before = pty.settings();
    for _ in 0..2 {
        let terminal = pty.enter();
        assert_ne!(pty.settings(), before);
        drop(terminal);
        assert_eq!(pty.settings(), before);
    }
}

#[test]
fn a_second_one_at_once_is_refused() {
    let _alone = alone();
    let pty = Pty::open();
    let before = pty.settings();
    let first = pty.enter();
    let second = RawTerminal::enter_on(pty.fd()).err().map(|e| e.kind());
    assert_eq!(second, Some(io::ErrorKind::AlreadyExists));
    assert!(pty.is_raw());
    drop(first);
    assert_eq!(pty.settings(), before);
}

#[test]
fn a_panic_in_any_thread_restores() {
    let _alone = alone();
    let pty = Pty::open();
    let before = pty.settings();
    let terminal = pty.enter();
    assert!(pty.is_raw());
    let panicked = std::thread::spawn(|| panic!("on purpose")).join();
    assert!(panicked.is_err());
    assert_eq!(pty.settings(), before, "restored while it still lives");
    drop(terminal);
    assert_eq!(pty.settings(), before);
}

#[test]
fn a_fatal_signal_restores_and_still_kills() {
    let _alone = alone();
    let pty = Pty::open();
    let before = pty.settings();
    for signal in FATAL {
        let status = in_child(|| {
            let _terminal = pty.enter();
            assert!(pty.is_raw());
            // SAFETY: raise only sends; that it ends this process is the test.
            unsafe { libc::raise(signal) };
        });
        assert!(libc::WIFSIGNALED(status), "signal {signal}: {status:#x}");
        assert_eq!(libc::WTERMSIG(status), signal);
        assert_eq!(pty.settings(), before, "signal {signal}");
    }
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let _alone = alone();
    let pty = Pty::open();
    let before = pty.settings();
    let status = in_child(|| {
        // SAFETY: SIG_IGN is a valid disposition and runs no code.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
        let terminal = pty.enter();
        // SAFETY: raise only sends; the signal is ignored.
        unsafe { libc::raise(libc::SIGHUP) };
        assert!(pty.is_raw());
        drop(terminal);
    });
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
    assert_eq!(pty.settings(), before);
}

#[test]
fn what_is_no_terminal_is_left_alone() {
    let file = std::fs::File::open("/dev/null").expect("/dev/null");
    let entered = RawTerminal::enter_on(file.as_raw_fd()).expect("no error");
    assert!(entered.is_none());
}

#[test]
fn keys_reach_the_guest_save_those_of_the_user() {
    let fed = |inputs: &[&[u8]]| {
        let (mut filter, mut out) = (KeyFilter::default(), Vec::new());
        let keys = inputs.iter().map(|input| filter.feed(input, &mut out));
        let last = keys.last().expect("some input");
        (out, last)
    };
    assert_eq!(
        fed(&[b"ls\r\x1a\x1c"]),
        (b"ls\r\x1a\x1c".to_vec(), Key::Bytes)
    );
    assert_eq!(fed(&[b"ls\x03rm"]), (b"ls".to_vec(), Key::Quit));
    assert_eq!(fed(&[b"\x01c"]), (b"\x03".to_vec(), Key::Bytes));
    assert_eq!(fed(&[b"x\x01", b"C"]), (b"x\x03".to_vec(), Key::Bytes));
    assert_eq!(
        fed(&[b"\x01a\x01\x01b"]),
        (b"\x01\x01b".to_vec(), Key::Bytes)
    );
    assert_eq!(fed(&[b"\x01x"]), (b"\x01x".to_vec(), Key::Bytes));
    assert_eq!(fed(&[b"\x01\x03"]), (b"".to_vec(), Key::Quit));
    assert_eq!(fed(&[b"\x01"]), (b"".to_vec(), Key::Bytes));
}
