//! What a guest that does nothing costs its host: memory beside its own, and processor time.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use hypercall_abi::Mode;

use super::process::Running;
use crate::error::BenchError;
use crate::watch::Watch;

/// The guest's memory, in bytes, as the program is told.
const MEMORY: u64 = 64 << 20;
const MEMORY_OPTION: &str = "64M";
/// What the guest says when it has booted; then it sleeps, for longer than it is watched.
const READY: &str = "ready";
const SCRIPT: &str = "echo ready; sleep 600000";
/// What boots and what starts has settled by then.
const SETTLE: Duration = Duration::from_millis(200);
/// How much longer than it is watched a guest may take to boot.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// What an idle guest costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Footprint {
    /// Resident memory of the hypervisor's process without the guest's memory, in bytes.
    pub resident: u64,
    /// Time on a processor, of all threads, in percent of the time that passed.
    pub cpu_percent: f64,
}

/// Boot a guest in a process of its own, and watch it sleep for a while.
pub fn measure(
    program: &Path,
    mode: Mode,
    period: Duration,
    watch: &Watch,
) -> Result<Footprint, BenchError> {
    measure_with(program, mode, &[], None, period, watch)
}

/// The same with options for more devices, and with commands that use them before, and what the guest then says as a
/// line if they did.
pub fn measure_with(
    program: &Path,
    mode: Mode,
    devices: &[&str],
    before: Option<(&str, &str)>,
    period: Duration,
    watch: &Watch,
) -> Result<Footprint, BenchError> {
    let script = match before {
        Some((commands, _)) => format!("run='{commands}; {SCRIPT}'"),
        None => format!("run='{SCRIPT}'"),
    };
    let args = [
        "run",
        "--mode",
        mode.name(),
        "--mem",
        MEMORY_OPTION,
        "--cmdline",
        &script,
    ];
    let args = [&args[..], devices].concat();
    // A pipe, so that whoever feeds the guest's console is there and waits.
    let mut running = Running::start(program, &args, Stdio::piped(), watch, period + BOOT_LIMIT)?;
    let proof = before.map(|(_, proof)| proof);
    if !is_ready(BufReader::new(&mut running.stdout), proof) {
        let what = "ended before its guest was ready, or its devices did not work";
        return Err(running.failure(what.into()));
    }
    thread::sleep(SETTLE);
    let (before, start) = (cpu_ns(running.id())?, Instant::now());
    thread::sleep(period);
    let (spent, passed) = (
        cpu_ns(running.id())?.saturating_sub(before),
        start.elapsed(),
    );
    Ok(Footprint {
        resident: resident(running.id())?,
        cpu_percent: spent as f64 / passed.as_nanos() as f64 * 100.0,
    })
}

/// Read until the guest is ready; whether it was, and has said what proves that its devices work.
fn is_ready(output: impl BufRead, proof: Option<&str>) -> bool {
    let mut is_proved = proof.is_none();
    for line in output.lines().map_while(Result::ok) {
        if line == READY {
            return is_proved;
        }
        is_proved |= Some(line.as_str()) == proof;
    }
    false
}

/// Nanoseconds that the threads of a process have run, in the guest or not. A thread that ends
/// takes its share along, and the difference then says too little; none of an idle VMM's does.
fn cpu_ns(process: u32) -> Result<u64, BenchError> {
    let path = format!("/proc/{process}/task");
    let fail = |reason: String| BenchError::Proc {
        path: path.clone(),
        reason,
    };
    let mut total = 0;
    for thread in fs::read_dir(&path).map_err(|error| fail(error.to_string()))? {
        let thread = thread.map_err(|error| fail(error.to_string()))?;
        let text = fs::read_to_string(thread.path().join("schedstat"))
            .map_err(|error| fail(error.to_string()))?;
        let time = text
            .split_whitespace()
            .next()
            .and_then(|word| word.parse::<u64>().ok());
        total += time.ok_or_else(|| fail(format!("schedstat reads {text:?}")))?;
    }
    Ok(total)
}

fn resident(process: u32) -> Result<u64, BenchError> {
    let path = format!("/proc/{process}/smaps");
    let fail = |reason: String| BenchError::Proc {
        path: path.clone(),
        reason,
    };
    let smaps = fs::read_to_string(&path).map_err(|error| fail(error.to_string()))?;
    resident_beside(&smaps, MEMORY).map_err(fail)
}

/// The resident bytes of all mappings but the guest's memory: the anonymous one of at least
/// `guest` bytes.
fn resident_beside(smaps: &str, guest: u64) -> Result<u64, String> {
    let (mut beside, mut is_guest, mut found) = (0, false, false);
    let (mut is_anonymous, mut mappings) = (false, 0);
    for line in smaps.lines() {
        let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match key {
            "Size:" => {
                is_guest = is_anonymous && kilobytes(value)? >= guest;
                found |= is_guest;
            }
            "Rss:" if !is_guest => beside += kilobytes(value)?,
            _ if !key.ends_with(':') => {
                // address permissions offset device inode [path]
                is_anonymous = line.split_whitespace().nth(5).is_none();
                mappings += 1;
            }
            _ => {}
        }
    }
    match found {
        true => Ok(beside),
        false => Err(format!(
            "none of {mappings} mappings is the guest's {guest} bytes"
        )),
    }
}

fn kilobytes(value: &str) -> Result<u64, String> {
    let number = value
        .trim()
        .strip_suffix(" kB")
        .and_then(|number| number.parse::<u64>().ok());
    number
        .and_then(|number| number.checked_mul(1024))
        .ok_or_else(|| format!("{value:?} is no size"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55653996f000-556539971000 r--p 00000000 fe:00 247282                     /usr/bin/paravane
Size:                128 kB
Rss:                 100 kB
VmFlags: rd mr mw me 
7f0000000000-7f0004000000 rw-p 00000000 00:00 0 
Size:              65536 kB
Rss:                2048 kB
7f0005000000-7f0009000000 rw-p 00000000 00:00 0                          [heap]
Size:              65536 kB
Rss:                  50 kB
";

    #[test]
    fn a_guest_whose_devices_do_not_work_is_not_ready() {
        let said = "Paravane\n1 sent, 1 received\nready\n";
        let proof = Some("1 sent, 1 received");
        assert!(is_ready(said.as_bytes(), proof) && is_ready(said.as_bytes(), None));
        assert!(!is_ready(
            "timed out\nready\n1 sent, 1 received\n".as_bytes(),
            proof
        ));
        assert!(!is_ready("1 sent, 1 received\n".as_bytes(), proof));
    }

    #[test]
    fn the_guest_s_memory_is_the_only_mapping_left_out() {
        assert_eq!(resident_beside(SMAPS, 64 << 20), Ok(150 * 1024));
    }

    #[test]
    fn a_guest_that_is_not_found_is_no_small_footprint() {
        let error = resident_beside(SMAPS, 65 << 20).unwrap_err();
        assert_eq!(error, "none of 3 mappings is the guest's 68157440 bytes");
        assert!(resident_beside("a b\nSize: x kB\n", 1).is_err());
        assert!(resident_beside("", 1).is_err());
    }

    /// Nanoseconds on a processor that a process of these words spends in a tenth of a second.
    fn spent_by(program: &str, args: &[&str]) -> u64 {
        let watch = Watch::start().unwrap();
        let limit = Duration::from_secs(10);
        let path = Path::new(program);
        let running = Running::start(path, args, Stdio::null(), &watch, limit).unwrap();
        thread::sleep(Duration::from_millis(50));
        let before = cpu_ns(running.id()).unwrap();
        thread::sleep(Duration::from_millis(100));
        cpu_ns(running.id()).unwrap() - before
    }

    #[test]
    fn a_process_that_works_is_told_from_one_that_sleeps() {
        let busy = spent_by("/bin/sh", &["-c", "while :; do :; done"]);
        let idle = spent_by("/bin/sleep", &["10"]);
        assert!(
            busy > 10_000_000 && idle < 1_000_000,
            "busy {busy} ns, idle {idle} ns"
        );
        assert!(cpu_ns(u32::MAX).is_err());
    }
}
