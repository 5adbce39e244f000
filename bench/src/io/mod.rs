//! What input and output cost: the guest kernel's requests to its devices, in each mode, and the same
//! requests of a loop on the host. All data is checked: each block is full of a word of its own.
//!
//! This file and those beside it measure disks, `net` networks,
//! `rate` the console and random numbers, `idle` what they cost unused. `plan` says which cases there are, `guest` and `host` run one each, `report` holds what was found,
//! `goals` what it should be, `render` shows it. Cases take turns, round by round, so that a ratio
//! compares what one host did in one run.

mod goals;
mod guest;
mod host;
mod idle;
mod image;
mod net;
mod plan;
mod rate;
mod render;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use crate::error::BenchError;
use crate::host::HostInfo;
use crate::progress::Progress;
use crate::watch::Watch;

pub use goals::goals;
pub use idle::Idle;
pub use net::NetRow;
pub use rate::{RateRow, What};
pub use render::render;
pub use report::{Found, IoReport, IoRow, SCHEMA};

use image::Images;
use plan::{Case, Medium, Who};
use report::Sample;

/// What to measure, and how long.
#[derive(Clone, Debug)]
pub struct IoOptions {
    /// Fewer cases and repetitions.
    pub quick: bool,
    /// The smallest run that still passes through everything, for tests of the benchmark itself.
    pub smoke: bool,
    /// A directory on a disk, for the files that are read and written past the page cache.
    pub directory: PathBuf,
    /// The `paravane` program, for what is measured of whole processes; without it that is left out.
    pub paravane: Option<PathBuf>,
}

/// How much is done.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// How often the cases take their turn.
    rounds: usize,
    /// How long a case's run should take, in nanoseconds.
    target_ns: f64,
    /// The size of a disk, in bytes.
    disk: u64,
    /// How long an idle guest is watched.
    idle: Duration,
}

impl Effort {
    /// Whether the first turn only shows how much fits the time.
    fn has_sizing(&self) -> bool {
        self.rounds > 0
    }
}

impl IoOptions {
    fn effort(&self) -> Effort {
        match (self.smoke, self.quick) {
            (true, _) => Effort {
                rounds: 1,
                target_ns: 1e6,
                disk: 8 << 20,
                idle: Duration::from_millis(500),
            },
            (_, true) => Effort {
                rounds: 3,
                target_ns: 2e8,
                disk: 128 << 20,
                idle: Duration::from_secs(2),
            },
            _ => Effort {
                rounds: 7,
                target_ns: 5e8,
                disk: 256 << 20,
                idle: Duration::from_secs(10),
            },
        }
    }
}

/// Requests of a case's first run, which shows how many fit the time.
const FIRST: u64 = 64;

/// Measure.
///
/// # Errors
/// [`BenchError`]: no KVM, no room for the files, a guest that did not do what it was told, data that
/// was wrong.
pub fn run(options: &IoOptions, progress: &mut dyn Progress) -> Result<IoReport, BenchError> {
    let effort = options.effort();
    let watch = Watch::start().map_err(BenchError::Thread)?;
    let mut images = Images::new(&options.directory, effort.disk)?;
    let cases: Vec<Case> = plan::cases(options, &images);
    let mut samples: Vec<Vec<Sample>> = cases.iter().map(|_| Vec::new()).collect();
    let steps = (effort.rounds + 1) * cases.len();
    let mut step = 0;
    // The first turn shows how many requests fit the time, and warms up.
    let mut counts = vec![FIRST; cases.len()];
    for round in 0..=effort.rounds {
        for ((case, count), samples) in cases.iter().zip(&mut counts).zip(&mut samples) {
            progress.step(step, steps, &case.title());
            step += 1;
            let sample = measure(case, *count, &mut images, &watch)?;
            if round == 0 {
                *count = case.fitting(effort.target_ns / sample.ns_per_op(), effort.disk);
            } else {
                samples.push(sample);
            }
        }
    }
    let rows = cases.iter().zip(&samples);
    let rows: Vec<IoRow> = rows
        .filter_map(|(case, samples)| IoRow::of(case, samples))
        .collect();
    // The smallest run has seen enough with the first turn's counts.
    let effort = Effort {
        rounds: if options.smoke { 0 } else { effort.rounds },
        ..effort
    };
    let net = net::run(options, effort, &watch, progress)?;
    let rates = rate::run(effort, &watch, progress)?;
    let disk = images.path(Medium::Memory);
    let idle = options.paravane.as_deref();
    let idle = idle.map(|program| idle::measure(program, disk, effort.idle, &watch));
    let idle = idle.transpose()?;
    Ok(IoReport {
        schema: SCHEMA,
        host: HostInfo::detect()?,
        quick: options.quick,
        goals: goals(&rows, &net, idle.as_ref()),
        rows,
        net,
        rates,
        idle,
    })
}

/// One run of a case, with its data checked.
fn measure(
    case: &Case,
    count: u64,
    images: &mut Images,
    watch: &Watch,
) -> Result<Sample, BenchError> {
    let seed = images.prepare(case)?;
    let path = images.path(case.medium);
    let sample = match case.who {
        Who::Guest(ref guest) => guest::run(case, guest, path, count, seed, watch)?,
        Who::Host => host::run(case, path, count, seed)?,
    };
    images.check(case, count, seed)?;
    Ok(sample)
}
