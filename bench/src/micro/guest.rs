//! Boots the guest kernel and has it run its benchmark.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hypercall_abi::Mode;
use hypervisor::stats::INTERRUPTED;
use hypervisor::{Config, End, FastTraps, Vm};

use super::lines::{self, Line};
use crate::error::BenchError;
use crate::watch::{Watch, lock};

/// A guest that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);
/// The longest line that is kept, and the most text beside the lines.
const KEPT: usize = 64 * 1024;

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
    let console = Console::default();
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

/// The guest's console: keeps the benchmark's lines, and the beginning of what else is written.
#[derive(Clone, Default)]
struct Console(Arc<Mutex<Text>>);

#[derive(Default)]
struct Text {
    /// The benchmark's lines.
    lines: Vec<String>,
    /// Everything else, but for what the console rows write.
    other: String,
    /// The line that has not ended yet.
    line: Vec<u8>,
}

impl Console {
    fn take(&self) -> Text {
        let mut text = lock(&self.0);
        text.end_line();
        std::mem::take(&mut text)
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Text {
    fn write(&mut self, mut bytes: &[u8]) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.append(&bytes[..at]);
            self.end_line();
            bytes = &bytes[at + 1..];
        }
        self.append(bytes);
    }

    /// The rest of a line that is longer than any of use is dropped.
    fn append(&mut self, bytes: &[u8]) {
        let room = KEPT.saturating_sub(self.line.len()).min(bytes.len());
        self.line.extend_from_slice(&bytes[..room]);
    }

    fn end_line(&mut self) {
        let is_noise = self.line.iter().all(|byte| *byte == b'.');
        if !is_noise {
            let line = String::from_utf8_lossy(&self.line);
            if line.starts_with(lines::MARK) {
                self.lines.push(line.into_owned());
            } else if self.other.len() + line.len() < KEPT {
                self.other.push_str(&line);
                self.other.push('\n');
            }
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_keeps_lines_apart_from_what_the_rows_write() {
        let mut console = Console::default();
        for part in [
            "@bench a ab",
            "sent\n...",
            "....\n\nkernel: odd\n",
            "@bench end\n> ",
        ] {
            console.write_all(part.as_bytes()).unwrap();
        }
        let text = console.take();
        assert_eq!(text.lines, ["@bench a absent", "@bench end"]);
        assert_eq!(text.other, "kernel: odd\n> \n");
    }

    #[test]
    fn a_guest_that_writes_without_end_takes_little_memory() {
        let mut console = Console::default();
        for _ in 0..1000 {
            console.write_all(&[b'x'; 4096]).unwrap();
        }
        console.write_all(b"\n").unwrap();
        for _ in 0..100_000 {
            console.write_all(b"noise\n").unwrap();
        }
        let text = console.take();
        assert!(text.other.len() <= KEPT && text.line.len() <= KEPT);
    }
}
