//! What the network costs: the guest's client over a tap, in each mode, and the same client as a thread of this
//! process on the same tap. The other end is the host's kernel: its TCP, its answers to pings.
//!
//! All of it happens in a network namespace of its own (network_namespaces(7)), which goes away with its thread.
//! Where none can be had, rows over a tap say why they were not measured. The user-mode network needs no
//! privilege, so its row is measured in any case.
//!
//! `plan` says which cases there are, `guest` and `client` run one each, `server` is the other end, `device` the
//! tap for `client`, `namespace` where it all is, `report` and `render` what was found. All data is checked:
//! streams by a hash at both ends, round trips and packets one by one.

mod client;
mod device;
mod guest;
#[allow(unsafe_code)]
mod namespace;
mod plan;
mod render;
mod report;
mod server;

use std::panic::resume_unwind;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::{Effort, IoOptions};
use crate::error::BenchError;
use crate::progress::Progress;
use crate::watch::Watch;

pub use render::render;
pub use report::NetRow;

pub(super) use plan::{NE2000, NetWork, Over, VIRTIO};

use plan::{Case, Who};
use report::{Measured, NetSample};

/// What a case has found so far.
type Found = Result<Vec<NetSample>, String>;
/// A step of the work, how many there are, and what it is.
type Step = (usize, usize, String);

/// Measure; a row a case.
///
/// # Errors
/// [`BenchError`]: a guest that did not do what it was told, data that was wrong.
pub(super) fn run(
    options: &IoOptions,
    effort: Effort,
    watch: &Watch,
    progress: &mut dyn Progress,
) -> Result<Vec<NetRow>, BenchError> {
    let cases = plan::cases(options);
    thread::scope(|scope| {
        let (tell, told) = channel();
        let work = thread::Builder::new().name("bench-net".into());
        let work = work.spawn_scoped(scope, || all(&cases, effort, watch, tell));
        let work = work.map_err(BenchError::Thread)?;
        for (step, steps, title) in told {
            progress.step(step, steps, &title);
        }
        let found = work.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        let rows = cases.iter().zip(found);
        Ok(rows.map(|(case, found)| NetRow::of(case, found)).collect())
    })
}

/// Measure all cases in turn, round by round, in a namespace of this thread's.
fn all(
    cases: &[Case],
    effort: Effort,
    watch: &Watch,
    tell: Sender<Step>,
) -> Result<Vec<Found>, BenchError> {
    let tap = namespace::enter();
    let mut found: Vec<Found> = cases
        .iter()
        .map(|case| match (case.over, &tap) {
            (Over::Tap, Err(why)) => Err(why.clone()),
            _ => Ok(Vec::new()),
        })
        .collect();
    let steps = (effort.rounds + 1) * cases.len();
    let mut step = 0;
    // The first turn shows how much fits the time, and warms up.
    let mut counts: Vec<u64> = cases.iter().map(|case| case.work.first()).collect();
    for round in 0..=effort.rounds {
        for ((case, count), found) in cases.iter().zip(&mut counts).zip(&mut found) {
            // Nobody listens any more if the other thread has ended, and then nothing matters.
            let _ = tell.send((step, steps, case.title()));
            step += 1;
            let Ok(samples) = found else { continue };
            match measure(case, *count, watch)? {
                Measured::Sample(sample) if round == 0 && effort.has_sizing() => {
                    *count = case.work.fitting(effort.target_ns / sample.ns_per_op());
                }
                Measured::Sample(sample) => samples.push(sample),
                Measured::Not(why) => *found = Err(why),
            }
        }
    }
    Ok(found)
}

/// One run of a case, with its data checked.
fn measure(case: &Case, count: u64, watch: &Watch) -> Result<Measured, BenchError> {
    let server = server::Server::start(case.work, case.over, count)
        .map_err(|source| BenchError::net(case, source))?;
    let ran = match &case.who {
        Who::Guest(guest) => guest::run(case, guest, server.port(), count, watch),
        Who::Host => client::run(case, server.port(), count),
    };
    // What the guest says is wrong explains more than what that was to the server.
    let ran = ran.inspect_err(|_| server.give_up())?;
    let hash = server.finish();
    let hash = hash.map_err(|source| BenchError::net(case, source))?;
    match hash == ran.hash {
        true => Ok(ran.measured),
        false => Err(BenchError::Differs { case: case.title() }),
    }
}

impl BenchError {
    fn net(case: &Case, source: std::io::Error) -> Self {
        Self::Net {
            case: case.title(),
            source,
        }
    }
}
