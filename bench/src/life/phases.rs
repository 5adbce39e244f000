//! The life of a virtual machine in this process, part by part.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hypercall_abi::Mode;
use hypervisor::code_cache::Kept;
use hypervisor::stats::{Count, Stats};
use hypervisor::{CodeCache, Config, End, Keyboard, Learned, Vm};

use super::entry::stop_at_entry;
use crate::error::BenchError;
use crate::micro::kernel;
use crate::watch::{Watch, lock};

/// A guest that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// The end of input, at which the shell powers off.
const END_OF_INPUT: &[u8] = b"\x04";
/// What the shell writes when it asks for a command.
const PROMPT: &[u8] = b"> ";

/// How long the parts took, each from the beginning but the last.
#[derive(Clone, Copy, Debug)]
pub struct Phases {
    /// Until the machine was built.
    pub create: Duration,
    /// Until the kernel's first byte.
    pub first_byte: Duration,
    /// Until the shell's prompt.
    pub prompt: Duration,
    /// Exits from the first instruction to the end.
    pub exits: u64,
    /// Those of them for page tables; their time has that of the tables that the guest began with.
    pub for_tables: Count,
    /// The closing, once the guest has powered off.
    pub teardown: Duration,
}

/// What is known of a kernel's code before it boots.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// Nothing.
    Nothing,
    /// What boots before it have learned, in this process.
    Learned(&'a Learned),
    /// What boots before it have kept in a file, which is read first, as `paravane run` does.
    Kept(&'a CodeCache),
}

/// Boot the kernel to its shell's prompt, and end it there.
pub fn phases(mode: Mode, known: Known<'_>, watch: &Watch) -> Result<Phases, BenchError> {
    let mut config = kernel(mode);
    config.interactive = true;
    config.timing = true;
    let stamps = Stamps::default();
    let start = Instant::now();
    let kept = match known {
        Known::Kept(cache) => cache.find(&config),
        Known::Nothing | Known::Learned(_) => None,
    };
    config.learned = match known {
        Known::Learned(learned) => Some(learned.clone()),
        Known::Nothing | Known::Kept(_) => kept.as_ref().map(Kept::learned),
    };
    let mut vm = Vm::new(config, Box::new(stamps.clone()))?;
    let create = start.elapsed();
    lock(&stamps.0).keyboard = Some(vm.keyboard());
    let bound = watch.run(vm.stop_handle(), LIMIT);
    let outcome = vm.run()?;
    drop(bound);
    if let Some(kept) = kept {
        kept.keep().map_err(BenchError::Cache)?;
    }
    // It keeps the machine open.
    lock(&stamps.0).keyboard = None;

    let end = Instant::now();
    drop(vm);
    let teardown = end.elapsed();
    let stamps = lock(&stamps.0);
    match (outcome.end, stamps.first_byte, stamps.prompt) {
        (End::PowerOff(0), Some(first_byte), Some(prompt)) => Ok(Phases {
            create,
            first_byte: first_byte - start,
            prompt: prompt - start,
            exits: outcome.stats.total_exits(),
            for_tables: for_tables(&outcome.stats),
            teardown,
        }),
        (end, ..) => Err(BenchError::Guest {
            mode: mode.name(),
            end: format!("{end:?}"),
            wanted: "a prompt, and powering off at the end of its input",
            evidence: outcome.report.unwrap_or_default(),
        }),
    }
}

/// What is spent on page tables: shadow tables, in modes that have them. In the others KVM does it, unseen.
fn for_tables(stats: &Stats) -> Count {
    let kinds = ["hidden page fault", "trap mov cr3", "trap invlpg"];
    let found = kinds.iter().filter_map(|kind| stats.exits.get(kind));
    let first = Count {
        count: 0,
        total_ns: stats.first_tables_ns,
    };
    found.fold(first, |all, one| Count {
        count: all.count + one.count,
        total_ns: all.total_ns + one.total_ns,
    })
}

/// A boot that has a lot to do.
#[derive(Clone, Copy, Debug)]
pub struct Busy {
    /// To its end.
    pub took: Duration,
    /// Its exits.
    pub exits: u64,
    /// The mean time in which an instruction that trapped was fetched and decoded, less what reading the clock takes;
    /// `None` where none traps.
    pub decode: Option<Duration>,
}

/// Boot the kernel, have its threads hand a semaphore on, and power off.
pub fn busy(mode: Mode, watch: &Watch) -> Result<Busy, BenchError> {
    let mut config = kernel(mode);
    config.timing = true;
    config.command_line = "run='selftest semaphore'".to_owned();
    let start = Instant::now();
    let mut vm = Vm::new(config, Box::new(io::sink()))?;
    let bound = watch.run(vm.stop_handle(), LIMIT);
    let outcome = vm.run()?;
    let took = start.elapsed();
    drop(bound);
    match outcome.end {
        End::PowerOff(0) => {
            let Count { count, total_ns } = outcome.stats.decoded;
            Ok(Busy {
                took,
                exits: outcome.stats.total_exits(),
                decode: total_ns
                    .checked_div(count)
                    .map(|mean| Duration::from_nanos(mean).saturating_sub(clock())),
            })
        }
        end => Err(BenchError::Guest {
            mode: mode.name(),
            end: format!("{end:?}"),
            wanted: "powering off once its threads are done",
            evidence: outcome.report.unwrap_or_default(),
        }),
    }
}

/// What lies between two readings of the clock with nothing between them.
fn clock() -> Duration {
    const TURNS: u32 = 1000;
    let all: Duration = (0..TURNS).map(|_| Instant::now().elapsed()).sum();
    all / TURNS
}

/// Build a machine with the kernel's image, and let it execute a few instructions.
pub fn first_instruction(mode: Mode, watch: &Watch) -> Result<Duration, BenchError> {
    let kernel = kernel(mode);
    let stopped = |end: String| BenchError::Guest {
        mode: mode.name(),
        end,
        wanted: "powering off at its entry",
        evidence: String::new(),
    };
    let image = stop_at_entry(&kernel.image, mode).ok_or_else(|| stopped("no entry".into()))?;
    let config = Config {
        image: image.into(),
        ..kernel
    };
    let start = Instant::now();
    let mut vm = Vm::new(config, Box::new(io::sink()))?;
    let bound = watch.run(vm.stop_handle(), LIMIT);
    let outcome = vm.run()?;
    let took = start.elapsed();
    drop(bound);
    match outcome.end {
        End::PowerOff(0) => Ok(took),
        end => Err(stopped(format!("{end:?}"))),
    }
}

/// The guest's console: notes when the first byte and the prompt come, and answers the prompt.
#[derive(Clone, Default)]
struct Stamps(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    first_byte: Option<Instant>,
    prompt: Option<Instant>,
    last: [u8; PROMPT.len()],
    keyboard: Option<Keyboard>,
}

impl Write for Stamps {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seen {
    fn write(&mut self, bytes: &[u8]) {
        self.first_byte.get_or_insert_with(Instant::now);
        for byte in bytes {
            self.last.rotate_left(1);
            self.last[PROMPT.len() - 1] = *byte;
        }
        if self.prompt.is_none() && self.last == PROMPT {
            self.prompt = Some(Instant::now());
            if let Some(keyboard) = &self.keyboard {
                keyboard.type_bytes(END_OF_INPUT);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_seen_though_it_comes_byte_by_byte() {
        let mut stamps = Stamps::default();
        stamps.write_all(b"Paravane 1.0\n>").unwrap();
        assert!(lock(&stamps.0).first_byte.is_some() && lock(&stamps.0).prompt.is_none());
        stamps.write_all(b" ").unwrap();
        assert!(lock(&stamps.0).prompt.is_some());
    }

    #[test]
    fn a_machine_goes_through_its_phases_in_order() {
        crate::floor::keep_kvm_on();
        let watch = Watch::start().unwrap();
        for &mode in crate::MODES {
            let life = phases(mode, Known::Nothing, &watch).unwrap();
            assert!(
                life.create < life.first_byte && life.first_byte < life.prompt,
                "{life:?}"
            );
            assert!(life.exits > 0 && life.teardown > Duration::ZERO, "{life:?}");
            assert!(first_instruction(mode, &watch).unwrap() > Duration::ZERO);
            let has_shadow = matches!(mode, Mode::Trap | Mode::Patch);
            assert_eq!(life.for_tables.count > 0, has_shadow, "{life:?}");
            assert_eq!(life.for_tables.total_ns > 0, has_shadow, "{life:?}");
            let busy = busy(mode, &watch).unwrap();
            assert!(busy.took > Duration::ZERO && busy.exits > 0);
            assert_eq!(busy.decode.is_some(), has_shadow, "{busy:?}");
        }
    }
}
