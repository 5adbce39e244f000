//! The command line: what to do, and the exit status of it. Called by `main` alone.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::agent;
use crate::error::RIG_FAILED;
use crate::program::{self, RunOptions};
use crate::prove::{self, ProveOptions};
use crate::suite::{self, TestOptions};

/// Run programs and tests where /dev/kvm is AMD's SVM, emulated by QEMU
///
/// It tells what KVM on hardware does, on a host that has no such hardware. It says nothing of speed.
/// What it needs of Debian's packages it installs itself (as root), or says what to install.
#[derive(Debug, Parser)]
#[command(name = "rig", version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run one program in the rig, with its output and its exit status
    ///
    /// Exit status: the program's; 124 when it or the rig was out of time, 125 when the rig failed.
    #[command(after_help = "Examples:\n  \
        rig run -- target/debug/paravane doctor\n  \
        rig run --disk 64 -- /bin/busybox mke2fs /dev/vda\n  \
        rig run --module tun --carry /etc/hosts -- /bin/busybox ls -l /dev/net/tun")]
    Run(RunOptions),
    /// Run the tests that depend on the hardware, or the whole suite, in the rig
    ///
    /// Exit status: 0 when all passed, 1 when a test failed, 124 when the rig hung, 125 when it
    /// failed itself.
    #[command(after_help = "Examples:\n  \
        rig test\n  \
        rig test --test storm -- two_vectors\n  \
        rig test --all --junit junit.xml --log logs")]
    Test(TestOptions),
    /// Plant known bugs that only hardware shows, and check that the rig's tests catch each
    ///
    /// Exit status: 0 when each was caught, 1 when one was not, 125 when the rig failed itself.
    Prove(ProveOptions),
    /// The side inside the rig
    #[command(hide = true)]
    Agent,
}

/// Parse the command line and do what it says.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Verb::Run(options) => program::run(&options),
        Verb::Test(options) => suite::run(&options),
        Verb::Prove(options) => prove::run(&options),
        Verb::Agent => return inside(),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("rig: {error}");
            ExitCode::from(error.status())
        }
    }
}

fn inside() -> ExitCode {
    match agent::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("rig: {why}");
            ExitCode::from(RIG_FAILED)
        }
    }
}
