//! Why the benchmark could not be run, and what mends it.

use std::io;
use std::path::PathBuf;

use hypervisor::HostError;

use crate::floor::FloorError;

/// The benchmark could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The yardstick could not be measured.
    #[error("the floor: {}", chain(.0))]
    Floor(#[from] FloorError),
    /// A virtual machine could not be built or run.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The guest kernel did not do what it was told.
    #[error("the guest in mode {mode} ended with {end}, instead of {wanted}\n{evidence}")]
    Guest {
        /// The mode, by name.
        mode: &'static str,
        /// How it ended.
        end: String,
        /// What it should have done.
        wanted: &'static str,
        /// What it wrote, and the report of its fault.
        evidence: String,
    },
    /// A line of the guest's benchmark makes no sense.
    #[error(
        "the guest's line {line:?}: {reason}; its kernel and this program are of different versions"
    )]
    Line {
        /// The line.
        line: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Signals made the guest leave in each try, so that its exits could not be counted.
    #[error(
        "signals interrupted the guest in mode {mode} in each of {tries} tries, and its exits cannot be \
         counted; run it without a profiler or debugger"
    )]
    Interrupted {
        /// The mode, by name.
        mode: &'static str,
        /// How often it was tried.
        tries: usize,
    },
    /// A file for the disks cannot be made, written or read.
    #[error("{}: {source}; name a directory with room by --dir", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the host answered.
        source: io::Error,
    },
    /// Data is not what was written.
    #[error("{case}: {blocks} blocks are wrong")]
    Wrong {
        /// The case.
        case: String,
        /// How many blocks of 4 KiB.
        blocks: u64,
    },
    /// The host's side of a network failed, or what came back was wrong.
    #[error("{case}: {source}")]
    Net {
        /// The case.
        case: String,
        /// What the host answered.
        source: io::Error,
    },
    /// What came is not what was sent.
    #[error("{case}: the two ends have different hashes of what was moved")]
    Differs {
        /// The case.
        case: String,
    },
    /// There is no such row.
    #[error("no row is called {name}; the rows are {}", crate::row_names().join(", "))]
    NoRow {
        /// The name that was asked for.
        name: String,
    },
    /// A program to measure could not be started.
    #[error("cannot start {}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the host answered.
        source: io::Error,
    },
    /// A program to measure did not do what it was told.
    #[error("`{command}` {what}\n{evidence}")]
    Program {
        /// The command.
        command: String,
        /// What it did.
        what: String,
        /// What it wrote to its error output.
        evidence: String,
    },
    /// What the host says of a process could not be understood.
    #[error("{path}: {reason}; the kernel must be built with what it needs to show it")]
    Proc {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// What boots learn cannot be kept for the next ones.
    #[error(
        "cannot keep what a boot learned in a temporary directory: {0}; name another in TMPDIR"
    )]
    Cache(io::Error),
    /// The thread that bounds the runs could not be started.
    #[error("cannot start a thread: {0}; raise the limit of threads")]
    Thread(io::Error),
}

/// An error and its sources in one sentence.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
