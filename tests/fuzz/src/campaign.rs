//! Case after case of one target, in this process. Called by [`crate::cli`] in the process that
//! [`crate::supervise`] started. Ends at the first failure.

use std::fs::File;
use std::io::{IsTerminal, stderr};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::host::Held;
use crate::random;
use crate::tally::Tally;
use crate::target::Entry;

/// After how many cases the process's own resources are looked at. The first look is after so many, too,
/// when whatever is made once has been made.
const LOOK: u64 = 64;
/// How often progress is said on a terminal.
const PROGRESS: Duration = Duration::from_secs(2);

/// How long, and from where.
#[derive(Clone, Debug)]
pub struct Options {
    /// From which all is made.
    pub seed: u64,
    /// For how long.
    pub time: Duration,
    /// How many cases at most.
    pub cases: Option<u64>,
    /// This case alone.
    pub only: Option<u64>,
    /// How often each case is run: what depends on the moment shows at some time.
    pub repeat: u64,
    /// How long a case may take: who supervises looks at it.
    pub limit: Duration,
    /// A folder for files.
    pub folder: PathBuf,
    /// Where the number of each case is written before it runs.
    pub journal: Option<PathBuf>,
}

/// What cases came to.
#[derive(Debug)]
pub struct Ran {
    /// What was counted.
    pub tally: Tally,
    /// The first case that failed, and what was wrong.
    pub failure: Option<(u64, String)>,
}

/// Run cases until the time is over or one fails.
#[must_use]
pub fn run(entry: &Entry, options: &Options) -> Ran {
    let mut tally = Tally::default();
    let mut case = options.only.unwrap_or(0);
    let result = cases(entry, options, &mut tally, &mut case);
    let failure = result.err().map(|what| (case, what));
    Ran { tally, failure }
}

fn cases(
    entry: &Entry,
    options: &Options,
    tally: &mut Tally,
    case: &mut u64,
) -> Result<(), String> {
    let host = |what: &'static str| move |error| format!("the host refuses {what}: {error}");
    let mut target = (entry.make)(&options.folder).map_err(host("what the target needs"))?;
    let journal = options
        .journal
        .as_ref()
        .map(|path| File::options().write(true).open(path));
    let journal = journal.transpose().map_err(host("the journal"))?;
    let (start, mut said, mut held) = (Instant::now(), Instant::now(), None);
    loop {
        for _ in 0..options.repeat {
            if let Some(journal) = &journal {
                let mut entry = case.to_le_bytes().to_vec();
                entry.extend(tally.cases.to_le_bytes());
                journal
                    .write_all_at(&entry, 0)
                    .map_err(host("the journal"))?;
            }
            let rng = random::of_case(entry.name, options.seed, *case);
            target.case(rng, tally)?;
            tally.cases += 1;
            if tally.cases.is_multiple_of(LOOK) {
                look(&mut held)?;
            }
            if said.elapsed() > PROGRESS && stderr().is_terminal() {
                said = Instant::now();
                eprint!(
                    "\r{}: {} cases, {:.0} s",
                    entry.name,
                    tally.cases,
                    start.elapsed().as_secs_f64()
                );
            }
        }
        let is_last = options.only.is_some()
            || options.cases.is_some_and(|cases| *case + 1 >= cases)
            || start.elapsed() >= options.time;
        if is_last {
            return Ok(());
        }
        *case += 1;
    }
}

/// Compare what the process has with what it had.
fn look(held: &mut Option<Held>) -> Result<(), String> {
    match held {
        Some(held) => held.check(),
        None => {
            let now = Held::now().map_err(|error| format!("cannot read /proc/self: {error}"))?;
            *held = Some(now);
            Ok(())
        }
    }
}
