//! The header of a report: which host, platform and build its figures come from.

use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::thread;

use hypervisor::doctor::Host;
use serde::Serialize;

use crate::error::BenchError;
use crate::floor::{self, Platform};

/// Where figures come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HostInfo {
    /// What drives KVM, in words.
    pub kvm: String,
    /// Which kind it is to a guest: where SYSCALL arrives.
    pub platform: Platform,
    /// The processor's model.
    pub cpu: String,
    /// The hypervisor that this host itself runs under, where it says so.
    pub hypervisor: Option<String>,
    /// The kernel's release.
    pub kernel: String,
    /// Transparent huge pages: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
    /// How many processors this process may use.
    pub processors: usize,
    /// How many processes wanted one in the minute before: figures of a busy host are uncertain.
    pub load: Option<f64>,
    /// Frequency of the time-stamp counter, in kilohertz.
    pub tsc_khz: u32,
    /// `release` or `debug`: the host's part. Guests are always built optimized.
    pub build: &'static str,
    /// This program's version.
    pub version: &'static str,
}

impl HostInfo {
    /// Look at this host.
    pub fn detect() -> Result<Self, BenchError> {
        let facts = Host::here(Path::new(hypervisor::vm::NODE)).facts();
        Ok(Self {
            kvm: hypervisor::doctor::platform().name().to_owned(),
            platform: Platform::detect()?,
            cpu: facts.cpu,
            hypervisor: facts.hypervisor,
            kernel: facts.kernel,
            huge_pages: facts.huge_pages,
            processors: thread::available_parallelism().map_or(1, NonZero::get),
            load: load(),
            tsc_khz: floor::tsc_khz()?,
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
            version: env!("CARGO_PKG_VERSION"),
        })
    }

    /// Nanoseconds of a cycle of the time-stamp counter.
    pub fn ns_per_cycle(&self) -> f64 {
        1e6 / f64::from(self.tsc_khz)
    }
}

fn load() -> Option<f64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}
