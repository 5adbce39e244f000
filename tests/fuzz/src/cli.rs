//! The command line: what to do, and the exit status of it. Called by `main` alone.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use crate::campaign::{self, Options, Ran};
use crate::random;
use crate::supervise::{self, End};
use crate::target::{Entry, TARGETS};

/// How much address space a target's process may have: an allocation that a file or a guest asked for
/// fails before it hurts the host.
const MEMORY: u64 = 8 << 30;

/// Drive virtio devices by hand, wrong in every way, and open damaged disk images
///
/// Each case is made from the seed and its number, so a failure is told with the command that runs it
/// again. A case plays a driver that is legal, bent in places or wild, with a second thread that
/// writes to descriptors and buffers meanwhile. Afterwards the device must stop at a reset, serve a
/// known request, and have written to nothing but what it was given; no file descriptor, thread or
/// memory may be left over. Nothing needs KVM.
///
/// Exit status: 0 when nothing was found, 1 when a case failed (with its replay), 2 when the fuzzer
/// could not run.
#[derive(Debug, Parser)]
#[command(
    name = "fuzz",
    version,
    after_help = "Examples:\n  \
        fuzz --list                                 what there is\n  \
        fuzz all --seconds 60                       a minute of each target\n  \
        fuzz blk --seconds 600 --seed 7             ten minutes, other cases\n  \
        fuzz blk --seed 7 --case 4711               that case again\n  \
        fuzz blk --seed 7 --case 4711 --repeat 1000 often, as some failures depend on the moment\n  \
        fuzz blk --seed 7 --case 4711 --show        what it does, in words"
)]
struct Cli {
    /// What to fuzz: names of targets, or `all`
    #[arg(value_name = "TARGET", required_unless_present = "list")]
    targets: Vec<String>,
    /// Name the targets
    #[arg(long)]
    list: bool,
    /// How long each target runs, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The number from which all cases are made
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End after so many cases, if the time is not over before
    #[arg(long)]
    cases: Option<u64>,
    /// Run this case alone
    #[arg(long, conflicts_with = "cases")]
    case: Option<u64>,
    /// Run each case so often
    #[arg(long, default_value_t = 1)]
    repeat: u64,
    /// How long a case may take, in seconds
    #[arg(long, default_value_t = 10)]
    limit: u64,
    /// Print a case instead of running it
    #[arg(long, requires = "case")]
    show: bool,
    /// Where images are made [default: /dev/shm, or the directory for temporary files]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print how often each outcome was reached
    #[arg(long, short)]
    verbose: bool,
    /// Run in this process, for a debugger
    #[arg(long)]
    alone: bool,
    #[arg(long, hide = true)]
    journal: Option<PathBuf>,
}

/// Parse the command line and do what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.list {
        for entry in TARGETS {
            println!("{:<12}{}", entry.name, entry.about);
        }
        return ExitCode::SUCCESS;
    }
    match cli.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("fuzz: {why}");
            ExitCode::from(2)
        }
    }
}

impl Cli {
    /// Run what was asked for; returns whether nothing was found.
    fn run(&self) -> Result<bool, String> {
        let options = Options {
            seed: self.seed,
            time: Duration::from_secs(self.seconds),
            cases: self.cases,
            only: self.case,
            repeat: self.repeat.max(1),
            limit: Duration::from_secs(self.limit),
            folder: self.folder(),
            journal: self.journal.clone(),
        };
        let mut is_well = true;
        for entry in self.entries()? {
            is_well &= match (self.show, self.alone) {
                (true, _) => show(entry, &options)?,
                (_, true) => self.alone(entry, &options)?,
                _ => self.supervised(entry, &options)?,
            };
        }
        Ok(is_well)
    }

    fn entries(&self) -> Result<Vec<&'static Entry>, String> {
        if self.targets.iter().any(|name| name == "all") {
            return Ok(TARGETS.iter().collect());
        }
        let each = |name: &String| {
            Entry::of(name).ok_or_else(|| format!("there is no target {name}; see fuzz --list"))
        };
        self.targets.iter().map(each).collect()
    }

    /// Files in memory by default: a disk's own pace is not what is looked at.
    fn folder(&self) -> PathBuf {
        let memory = PathBuf::from("/dev/shm");
        match &self.dir {
            Some(folder) => folder.clone(),
            None if memory.is_dir() => memory,
            None => std::env::temp_dir(),
        }
    }

    fn supervised(&self, entry: &Entry, options: &Options) -> Result<bool, String> {
        let end = supervise::run(entry.name, options, self.verbose);
        match end.map_err(|error| format!("the host refuses a process: {error}"))? {
            End::Passed => Ok(true),
            End::Failed { case, what } => {
                let (name, seed) = (entry.name, options.seed);
                eprintln!("fuzz: {name}: case {case} failed: {what}");
                eprintln!(
                    "fuzz: again: cargo run --release -p fuzz -- {name} --seed {seed} --case {case}"
                );
                Ok(false)
            }
        }
    }

    /// The process that [`supervise`] starts, and a debugger.
    fn alone(&self, entry: &Entry, options: &Options) -> Result<bool, String> {
        confine(self.journal.is_some()).map_err(|error| format!("cannot set limits: {error}"))?;
        let start = Instant::now();
        let Ran { tally, failure } = campaign::run(entry, options);
        if let Some((case, what)) = &failure {
            eprintln!("fuzz: {}: case {case}: {what}", entry.name);
        }
        println!(
            "{}, seed {}",
            tally.line(entry.name, &entry.wanted(), start.elapsed()),
            options.seed
        );
        if self.verbose {
            for (outcome, count) in tally.outcomes() {
                println!("  {count:>10}  {outcome}");
            }
        }
        Ok(failure.is_none())
    }
}

fn show(entry: &Entry, options: &Options) -> Result<bool, String> {
    let target = (entry.make)(&options.folder);
    let mut target = target.map_err(|error| format!("the host refuses what is needed: {error}"))?;
    let case = options.only.unwrap_or(0);
    println!(
        "{}",
        target.show(random::of_case(entry.name, options.seed, case))
    );
    Ok(true)
}

/// Limits of a target's process: memory, no core files, and an end when the supervisor has ended. A
/// panic of any thread ends it.
fn confine(is_supervised: bool) -> rustix::io::Result<()> {
    let limit = |bytes| Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    setrlimit(Resource::As, limit(MEMORY))?;
    setrlimit(Resource::Core, limit(0))?;
    if is_supervised {
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tell(info);
        std::process::abort();
    }));
    Ok(())
}
