//! Boots the guest kernel with a disk and has it move blocks.

use std::path::Path;
use std::time::Duration;

use hypervisor::io::{Device, Disk};
use hypervisor::stats::INTERRUPTED;
use hypervisor::{End, IoKind, Vm};

use super::plan::{Case, Guest, Medium};
use super::report::{Sample, thread_cpu_ns};
use crate::console::Console;
use crate::error::BenchError;
use crate::micro;
use crate::watch::Watch;

/// A guest that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);
/// What its line begins with: pv-guest/src/shell/disk_bench.rs.
const MARK: &str = "@disk ";

/// Do the work in a fresh virtual machine.
///
/// # Errors
/// [`BenchError`].
pub fn run(
    case: &Case,
    guest: &Guest,
    path: &Path,
    count: u64,
    seed: u64,
    watch: &Watch,
) -> Result<Sample, BenchError> {
    let mut config = micro::kernel(guest.mode);
    config.wiring = guest.wiring;
    config.io = guest.io;
    config.devices = vec![Device::Disk(Disk {
        direct: case.medium == Medium::Direct,
        engine: guest.engine,
        queues: guest.queues,
        ..Disk::new(path)
    })];
    let work = case.work;
    config.command_line = format!(
        "quiet run='disk {} bench {} {} {} {count} {seed}'",
        match guest.io {
            IoKind::Pv => "vda",
            IoKind::Trapped => "hda",
        },
        work.verb(),
        work.bytes,
        work.depth
    );
    let console = Console::keeping(MARK);
    let mut vm = Vm::new(config, Box::new(console.clone()))?;
    let bound = watch.run(vm.stop_handle(), LIMIT);
    let cpu = thread_cpu_ns();
    let outcome = vm.run()?;
    let cpu = thread_cpu_ns().saturating_sub(cpu);
    drop(bound);
    let text = console.take();
    let line = match (&outcome.end, text.lines.as_slice()) {
        (End::PowerOff(0), [line]) => line,
        _ => {
            let lines = text.lines.join("\n");
            return Err(BenchError::Guest {
                mode: guest.mode.name(),
                end: format!("{:?}", outcome.end),
                wanted: "moving blocks, all of them right, and powering off with status 0",
                evidence: format!(
                    "{}{lines}\n{}",
                    text.other,
                    outcome.report.unwrap_or_default()
                ),
            });
        }
    };
    let value = |key| value(line, key);
    let device = outcome.devices.first().cloned().unwrap_or_default();
    let interruptions = outcome.stats.exits.get(INTERRUPTED);
    let interruptions = interruptions.map_or(0, |count| count.count);
    Ok(Sample {
        count: value("count")?,
        ns: value("ns")? as f64,
        // A signal is the host's, not the guest's.
        exits: value("exits")?.saturating_sub(interruptions),
        interrupts: value("interrupts")?,
        doorbells: device.doorbells,
        copied: device.copied,
        cpu_ns: [cpu, device.cpu_ns],
    })
}

/// The number behind a key.
///
/// # Errors
/// [`BenchError::Line`].
pub fn value(line: &str, key: &str) -> Result<u64, BenchError> {
    let words = line.split_whitespace();
    let mut values = words.filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let value = values.next().and_then(|value| value.parse().ok());
    value.ok_or_else(|| BenchError::Line {
        line: line.to_owned(),
        reason: "a number is missing",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_numbers_by_name() {
        let line = "@disk count=64 bytes=4096 ns=12 exits=x";
        assert_eq!(value(line, "ns").unwrap(), 12);
        assert_eq!(value(line, "count").unwrap(), 64);
        assert!(value(line, "exits").is_err() && value(line, "n").is_err());
    }
}
