//! A terminal with the program in it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::ptr;

/// The terminal, and the program that has it.
pub struct Pty {
    /// What a person sees and types.
    pub screen: File,
    terminal: OwnedFd,
    /// The program.
    pub child: Child,
    before: Vec<u64>,
}

impl Pty {
    /// Start the program in a terminal of its own.
    pub fn start(args: &[&str]) -> Self {
        let (screen, terminal) = open();
        let before = settings(&terminal);
        let mut command = Command::new(env!("CARGO_BIN_EXE_paravane"));
        let stdio = || Stdio::from(terminal.try_clone().expect("a descriptor"));
        for name in ["HOME", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        command
            .args(args)
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio());
        // SAFETY: setsid and ioctl are async-signal-safe, and descriptor 0 is the terminal by then.
        unsafe { command.pre_exec(take_terminal) };
        let child = command.spawn().expect("paravane starts");
        Self {
            screen: File::from(screen),
            terminal,
            child,
            before,
        }
    }

    /// Type keys.
    pub fn keys(&mut self, keys: &[u8]) {
        self.screen
            .write_all(keys)
            .expect("the terminal takes keys");
    }

    /// Read until this text is on the screen.
    #[track_caller]
    pub fn see(&mut self, text: &str) -> String {
        super::read_until(&mut self.screen, text)
    }

    /// What is left on the screen, without waiting for more.
    pub fn rest(&mut self) -> String {
        // SAFETY: the descriptor is open, and the flag changes nothing but how reads wait.
        unsafe { libc::fcntl(self.screen.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        let mut bytes = Vec::new();
        let _ = self.screen.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Take the terminal away, as a closed window does.
    pub fn hang_up(&mut self) {
        let nothing = File::open("/dev/null").expect("/dev/null");
        self.screen = nothing;
    }

    /// Whether the terminal is as it was before the program started.
    pub fn is_restored(&self) -> bool {
        settings(&self.terminal) == self.before
    }

    /// Wait for the end.
    #[track_caller]
    pub fn status(&mut self) -> Option<i32> {
        super::wait(&mut self.child, super::LIMIT).code()
    }
}

fn open() -> (OwnedFd, OwnedFd) {
    let (mut screen, mut terminal) = (-1, -1);
    // SAFETY: both numbers have room; no name, settings or size are asked for or given.
    let result = unsafe {
        libc::openpty(
            &mut screen,
            &mut terminal,
            ptr::null_mut(),
            ptr::null(),
            ptr::null(),
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    // A child that inherited the screen would keep the terminal from hanging up.
    // SAFETY: openpty just made both descriptors, and nobody else knows them.
    unsafe {
        libc::fcntl(screen, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(terminal, libc::F_SETFD, libc::FD_CLOEXEC);
        (OwnedFd::from_raw_fd(screen), OwnedFd::from_raw_fd(terminal))
    }
}

fn take_terminal() -> io::Result<()> {
    super::default_signals()?;
    // SAFETY: neither call takes a pointer.
    if unsafe { libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 } {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn settings(terminal: &OwnedFd) -> Vec<u64> {
    // SAFETY: all-zero is a valid termios.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: there is room for a termios; the call keeps no pointer.
    let result = unsafe { libc::tcgetattr(terminal.as_raw_fd(), &mut settings) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    let flags = [
        settings.c_iflag,
        settings.c_oflag,
        settings.c_cflag,
        settings.c_lflag,
    ];
    let keys = settings.c_cc.map(u64::from);
    flags.into_iter().map(u64::from).chain(keys).collect()
}
