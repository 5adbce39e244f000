//! Boots the guest kernel and has it run its benchmark.

use std::time::Duration;

use hypercall_abi::Mode;
use hypervisor::stats::INTERRUPTED;
use hypervisor::{Config, End, FastTraps, Vm};

use super::lines::{self, Line};
use crate::console::Console;
use crate::error::BenchError;
use crate::watch::Watch;

/// A guest that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// What the guest's benchmark found.
#[derive(Debug)]
pub struct Ran {
    /// A line a row.
    pub lines: Vec<Line>,
    /// How often a signal made the guest leave. The counts of the rows then hold exits of the host's.
    pub interruptions: u64,
}

/// Run these rows in a fresh virtual machine, with so many samples of each. Where `operations` is
/// given a sample has so many, otherwise as many as take about 1 ms.
pub fn run(
    mode: Mode,
    rows: &[&str],
    samples: usize,
    operations: Option<u64>,
    watch: &Watch,
) -> Result<Ran, BenchError> {
    run_as(kernel(mode), rows, samples, operations, watch)
}

/// The same, in a virtual machine of this configuration.
pub fn run_as(
    mut config: Config,
    rows: &[&str],
    samples: usize,
    operations: Option<u64>,
    watch: &Watch,
) -> Result<Ran, BenchError> {
    let mode = config.mode;
    let operations = operations.map_or_else(|| "auto".to_owned(), |n| n.to_string());
    config.command_line = format!(
        "quiet run='bench rows={} samples={samples} iterations={operations}'",
        rows.join(",")
    );
    let console = Console::keeping(lines::MARK);
    let mut vm = Vm::new(config, Box::new(console.clone()))?;
    let bound = watch.run(vm.stop_handle(), LIMIT);
    let outcome = vm.run()?;
    drop(bound);
    let text = console.take();
    if outcome.end != End::PowerOff(0) || text.lines.is_empty() {
        return Err(BenchError::Guest {
            mode: mode.name(),
            end: format!("{:?}", outcome.end),
            wanted: "printing its figures and powering off with status 0",
            evidence: format!("{}{}", text.other, outcome.report.unwrap_or_default()),
        });
    }
    let interruptions = outcome.stats.exits.get(INTERRUPTED);
    Ok(Ran {
        lines: lines::parse(&text.lines)?,
        interruptions: interruptions.map_or(0, |count| count.count),
    })
}

/// A configuration with the kernel that is built in. In mode `trap` each trap exits, on every platform: what the
/// monitor can do by itself has rows of its own.
pub fn kernel(mode: Mode) -> Config {
    let mut config = match mode {
        Mode::Pv => Config::new(mode, guest_images::PV, "the pv guest that is built in"),
        _ => Config::new(
            mode,
            guest_images::NATIVE,
            "the native guest that is built in",
        ),
    };
    config.fast_traps = FastTraps::Off;
    config
}
