//! Puts the host's terminal in raw mode for the guest's console, and gives it back however the
//! program ends: on drop, on a panic in any thread, and on a signal that kills.
//!
//! Output keeps its processing, so a bare line feed from the guest still starts at the left edge.
//! Keys go to the guest unread, save those of [`KEYS_HELP`]; Ctrl-Z and Ctrl-\ are the guest's too.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{c_int, termios};

/// The keys that the guest does not see, in one line for the user.
pub const KEYS_HELP: &str =
    "Ctrl-C ends the VM; Ctrl-A C sends Ctrl-C to the guest, Ctrl-A A Ctrl-A";

const CTRL_A: u8 = 0x01;
const CTRL_C: u8 = 0x03;

/// The signals whose default is to kill, and that a user or the C library really sends.
const FATAL: [c_int; 5] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGABRT,
];

/// A terminal and its settings from before raw mode.
struct Saved {
    fd: RawFd,
    settings: termios,
}

/// What [`restore_now`] restores; null outside raw mode. It points to a leaked `Saved`, never
/// freed or changed, so a signal handler may read it at any moment.
static SAVED: AtomicPtr<Saved> = AtomicPtr::new(ptr::null_mut());

/// The host's terminal in raw mode; dropping it gives the terminal back as it was.
#[must_use = "dropping it leaves raw mode"]
pub struct RawTerminal {
    /// What this one published in `SAVED`.
    saved: *mut Saved,
    /// The signals that got our handler: each had its default before.
    handled: Vec<c_int>,
}

impl RawTerminal {
    /// Puts standard input in raw mode; `None` when it is not a terminal.
    ///
    /// # Errors
    /// The error of the system call that failed; `AlreadyExists` while another one lives.
    pub fn enter() -> io::Result<Option<Self>> {
        Self::enter_on(libc::STDIN_FILENO)
    }

    fn enter_on(fd: RawFd) -> io::Result<Option<Self>> {
        // SAFETY: isatty only asks the kernel about the number; a closed one answers 0.
        if unsafe { libc::isatty(fd) } == 0 {
            return Ok(None);
        }
        let settings = settings_of(fd)?;
        let saved = publish(Saved { fd, settings })?;
        restore_on_panic();
        // From here on a failure drops `terminal`, which undoes what was done.
        let terminal = Self {
            saved,
            handled: restore_on_fatal_signals(),
        };
        // SAFETY: `raw` gives a whole termios to read; the call keeps no pointer.
        check(unsafe { libc::tcsetattr(fd, libc::TCSANOW, &raw(settings)) })?;
        Ok(Some(terminal))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore_now();
        // Only after restoring: a fatal signal in between restores a second time, which is harmless.
        let _ = SAVED.compare_exchange(
            self.saved,
            ptr::null_mut(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        for signal in &self.handled {
            // SAFETY: SIG_DFL is what the signal had before `enter`, and needs no code of ours.
            unsafe { libc::signal(*signal, libc::SIG_DFL) };
        }
    }
}

/// Gives the terminal back at once, if it is in raw mode. Async-signal-safe, and harmless twice.
pub fn restore_now() {
    let saved = SAVED.load(Ordering::Acquire);
    // SAFETY: `publish` stored either null or a leaked box, which nothing frees or writes to.
    let Some(saved) = (unsafe { saved.as_ref() }) else {
        return;
    };
    // SIGTTOU would stop us here if the shell had put us in the background meanwhile.
    let mut only_ttou = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes `only_ttou` before the others read it, and pthread_sigmask
    // initializes `before`; all of them and tcsetattr are async-signal-safe (POSIX), and fail, if
    // at all, on a terminal that is gone, where nothing is left to restore.
    unsafe {
        libc::sigemptyset(only_ttou.as_mut_ptr());
        libc::sigaddset(only_ttou.as_mut_ptr(), libc::SIGTTOU);
        libc::pthread_sigmask(libc::SIG_BLOCK, only_ttou.as_ptr(), before.as_mut_ptr());
        libc::tcsetattr(saved.fd, libc::TCSANOW, &saved.settings);
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
    }
}

/// What the keys say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The guest gets what was put out, which may be nothing yet.
    Bytes,
    /// The user ends the VM; what was put out came before that.
    Quit,
}

/// Takes the user's own keys out of a raw terminal's input. Only for terminals: in a file or pipe
/// a 0x03 is data.
#[derive(Debug, Default)]
pub struct KeyFilter {
    /// Ctrl-A came last.
    is_prefixed: bool,
}

impl KeyFilter {
    /// Appends to `out` what of `input` is the guest's; stops at the key that ends the VM.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Key {
        for &byte in input {
            let was_prefixed = std::mem::take(&mut self.is_prefixed);
            match byte {
                CTRL_C => return Key::Quit,
                b'c' | b'C' if was_prefixed => out.push(CTRL_C),
                b'a' | b'A' if was_prefixed => out.push(CTRL_A),
                CTRL_A if was_prefixed => out.push(CTRL_A),
                CTRL_A => self.is_prefixed = true,
                // Nothing typed is lost: an unknown pair goes through whole.
                other if was_prefixed => out.extend([CTRL_A, other]),
                other => out.push(other),
            }
        }
        Key::Bytes
    }
}

fn settings_of(fd: RawFd) -> io::Result<termios> {
    let mut settings = MaybeUninit::uninit();
    // SAFETY: there is room for a termios; the call keeps no pointer.
    check(unsafe { libc::tcgetattr(fd, settings.as_mut_ptr()) })?;
    // SAFETY: tcgetattr succeeded, so it wrote all of it.
    Ok(unsafe { settings.assume_init() })
}

/// Raw input, but output as programs expect it: a line feed also returns the carriage.
fn raw(mut settings: termios) -> termios {
    // SAFETY: cfmakeraw only changes the fields of the termios that it is lent.
    unsafe { libc::cfmakeraw(&mut settings) };
    settings.c_oflag |= libc::OPOST | libc::ONLCR;
    settings.c_cc[libc::VMIN] = 1;
    settings.c_cc[libc::VTIME] = 0;
    settings
}

fn publish(saved: Saved) -> io::Result<*mut Saved> {
    let saved = Box::into_raw(Box::new(saved));
    match SAVED.compare_exchange(ptr::null_mut(), saved, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Ok(saved),
        Err(_) => {
            // SAFETY: the box was made above and never published, so it is still ours alone.
            drop(unsafe { Box::from_raw(saved) });
            Err(io::Error::from(io::ErrorKind::AlreadyExists))
        }
    }
}

/// So that the panic's message is printed on a sane terminal. Installed once for good.
fn restore_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore_now();
            previous(info);
        }));
    });
}

/// Gives our handler to each fatal signal that still has its default: what is ignored (`nohup`)
/// stays ignored, and what someone else handles stays theirs. Tells which got it.
fn restore_on_fatal_signals() -> Vec<c_int> {
    FATAL
        .into_iter()
        .filter(|&signal| has_default(signal) && set_handler(signal))
        .collect()
}

fn has_default(signal: c_int) -> bool {
    let mut current = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null new action only reads; on success the old one is written whole.
    unsafe {
        libc::sigaction(signal, ptr::null(), current.as_mut_ptr()) == 0
            && current.assume_init().sa_sigaction == libc::SIG_DFL
    }
}

fn set_handler(signal: c_int) -> bool {
    let handler: extern "C" fn(c_int) = restore_and_die;
    // SAFETY: all-zero is a valid sigaction: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // The handler runs once, with the default back in place for its own raise.
    action.sa_flags = libc::SA_RESETHAND;
    // SAFETY: `restore_and_die` has the signature of a handler without SA_SIGINFO and makes only
    // async-signal-safe calls.
    unsafe { libc::sigaction(signal, &action, ptr::null_mut()) == 0 }
}

extern "C" fn restore_and_die(signal: c_int) {
    restore_now();
    // SAFETY: raise is async-signal-safe. The signal is blocked until we return; then its default,
    // which SA_RESETHAND put back, ends the process with the status that the sender expects.
    unsafe { libc::raise(signal) };
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
