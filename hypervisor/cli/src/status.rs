//! The exit statuses, and the failures that lead to them.

use std::fmt::Display;

use hypervisor::{HostError, StopReason};

/// All went well.
pub const OK: u8 = 0;
/// `audit --forbid` found something, a case of `ci` failed, a count or ratio of `bench --check` moved,
/// or `doctor` met an unusable host.
pub const FOUND: u8 = 1;
/// The command line makes no sense; clap uses it too.
pub const USAGE: u8 = 2;
/// A thread of this program panicked: a bug.
pub const INTERNAL: u8 = 70;
/// The guest did not end in the time that `--timeout` gave it.
pub const TIMEOUT: u8 = 124;
/// The host cannot do it.
pub const HOST: u8 = 125;
/// The guest cannot go on.
pub const GUEST: u8 = 126;
/// A signal ended it; its number is added.
pub const SIGNAL: u8 = 128;

/// The statuses for people, at the end of `--help`.
pub const HELP: &str = "\
Exit status:
  run gives the guest's own status: what `poweroff` said; 101 after a panic of the guest's kernel,
  102 after an exception in it, 103 to 105 when it could not start. Otherwise:
    0    done
    1    `audit --forbid` found something, a case of `ci` failed, `bench --check` saw something move,
         or `doctor` met an unusable host
    2    the command line, a scenario file of `ci` or a baseline of `bench` makes no sense
    70   a bug in paravane itself
    124  the guest did not end within --timeout
    125  the host cannot do it: no KVM, a bad image, a full disk, a closed output
    126  the guest cannot go on: a triple fault, an access to nothing; its report is on stderr
    129, 130, 143  ended by SIGHUP, by Ctrl-C or SIGINT, by SIGTERM";

/// Why a command did not do what it should: a sentence, and the exit status.
#[derive(Debug)]
pub struct Failure {
    /// The sentence, for stderr.
    pub message: String,
    /// The exit status.
    pub status: u8,
}

impl Failure {
    /// The host cannot do it.
    pub fn host(why: impl Display) -> Self {
        Self {
            message: why.to_string(),
            status: HOST,
        }
    }

    /// The command line asks for something that makes no sense.
    pub fn usage(why: impl Display) -> Self {
        Self {
            message: why.to_string(),
            status: USAGE,
        }
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        match error {
            HostError::MemorySize { .. }
            | HostError::CommandLine { .. }
            | HostError::Devices { .. } => Self::usage(error),
            error => Self::host(error),
        }
    }
}

/// The exit status of a run that was ended from outside.
pub fn stopped(reason: StopReason) -> u8 {
    match reason {
        StopReason::Timeout => TIMEOUT,
        StopReason::Signal(signal) => SIGNAL.saturating_add(u8::try_from(signal).unwrap_or(0)),
    }
}

/// Why a run was ended from outside, as a clause.
pub fn stop_sentence(reason: StopReason) -> String {
    match reason {
        StopReason::Timeout => "the guest did not end within --timeout".to_owned(),
        StopReason::Signal(libc::SIGHUP) => "ended by SIGHUP".to_owned(),
        StopReason::Signal(libc::SIGINT) => "ended by Ctrl-C".to_owned(),
        StopReason::Signal(libc::SIGTERM) => "ended by SIGTERM".to_owned(),
        StopReason::Signal(signal) => format!("ended by signal {signal}"),
    }
}
