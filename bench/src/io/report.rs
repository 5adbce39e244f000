//! What was found.

use serde::Serialize;

use super::idle::Idle;
use super::net::NetRow;
use super::plan::{Case, Medium, VIRTIO, Who, Work};
use super::rate::RateRow;
use crate::goals::Goal;
use crate::host::HostInfo;
use crate::stats::Spread;

/// The version of [`IoReport`] as it is serialized; it rises when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// One run of a case.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Requests.
    pub count: u64,
    /// How long they took in all.
    pub ns: f64,
    /// Exits of the vCPU to the VMM's process meanwhile.
    pub exits: u64,
    /// Interrupts that the guest took meanwhile.
    pub interrupts: u64,
    /// Doorbells of the whole run.
    pub doorbells: u64,
    /// Bytes of payload that the VMM copied in the whole run.
    pub copied: u64,
    /// Time on a processor of the vCPU's thread (or the host's loop) and of the device's thread in the
    /// whole run.
    pub cpu_ns: [u64; 2],
}

impl Sample {
    pub fn ns_per_op(&self) -> f64 {
        (self.ns / self.count.max(1) as f64).max(1.0)
    }
}

/// This thread's time on a processor, in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// A run of `paravane bench io`.
#[derive(Clone, Debug, Serialize)]
pub struct IoReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Where it ran.
    pub host: HostInfo,
    /// Whether it was a quick one.
    pub quick: bool,
    /// What was to be reached.
    pub goals: Vec<Goal>,
    /// A row a case of disks.
    pub rows: Vec<IoRow>,
    /// A row a case of networks.
    pub net: Vec<NetRow>,
    /// A row a case of the console and of random numbers.
    pub rates: Vec<RateRow>,
    /// What an idle guest with all devices costs, where the program is known.
    pub idle: Option<Idle>,
}

/// A case, and what was found.
#[derive(Clone, Debug, Serialize)]
pub struct IoRow {
    /// What was moved.
    pub work: Work,
    /// Where the data is.
    pub medium: Medium,
    /// The mode, or `host`.
    pub mode: &'static str,
    /// The device, and what is unusual about it; `loop` on the host.
    pub device: &'static str,
    /// The figures.
    pub found: Found,
}

/// Figures of a case. All of it was checked: no block was wrong.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Found {
    /// Nanoseconds a request.
    pub ns: Spread,
    /// Requests of a sample.
    pub count: u64,
    /// Exits of the vCPU to the VMM's process, a request.
    pub exits: f64,
    /// Doorbells, a request.
    pub doorbells: f64,
    /// Interrupts, a request.
    pub interrupts: f64,
    /// Bytes of payload that the VMM copied, a request.
    pub copied: f64,
    /// How busy the vCPU's thread (or the host's loop) was, in percent of a processor.
    pub cpu_percent: f64,
    /// How busy the device's thread was.
    pub device_cpu_percent: f64,
}

impl IoRow {
    /// A row; `None` without samples.
    pub(super) fn of(case: &Case, samples: &[Sample]) -> Option<Self> {
        let (mode, device) = match case.who {
            Who::Guest(guest) => (guest.mode.name(), guest.device),
            Who::Host => ("host", "loop"),
        };
        Some(Self {
            work: case.work,
            medium: case.medium,
            mode,
            device,
            found: Found::of(samples)?,
        })
    }

    /// Whether it is this work on this medium, by a device as it is by default.
    pub(super) fn is(&self, work: Work, medium: Medium, mode: &str) -> bool {
        let is_usual = matches!(self.device, VIRTIO | "loop");
        is_usual && (self.work, self.medium, self.mode) == (work, medium, mode)
    }

    /// Requests in a second, by the median.
    pub fn per_second(&self) -> f64 {
        1e9 / self.found.ns.median.max(1.0)
    }
}

impl Found {
    pub(super) fn of(samples: &[Sample]) -> Option<Self> {
        let ns: Vec<f64> = samples.iter().map(Sample::ns_per_op).collect();
        let sum = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>();
        let requests = sum(|sample| sample.count as f64).max(1.0);
        let all_ns = sum(|sample| sample.ns).max(1.0);
        Some(Self {
            ns: Spread::of(&ns)?,
            count: samples.first()?.count,
            exits: sum(|sample| sample.exits as f64) / requests,
            doorbells: sum(|sample| sample.doorbells as f64) / requests,
            interrupts: sum(|sample| sample.interrupts as f64) / requests,
            copied: sum(|sample| sample.copied as f64) / requests,
            cpu_percent: sum(|sample| sample.cpu_ns[0] as f64) / all_ns * 100.0,
            device_cpu_percent: sum(|sample| sample.cpu_ns[1] as f64) / all_ns * 100.0,
        })
    }
}
