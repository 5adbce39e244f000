//! What can go wrong with the rig itself: each a sentence that names the thing, and the mend.
//! A test that fails is none of these.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use thiserror::Error;

/// Why the rig did not do what it was asked for.
#[derive(Debug, Error)]
pub enum RigError {
    /// A program is missing, and this user may not install its package.
    #[error(
        "the rig needs {programs}, and installing packages needs root.\nRun: apt-get install -y {packages}"
    )]
    NeedsRoot {
        /// The programs that are missing.
        programs: String,
        /// Debian's packages that have them.
        packages: String,
    },
    /// Debian's package manager did not install a package.
    #[error(
        "installing {packages} failed: {how}{tail}\nIs the network there, and are the sources of apt right? Then run: apt-get update && apt-get install -y {packages}"
    )]
    Install {
        /// The packages.
        packages: String,
        /// Which program failed, and how.
        how: String,
        /// The last lines it wrote, each on a line of its own, or nothing.
        tail: String,
    },
    /// The package of the rig's kernel did not come.
    #[error(
        "fetching the rig's kernel, package {package}, failed: {how}{tail}\nIs the network there, and are the sources of apt right? Run: apt-get update && apt-get download {package}\nOr name a kernel with --kernel FILE and --modules DIR."
    )]
    KernelDownload {
        /// The package.
        package: String,
        /// Which program failed, and how.
        how: String,
        /// The last lines it wrote, each on a line of its own, or nothing.
        tail: String,
    },
    /// The package of the kernel came, and cannot be used.
    #[error("the kernel package {package} cannot be used: {why}\nRemove {cache} and try again.", cache = cache.display())]
    KernelPackage {
        /// The package.
        package: String,
        /// What is wrong with it.
        why: String,
        /// Where it was unpacked.
        cache: PathBuf,
    },
    /// There is no place for the kernel.
    #[error("there is no folder for the rig's kernel: set HOME or XDG_CACHE_HOME")]
    NoCache,
    /// A folder of modules has no list of what depends on what.
    #[error("{dir} has no modules.dep: make it with depmod, or name another folder with --modules", dir = dir.display())]
    NoModulesDep {
        /// The folder.
        dir: PathBuf,
    },
    /// The kernel has no such module.
    #[error("the rig's kernel has no module {name}; {dir} has those it has", dir = dir.display())]
    NoModule {
        /// The module.
        name: String,
        /// The folder of modules.
        dir: PathBuf,
    },
    /// The program to run does not exist.
    #[error("there is no program {name}: give its path, or build it first")]
    NoProgram {
        /// What was asked for.
        name: String,
    },
    /// A library that a program needs is missing on this machine.
    #[error("{program} needs {library}, which this machine does not have", program = program.display())]
    NoLibrary {
        /// The program.
        program: PathBuf,
        /// The library.
        library: String,
    },
    /// Something to carry that is neither file, folder nor link.
    #[error("the rig carries files, folders and links; {path} is none", path = path.display())]
    CannotCarry {
        /// The path.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("cannot {what} {path}: {error}", path = path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A program of this machine could not be run, or failed.
    #[error("{program} {how}{tail}")]
    Program {
        /// The program, with its first words.
        program: String,
        /// How it failed.
        how: String,
        /// The last lines it wrote, each on a line of its own, or nothing.
        tail: String,
    },
    /// The test binaries were not built.
    #[error("building the tests failed; cargo says why above")]
    Build,
    /// No test is left to run.
    #[error("no test was chosen: {why}")]
    NoTests {
        /// What chose none.
        why: String,
    },
    /// QEMU ended, or nothing came in time, before the rig was up.
    #[error("the rig did not boot: {why}{tail}")]
    Boot {
        /// What happened instead.
        why: String,
        /// The console's last lines, each on a line of its own, or nothing.
        tail: String,
    },
    /// The rig was up, and then was silent.
    #[error("the rig is hung: it said nothing for {seconds} s{tail}")]
    Hung {
        /// For how long.
        seconds: u64,
        /// The console's last lines, each on a line of its own, or nothing.
        tail: String,
    },
    /// The rig was up, and ended before its work.
    #[error("the rig ended before its work was done{tail}")]
    Died {
        /// The console's last lines, each on a line of its own, or nothing.
        tail: String,
    },
    /// A report from the rig cannot be read.
    #[error("the rig reported what cannot be read ({error}): {line}")]
    Garbled {
        /// The line, cut.
        line: String,
        /// What is wrong with it.
        error: String,
    },
    /// The agent inside could not prepare the rig.
    #[error("inside the rig: {0}")]
    Agent(String),
    /// A planted bug cannot be planted.
    #[error("the planted bug {patch} is of no use: {why}", patch = patch.display())]
    Patch {
        /// Its file.
        patch: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl RigError {
    /// The exit status that stands for it: 124 for a rig that hung, 125 for all else.
    pub fn status(&self) -> u8 {
        match self {
            Self::Hung { .. } => OUT_OF_TIME,
            _ => RIG_FAILED,
        }
    }

    /// Whether a rig was lost that was at work.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Hung { .. } | Self::Died { .. })
    }

    /// What failed with a file.
    pub fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { what, path, error }
    }
}

/// The exit status when a program, or the rig, did not end in time.
pub const OUT_OF_TIME: u8 = 124;
/// The exit status when the rig itself failed.
pub const RIG_FAILED: u8 = 125;

/// The last lines of a text, each indented on a line of its own; nothing for no text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    all.iter()
        .skip(all.len().saturating_sub(lines))
        .map(|line| format!("\n  | {}", line.trim_end()))
        .collect()
}

/// How a program ended, in words.
pub fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}
