//! A process a target: one that panics, is killed by a signal, runs out of memory or hangs has a case
//! to tell of all the same. Called by [`crate::cli`].

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::campaign::Options;
use crate::patience::Patience;

/// How often the journal is read.
const PAUSE: Duration = Duration::from_millis(50);

/// How a target's process ended.
#[derive(Debug)]
pub enum End {
    /// All was well.
    Passed,
    /// Not so; the case's number, and what it came to.
    Failed {
        /// The case.
        case: u64,
        /// What, as a sentence fragment.
        what: String,
    },
}

/// Run a target in a process of its own.
///
/// # Errors
/// The host refuses a process or a file.
pub fn run(target: &str, options: &Options, is_verbose: bool) -> io::Result<End> {
    let journal = tempfile::NamedTempFile::new_in(&options.folder)?;
    let mut arguments: Vec<OsString> = vec![
        target.into(),
        "--alone".into(),
        "--seed".into(),
        options.seed.to_string().into(),
        "--seconds".into(),
        options.time.as_secs().to_string().into(),
        "--repeat".into(),
        options.repeat.to_string().into(),
        "--dir".into(),
        options.folder.clone().into(),
        "--journal".into(),
        journal.path().into(),
    ];
    for (name, value) in [("--cases", options.cases), ("--case", options.only)] {
        if let Some(value) = value {
            arguments.extend([name.into(), value.to_string().into()]);
        }
    }
    if is_verbose {
        arguments.push("--verbose".into());
    }
    let program = std::env::current_exe()?;
    let mut child = Command::new(program)
        .args(arguments)
        // glibc else keeps what was as large as the largest piece ever freed, which looks like a leak.
        .env("MALLOC_MMAP_THRESHOLD_", "1048576")
        .stdin(Stdio::null())
        .spawn()?;
    let end = watch(&mut child, journal.as_file(), options.limit);
    if end.is_err() {
        // It is ours, and nobody waits for it any more.
        let _ = child.kill();
    }
    let _ = child.wait();
    end
}

/// Wait until it ends, or hangs.
fn watch(child: &mut Child, journal: &File, limit: Duration) -> io::Result<End> {
    let (mut last, mut since) = (Journal::default(), Patience::new());
    loop {
        if let Some(status) = child.try_wait()? {
            let case = Journal::read(journal)?.case;
            return Ok(match why(status) {
                None => End::Passed,
                Some(what) => End::Failed { case, what },
            });
        }
        let now = Journal::read(journal)?;
        if now != last || is_stopped(child.id()) {
            (last, since) = (now, Patience::new());
        }
        if since.waited() > limit {
            let what = format!(
                "a case of more than {} s\n{}",
                limit.as_secs(),
                threads(child.id())
            );
            child.kill()?;
            return Ok(End::Failed {
                case: last.case,
                what,
            });
        }
        std::thread::sleep(PAUSE);
    }
}

/// What a process that ended so has met; none if all was well.
fn why(status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(1), _) => Some("a check failed, see above".into()),
        (Some(code), _) => Some(format!("the process ended with status {code}, see above")),
        (None, signal) => Some(format!("signal {} ended the process", signal.unwrap_or(0))),
    }
}

/// The case that runs, and how many ran before: with `--repeat` the number alone stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Journal {
    case: u64,
    before: u64,
}

impl Journal {
    fn read(file: &File) -> io::Result<Journal> {
        let mut bytes = [0; 16];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            result => result?,
        }
        let word = |at: usize| {
            let bytes = bytes
                .get(at..at + 8)
                .and_then(|bytes| bytes.try_into().ok());
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        Ok(Journal {
            case: word(0),
            before: word(8),
        })
    }
}

/// Whether somebody has stopped a process (SIGSTOP): then it does not hang.
fn is_stopped(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    state(&stat).is_some_and(|state| state == 'T')
}

/// The state in a line of /proc/PID/stat: behind the name, which may have parentheses itself.
fn state(stat: &str) -> Option<char> {
    stat.rsplit(')').next()?.trim().chars().next()
}

/// Where the threads of a process are, as far as the kernel tells.
fn threads(process: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    let lines = tasks.into_iter().flatten().flatten().map(|task| {
        let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        format!(
            "  thread {}: {}, in {}\n",
            read("comm").trim(),
            state(&read("stat")).unwrap_or('?'),
            read("wchan"),
        )
    });
    lines.collect()
}
