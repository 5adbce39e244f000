//! Boots the guest kernel with a network device, and has it be the client.

use std::time::Duration;

use hypervisor::io::{Device, Net, NetCarrier, UserNetwork};
use hypervisor::stats::INTERRUPTED;
use hypervisor::{End, IoKind, Vm};

use super::namespace::{CLIENT, HOST, TAP, set_up_tap};
use super::plan::{Case, NO_POLL, NetWork, Over, VIRTIO};
use super::report::{Measured, NetSample, Ran};
use crate::console::Console;
use crate::error::BenchError;
use crate::io::guest::value;
use crate::io::plan::Guest;
use crate::io::report::{Sample, thread_cpu_ns};
use crate::micro;
use crate::watch::Watch;

/// A guest that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// Do the work in a fresh virtual machine.
///
/// # Errors
/// [`BenchError`].
pub fn run(
    case: &Case,
    guest: &Guest,
    port: u16,
    count: u64,
    watch: &Watch,
) -> Result<Ran, BenchError> {
    let mut config = micro::kernel(guest.mode);
    config.wiring = guest.wiring;
    config.io = guest.io;
    config.devices = vec![Device::Net(Net::new(match case.over {
        Over::Tap => NetCarrier::Tap(TAP.into()),
        Over::User => NetCarrier::User(UserNetwork::default()),
    }))];
    let command = case.work.command(port, count);
    let poll = match guest.device {
        NO_POLL => "net poll 0; ",
        _ => "",
    };
    config.command_line = format!("quiet run='net static {CLIENT}/24 gw {HOST}; {poll}{command}'");
    let console = Console::keeping(case.work.mark());
    let mut vm = Vm::new(config, Box::new(console.clone()))?;
    if case.over == Over::Tap {
        set_up_tap().map_err(|source| BenchError::net(case, source))?;
    }
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
            let report = outcome.report.unwrap_or_default();
            return Err(BenchError::Guest {
                mode: guest.mode.name(),
                end: format!("{:?}", outcome.end),
                wanted: "using the network, with all data right, and powering off with status 0",
                evidence: format!("{}: {}{lines}\n{report}", case.title(), text.other),
            });
        }
    };
    let hash = hash(case.work, line)?;
    if guest.io == IoKind::Trapped && word(line, "driver") == Some(VIRTIO) {
        let why = "this version has no trapped network device".to_owned();
        let measured = Measured::Not(why);
        return Ok(Ran { measured, hash });
    }
    let value = |key| value(line, key);
    let device = outcome.devices.first().cloned().unwrap_or_default();
    let interruptions = outcome.stats.exits.get(INTERRUPTED);
    let interruptions = interruptions.map_or(0, |count| count.count);
    let sample = Sample {
        count,
        ns: value("ns")? as f64,
        // A signal is the host's, not the guest's.
        exits: value("exits")?.saturating_sub(interruptions),
        interrupts: value("interrupts")?,
        doorbells: device.doorbells,
        copied: device.copied,
        cpu_ns: [cpu, device.cpu_ns],
    };
    let frames = value("frames")?;
    let measured = Measured::Sample(NetSample { sample, frames });
    Ok(Ran { measured, hash })
}

/// The text behind a key.
fn word<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let mut words = line.split_whitespace();
    words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// The hash at a stream's line's end; 0 of what the guest has checked itself.
fn hash(work: NetWork, line: &str) -> Result<u64, BenchError> {
    if matches!(work, NetWork::RoundTrip | NetWork::Packets) {
        return Ok(0);
    }
    let hash = line.rsplit_once(" word-fnv ");
    let hash = hash.and_then(|(_, hash)| u64::from_str_radix(hash, 16).ok());
    hash.ok_or_else(|| BenchError::Line {
        line: line.to_owned(),
        reason: "it has no hash",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_driver_and_a_hash() {
        let line = "stream recv: bytes=8 ns=12 driver=virtio-net word-fnv 00ff";
        assert_eq!(word(line, "driver"), Some("virtio-net"));
        assert_eq!(hash(NetWork::Receive, line).unwrap(), 255);
        assert!(hash(NetWork::Receive, "stream recv: bytes=8 ns=12").is_err());
        assert_eq!(hash(NetWork::RoundTrip, "rtt: count=1").unwrap(), 0);
    }
}
