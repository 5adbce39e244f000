//! `paravane run`: boots a guest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::ops::RangeInclusive;

use comfy_table::Table;
use hypercall_abi::Mode;
use hypervisor::code_cache::Kept;
use hypervisor::io::{Console, DeviceCounts};
use hypervisor::monitor::gates::KvmKind;
use hypervisor::stats::{Count, Stats};
use hypervisor::{CodeCache, Config, Device, End, StopReason, doctor};
use serde::Serialize;

use super::boot::{self, Around, Ran};
use crate::args::{CodeCacheAt, Run};
use crate::ending::Ending;
use crate::files;
use crate::output;
use crate::status::Failure;
use crate::stdin;

/// The version of [`Report`] as it is serialized; it rises when a field changes its meaning.
const SCHEMA: u32 = 1;
/// Statuses of a guest whose kernel failed or did not start (see `status::HELP`).
const KERNEL_FAILED: RangeInclusive<u8> = 101..=105;
/// Columns of the table of statistics at most.
const WIDTH: u16 = 80;

/// Boot a guest; the exit status.
pub fn run(options: &Run, ending: &Ending) -> Result<u8, Failure> {
    let mut config = config(options)?;
    let cache = match &options.code_cache {
        CodeCacheAt::Auto => CodeCache::of_user(),
        CodeCacheAt::Off => None,
        CodeCacheAt::Dir(dir) => Some(CodeCache::in_dir(dir)),
    };
    let kept = cache.and_then(|cache| cache.find(&config));
    config.learned = kept.as_ref().map(Kept::learned);
    let facts = Facts {
        image: config.image_name.clone(),
        mode: options.mode,
        memory_bytes: options.mem,
    };
    let console: Box<dyn Write + Send> = if options.json {
        Box::new(io::stderr())
    } else {
        Box::new(io::stdout())
    };
    let input = stdin::source();
    let around = Around {
        input,
        console,
        trace: trace(options)?,
        timeout: options.timeout,
        ending,
    };
    let ran = boot::boot(config, around)?;
    let failed = match &ran.outcome.end {
        End::Fault(_) => true,
        End::PowerOff(status) => KERNEL_FAILED.contains(status),
        End::Stopped(_) => false,
    };
    let done = kept.map(|kept| if failed { kept.forget() } else { kept.keep() });
    if let (Some(Err(error)), CodeCacheAt::Dir(dir)) = (done, &options.code_cache) {
        let dir = dir.display();
        output::say(&format!(
            "what was learned of the image's code is not kept in {dir}: {error}; name another with --code-cache"
        ));
    }
    let status = boot::conclude(&ran.outcome, input);
    let report = Report::of(&ran, status, facts);
    if options.stats {
        output::note(&report.table());
    }
    if options.json {
        output::print_json(&report)?;
    }
    Ok(status)
}

fn config(options: &Run) -> Result<Config, Failure> {
    let mode = options.mode;
    if options.json && options.consoles.contains(&Console::Stdio) {
        let why = "--json has standard output for itself: use another --console than stdio";
        return Err(Failure::usage(why));
    }
    let mut config = match &options.image {
        Some(path) => {
            let mend = "name a static ELF64 file, or none for the kernel that is built in";
            let bytes = files::read(path, "image", files::LIMIT, mend)?;
            Config::new(mode, bytes, path.display().to_string())
        }
        None => super::built_in(mode),
    };
    if let Some(path) = &options.initrd {
        let mend = "name a file that fits the guest's memory";
        let limit = options.mem.min(files::LIMIT);
        config.initrd = Some(files::read(path, "initial ramdisk", limit, mend)?.into());
    }
    config.memory_bytes = options.mem;
    config.devices = devices(options);
    config.io = options.io.into();
    config.command_line = options.cmdline.clone();
    config.timing = options.stats || options.json;
    config.kvm_node = options.kvm.clone();
    config.patch = options.patch.into();
    config.fast_traps = options.fast_traps.into();
    Ok(config)
}

/// The devices, in the order in which the guest finds them.
fn devices(options: &Run) -> Vec<Device> {
    let disks = options.disks.iter().cloned().map(Device::Disk);
    let rng = options.rng.then_some(Device::Rng);
    let nets = options.nets.iter().cloned().map(Device::Net);
    let consoles = options.consoles.iter().cloned().map(Device::Console);
    let balloon = options.balloon.map(Device::Balloon);
    let vsock = options.vsock.iter().cloned().map(Device::Vsock);
    let devices = disks.chain(rng).chain(nets).chain(consoles);
    devices.chain(vsock).chain(balloon).collect()
}

fn trace(options: &Run) -> Result<Option<Box<dyn Write + Send>>, Failure> {
    let Some(path) = &options.trace else {
        return Ok(None);
    };
    let file = File::create(path).map_err(|error| {
        Failure::host(format!(
            "cannot write the trace {}: {error}; name another file",
            path.display()
        ))
    })?;
    Ok(Some(Box::new(file)))
}

/// What was run.
struct Facts {
    image: String,
    mode: Mode,
    memory_bytes: u64,
}

/// A run, for a machine to read.
#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    /// power_off, fault, timeout or signal.
    end: &'static str,
    /// The exit status of this process.
    status: u8,
    /// What the guest could not go on with.
    fault: Option<String>,
    /// Registers and backtrace, unless the guest switched itself off.
    report: Option<&'a str>,
    image: String,
    mode: &'static str,
    /// What drives KVM on this host.
    platform: doctor::Platform,
    /// The kind of gates, in mode pv.
    gates: Option<KvmKind>,
    build: &'static str,
    memory_bytes: u64,
    run_ns: u64,
    console_bytes: u64,
    stats: &'a Stats,
    devices: &'a [DeviceCounts],
}

impl<'a> Report<'a> {
    fn of(ran: &'a Ran, status: u8, facts: Facts) -> Self {
        let (end, fault) = match &ran.outcome.end {
            End::PowerOff(_) => ("power_off", None),
            End::Fault(fault) => ("fault", Some(fault.to_string())),
            End::Stopped(StopReason::Timeout) => ("timeout", None),
            End::Stopped(StopReason::Signal(_)) => ("signal", None),
        };
        Self {
            schema: SCHEMA,
            end,
            status,
            fault,
            report: ran.outcome.report.as_deref(),
            image: facts.image,
            mode: facts.mode.name(),
            platform: doctor::platform(),
            gates: ran.gates,
            build: output::BUILD,
            memory_bytes: facts.memory_bytes,
            run_ns: u64::try_from(ran.took.as_nanos()).unwrap_or(u64::MAX),
            console_bytes: ran.outcome.console_bytes,
            stats: &ran.outcome.stats,
            devices: &ran.outcome.devices,
        }
    }

    /// Exits and calls by name, for people.
    fn table(&self) -> String {
        let gates = self
            .gates
            .map_or(String::new(), |kind| format!(", gates for {}", kind.name()));
        let mut head = format!(
            "\n{} in mode {}{gates}; KVM: {}; {} build\nran {:.3} ms, {} exits; times are of this process, without the way to it\n\n",
            self.image,
            self.mode,
            self.platform.name(),
            self.build,
            self.run_ns as f64 / 1e6,
            self.stats.total_exits(),
        );
        let mut table = output::table(&["what", "count", "total us", "mean us"], WIDTH);
        for device in self.devices {
            let cpu_us = device.cpu_ns as f64 / 1e3;
            for (what, count) in [
                ("doorbells", device.doorbells),
                ("interrupts", device.interrupts),
                ("bytes copied", device.copied),
            ] {
                let name = format!("{what} of {}", device.name);
                table.add_row([name, count.to_string(), String::new(), String::new()]);
            }
            let name = format!("thread of {}", device.name);
            table.add_row([name, String::new(), format!("{cpu_us:.1}"), String::new()]);
            if let Some(fault) = &device.fault {
                head += &format!("{} needed a reset: {fault}\n\n", device.name);
            }
        }
        let stats = [("exit", &self.stats.exits), ("call", &self.stats.calls)];
        for (kind, counts) in stats {
            add_counts(&mut table, kind, counts);
        }
        if self.stats.ahead > 0 {
            let count = self.stats.ahead.to_string();
            let name = "done in the exit of another".to_owned();
            table.add_row([name, count, String::new(), String::new()]);
        }
        output::align_right(&mut table, 1..4);
        head + &output::lines(&mut table)
    }
}

/// Rows of counts, the most frequent first.
fn add_counts(table: &mut Table, kind: &str, counts: &BTreeMap<&'static str, Count>) {
    let mut rows: Vec<_> = counts.iter().collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(count.count));
    for (name, Count { count, total_ns }) in rows {
        let total_us = *total_ns as f64 / 1e3;
        let mean_us = total_us / (*count).max(1) as f64;
        let name = format!("{kind} {name}");
        table.add_row([
            name,
            count.to_string(),
            format!("{total_us:.1}"),
            format!("{mean_us:.2}"),
        ]);
    }
}
