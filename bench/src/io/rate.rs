//! How fast bytes go to the guest's console, in each mode, and how fast random bytes come: from virtio-rng, and from
//! the host's own getrandom(2). What the console got is hashed at both ends.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hypercall_abi::Mode;
use hypervisor::io::Device;
use hypervisor::stats::INTERRUPTED;
use hypervisor::{End, Vm};
use netstack::hash::WordFnv;
use serde::Serialize;

use super::Effort;
use super::guest::value;
use super::plan::wirings;
use super::report::{Found, Sample, thread_cpu_ns};
use crate::columns::MODES;
use crate::error::BenchError;
use crate::micro;
use crate::progress::Progress;
use crate::watch::{Watch, lock};

/// A guest that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);
/// The most that is kept of what a guest writes beside its data.
const KEPT: usize = 64 << 10;
/// Operations of a first run, and the most of any.
const FIRST: u64 = 64;
const MOST: u64 = 1 << 18;

/// What is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A line of 64 bytes, to the console that every machine has.
    Console,
    /// 4096 random bytes.
    Random,
}

impl What {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Random => "random",
        }
    }

    /// Bytes of an operation, as in pv-guest/src/shell/rate.rs.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Console => 64,
            Self::Random => 4096,
        }
    }
}

/// A case, and what was found.
#[derive(Clone, Debug, Serialize)]
pub struct RateRow {
    /// What was moved.
    pub what: What,
    /// Bytes of an operation.
    pub bytes: u64,
    /// The mode, or `host`.
    pub mode: &'static str,
    /// The device, and what is unusual about it.
    pub device: &'static str,
    /// The figures, an operation each.
    pub found: Found,
}

struct Case {
    what: What,
    /// None for the host.
    mode: Option<Mode>,
    device: &'static str,
    wiring: hypervisor::io::Wiring,
}

impl Case {
    fn title(&self) -> String {
        let mode = self.mode.map_or("host", Mode::name);
        format!("{} in {mode}, {}", self.what.name(), self.device)
    }
}

fn cases() -> Vec<Case> {
    let wiring = hypervisor::io::Wiring::default();
    let of = |what, device| {
        MODES.iter().map(move |mode| Case {
            what,
            mode: Some(*mode),
            device,
            wiring,
        })
    };
    let mut cases: Vec<Case> = of(What::Console, "console").collect();
    cases.push(Case {
        what: What::Random,
        mode: None,
        device: "getrandom",
        wiring,
    });
    cases.extend(of(What::Random, "virtio-rng"));
    cases.extend(wirings().map(|(device, wiring)| Case {
        what: What::Random,
        mode: Some(Mode::Pv),
        device,
        wiring,
    }));
    cases
}

/// Measure; a row a case.
///
/// # Errors
/// [`BenchError`]: a guest that did not do what it was told, data that was wrong.
pub(super) fn run(
    effort: Effort,
    watch: &Watch,
    progress: &mut dyn Progress,
) -> Result<Vec<RateRow>, BenchError> {
    let cases = cases();
    let mut samples: Vec<Vec<Sample>> = cases.iter().map(|_| Vec::new()).collect();
    let mut counts = vec![FIRST; cases.len()];
    let steps = (effort.rounds + 1) * cases.len();
    let mut step = 0;
    for round in 0..=effort.rounds {
        for ((case, count), samples) in cases.iter().zip(&mut counts).zip(&mut samples) {
            progress.step(step, steps, &case.title());
            step += 1;
            let sample = match case.mode {
                Some(mode) => guest(case, mode, *count, watch)?,
                None => host(*count).map_err(|source| BenchError::Net {
                    case: case.title(),
                    source,
                })?,
            };
            if round == 0 && effort.has_sizing() {
                // A float's conversion keeps within the integer's bounds.
                *count = ((effort.target_ns / sample.ns_per_op()) as u64).clamp(FIRST, MOST);
            } else {
                samples.push(sample);
            }
        }
    }
    let rows = cases.iter().zip(&samples).filter_map(|(case, samples)| {
        Some(RateRow {
            what: case.what,
            bytes: case.what.bytes(),
            mode: case.mode.map_or("host", Mode::name),
            device: case.device,
            found: Found::of(samples)?,
        })
    });
    Ok(rows.collect())
}

/// The host's own random numbers, as many at once as the guest asks for.
fn host(count: u64) -> io::Result<Sample> {
    let mut buffer = [0; 4096];
    let (begin, cpu) = (Instant::now(), thread_cpu_ns());
    for _ in 0..count {
        // Requests above 256 bytes may be cut short by a signal: getrandom(2).
        let mut at = 0;
        while at < buffer.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            at += rustix::rand::getrandom(&mut buffer[at..], flags)?;
        }
    }
    Ok(Sample {
        count,
        ns: begin.elapsed().as_nanos() as f64,
        cpu_ns: [thread_cpu_ns().saturating_sub(cpu), 0],
        ..Sample::default()
    })
}

fn guest(case: &Case, mode: Mode, count: u64, watch: &Watch) -> Result<Sample, BenchError> {
    let mut config = micro::kernel(mode);
    config.wiring = case.wiring;
    if case.what == What::Random {
        config.devices = vec![Device::Rng];
    }
    let bytes = count * case.what.bytes();
    config.command_line = format!("quiet run='rate {} {bytes}'", case.what.name());
    let console = Hashing::default();
    let mut vm = Vm::new(config, Box::new(console.clone()))?;
    let bound = watch.run(vm.stop_handle(), LIMIT);
    let cpu = thread_cpu_ns();
    let outcome = vm.run()?;
    let cpu = thread_cpu_ns().saturating_sub(cpu);
    drop(bound);
    let written = lock(&console.0).end();
    let mark = format!("rate {}: ", case.what.name());
    let line = written.other.lines().find(|line| line.starts_with(&mark));
    let (End::PowerOff(0), Some(line)) = (&outcome.end, line) else {
        return Err(BenchError::Guest {
            mode: mode.name(),
            end: format!("{:?}", outcome.end),
            wanted: "moving bytes, and powering off with status 0",
            evidence: format!(
                "{}: {}\n{}",
                case.title(),
                written.other,
                outcome.report.unwrap_or_default()
            ),
        });
    };
    let value = |key| value(line, key);
    let is_right = match case.what {
        What::Console => {
            let hash = format!(" word-fnv {:016x}", written.hash.finish());
            written.bytes == bytes && line.ends_with(&hash)
        }
        // The guest looks at what came.
        What::Random => value("bytes")? == bytes,
    };
    if !is_right {
        return Err(BenchError::Differs { case: case.title() });
    }
    let device = outcome.devices.first().cloned().unwrap_or_default();
    let interruptions = outcome.stats.exits.get(INTERRUPTED);
    let interruptions = interruptions.map_or(0, |count| count.count);
    Ok(Sample {
        count,
        ns: value("ns")? as f64,
        // A signal is the host's, not the guest's.
        exits: value("exits")?.saturating_sub(interruptions),
        interrupts: value("interrupts")?,
        doorbells: device.doorbells,
        copied: device.copied,
        cpu_ns: [cpu, device.cpu_ns],
    })
}

/// A console that hashes the lines that begin with `#`, and keeps others.
#[derive(Clone, Default)]
struct Hashing(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    hash: WordFnv,
    /// Bytes that were hashed.
    bytes: u64,
    other: String,
    line: Vec<u8>,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn add(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = KEPT.saturating_sub(self.line.len()).min(part.len());
            self.line.extend_from_slice(&part[..room]);
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        if self.line.starts_with(b"#") {
            self.hash.add(&self.line);
            self.bytes += self.line.len() as u64;
        } else if self.other.len() + self.line.len() <= KEPT {
            self.other.push_str(&String::from_utf8_lossy(&self.line));
        }
        self.line.clear();
    }

    fn end(&mut self) -> Self {
        self.end_line();
        std::mem::take(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_hashes_data_however_it_comes() {
        let text = b"hello\n#0123\n#abc\nrate console: x\n#end";
        let mut hash = WordFnv::new();
        hash.add(b"#0123\n#abc\n#end");
        for size in 1..text.len() {
            let mut console = Hashing::default();
            for part in text.chunks(size) {
                console.write_all(part).unwrap();
            }
            let written = lock(&console.0).end();
            assert_eq!(written.hash.finish(), hash.finish(), "{size}");
            assert_eq!(written.bytes, 15);
            assert_eq!(written.other, "hello\nrate console: x\n");
        }
    }

    #[test]
    fn a_guest_that_writes_without_end_takes_little_memory() {
        let mut console = Hashing::default();
        for _ in 0..100 {
            console.write_all(&[b'x'; 4096]).unwrap();
            console.write_all(b"\nnoise\n").unwrap();
        }
        let written = lock(&console.0).end();
        assert!(written.other.len() <= KEPT && written.line.capacity() <= 2 * KEPT);
    }

    #[test]
    fn random_numbers_of_the_host_take_time() {
        assert!(host(4).unwrap().ns > 0.0);
    }
}
