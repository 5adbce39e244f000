//! The harness: boots the kernel or a tiny guest, and says how it ended.
//!
//! A test on real KVM begins with [`need_kvm!`] or runs in [`each_mode`]; one that needs a guest of
//! a few instructions, or a broken image, makes it with [`image`].
#![forbid(unsafe_code)]

pub mod board;
pub mod differential;
pub mod disk;
pub mod image;

use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use hypercall_abi::Mode;
use hypervisor::{Config, End, GuestFault, HostError, Outcome, StopReason, Vm};
use kvm_ioctls::VmFd;

/// The tiny guests' image; the first word of the command line chooses the behaviour.
pub static TINY: &[u8] = include_bytes!(env!("PARAVANE_TINY_GUESTS"));

/// The foreign kernel: native, and not shaped for Paravane. See `foreign/src/main.rs`.
pub static FOREIGN: &[u8] = include_bytes!(env!("PARAVANE_FOREIGN_KERNEL"));

/// The kernel that runs cases. See `cases/src/main.rs`.
pub static CASES: &[u8] = include_bytes!(env!("PARAVANE_CASE_RUNNER"));

/// The status of a tiny guest that met an event that its behaviour does not expect.
pub const UNEXPECTED_EVENT: u8 = 97;

/// The modes.
pub const MODES: [Mode; 4] = Mode::ALL;

/// Leave the test, saying so, where `PARAVANE_NO_KVM=1` says that there is no KVM to test on.
#[macro_export]
macro_rules! need_kvm {
    () => {
        if !$crate::has_kvm() {
            return;
        }
    };
}

/// Whether tests use KVM: false, with a line on why, only where `PARAVANE_NO_KVM=1` is set. KVM that
/// is expected and missing fails the test.
///
/// # Panics
/// When KVM cannot be used, with what helps.
pub fn has_kvm() -> bool {
    if std::env::var_os("PARAVANE_NO_KVM").is_some_and(|value| value == "1") {
        println!("PARAVANE_NO_KVM=1: nothing is tested here");
        return false;
    }
    hold_kvm();
    true
}

/// Keep one virtual machine open while tests run: under KVM on an emulated SVM, turning SVM off and
/// on again with the last and the first machine can hang (docs/decisions/0004).
fn hold_kvm() {
    static HOLD: OnceLock<Result<VmFd, String>> = OnceLock::new();
    let held = HOLD.get_or_init(|| {
        let kvm = hypervisor::vm::open_kvm().map_err(|error| error.to_string())?;
        kvm.create_vm()
            .map_err(|error| format!("KVM makes no virtual machine: {error}"))
    });
    if let Err(why) = held {
        panic!("{why}\nSet PARAVANE_NO_KVM=1 to leave out the tests that need KVM.");
    }
}

/// Collects what a guest writes; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    /// What was written so far, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no writer panics")).into_owned()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("no writer panics")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A run that has ended.
#[derive(Debug)]
pub struct Ran {
    /// How it ended, and what was counted.
    pub outcome: Outcome,
    /// What the guest wrote.
    pub output: String,
}

impl Ran {
    /// The guest's exit status; anything else than a power-off is a failure of the test.
    #[track_caller]
    pub fn status(&self) -> u8 {
        match &self.outcome.end {
            End::PowerOff(status) => *status,
            _ => self.fail("the guest did not power off"),
        }
    }

    /// The fault that ended the guest; anything else is a failure of the test.
    #[track_caller]
    pub fn fault(&self) -> &GuestFault {
        match &self.outcome.end {
            End::Fault(fault) => fault,
            _ => self.fail("the guest did not end with a fault"),
        }
    }

    /// The report on a guest that was stopped for its time; anything else is a failure of the test.
    #[track_caller]
    pub fn timed_out(&self) -> &str {
        match &self.outcome.end {
            End::Stopped(StopReason::Timeout) => self.report(),
            _ => self.fail("the guest did not have to be stopped"),
        }
    }

    /// The report; its absence is a failure of the test.
    #[track_caller]
    pub fn report(&self) -> &str {
        match &self.outcome.report {
            Some(report) => report,
            None => self.fail("there is no report"),
        }
    }

    /// What the guest wrote, by lines, after it has powered off with status 0.
    #[track_caller]
    pub fn lines(&self) -> Vec<&str> {
        assert_eq!(self.status(), 0, "{}", self.output);
        self.output.lines().collect()
    }

    /// How often a call was made.
    pub fn calls(&self, name: &str) -> u64 {
        self.outcome.stats.calls.get(name).map_or(0, |c| c.count)
    }

    /// How many exits there were that the guest caused: an interrupted run is the host's doing.
    pub fn exits(&self) -> u64 {
        let exits = &self.outcome.stats.exits;
        self.outcome.stats.total_exits() - exits.get("interrupted").map_or(0, |c| c.count)
    }

    /// Reads and writes of devices' registers that took an exit.
    pub fn registers(&self) -> [u64; 2] {
        ["device read", "device write"].map(|kind| {
            let exits = &self.outcome.stats.exits;
            exits.get(kind).map_or(0, |count| count.count)
        })
    }

    /// This run's requests, which `less` did not make, took no exit to the device: a doorbell's would be a
    /// write that no read comes with.
    ///
    /// An interrupt for what the driver has taken already has it ask the device why it came: a read of
    /// InterruptStatus and, where there is a reason, a write of InterruptACK. That is rare: at most four times.
    #[track_caller]
    pub fn assert_free_doorbells(&self, less: &Ran) {
        let [reads, writes] = self.registers();
        let [reads_less, writes_less] = less.registers();
        let more_reads = reads.wrapping_sub(reads_less).cast_signed();
        let more_writes = writes.wrapping_sub(writes_less).cast_signed();
        assert!(
            more_writes - more_reads <= 1 && more_reads.abs() <= 4,
            "registers: {reads} reads and {writes} writes, {reads_less} and {writes_less} without"
        );
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        let report = self.outcome.report.as_deref().unwrap_or("");
        // The likely cause of a guest that hangs belongs into the first line.
        let not_ended = report.lines().find(|line| line.contains("not ended"));
        panic!(
            "{what}: {:?}{}{}\n{}\n{report}",
            self.outcome.end,
            if not_ended.is_some() { "; " } else { "" },
            not_ended.unwrap_or(""),
            self.output,
        )
    }
}

/// A tiny guest's configuration.
pub fn tiny(command_line: &str) -> Config {
    let mut config = Config::new(Mode::Pv, TINY, "the tiny guests");
    config.command_line = command_line.to_owned();
    config.memory_bytes = 16 << 20;
    config
}

/// A tiny guest that does what a script says; see `guests/src/script.rs`.
pub fn script(script: &str) -> Config {
    tiny(&format!("script {script}"))
}

/// Run a test in every mode, naming the mode that fails.
pub fn each_mode(test: impl Fn(Mode)) {
    need_kvm!();
    for mode in MODES {
        println!("mode {}", mode.name());
        test(mode);
    }
}

/// The kernel's configuration in a mode, with a script for its shell.
pub fn kernel(mode: Mode, script: &str) -> Config {
    let mut config = Config::new(mode, kernel_image(mode), "the kernel");
    config.command_line = format!("run='{script}'");
    config.memory_bytes = 16 << 20;
    config
}

/// The kernel's configuration in a mode, with a shell that asks for commands.
pub fn interactive(mode: Mode) -> Config {
    let mut config = kernel(mode, "");
    config.command_line.clear();
    config.interactive = true;
    config
}

/// The kernel's image for a mode.
pub fn kernel_image(mode: Mode) -> &'static [u8] {
    match mode {
        Mode::Pv => guest_images::PV,
        _ => guest_images::NATIVE,
    }
}

/// A run that takes longer than this hangs: the test then fails with a report.
const LIMIT: Duration = Duration::from_secs(300);
/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Run a configuration to its end.
#[track_caller]
pub fn run(config: Config) -> Ran {
    run_with(config, |_| {})
}

/// Run a configuration to its end, after `prepare`.
#[track_caller]
pub fn run_with(config: Config, prepare: impl FnOnce(&mut Vm)) -> Ran {
    run_for(LIMIT, config, prepare)
        .expect("the virtual machine can be built, and the host can run it")
}

/// Run a configuration, after `prepare`, to its end or until its time is over.
///
/// # Errors
/// The host's, of building or running it.
pub fn run_for(
    limit: Duration,
    config: Config,
    prepare: impl FnOnce(&mut Vm),
) -> Result<Ran, HostError> {
    run_until(limit, config, prepare, |_| false)
}

/// Run a configuration until it has written a text, and then stop it as for its time.
#[track_caller]
pub fn run_until_it_says(text: &'static str, config: Config) -> Ran {
    run_until(
        LIMIT,
        config,
        |_| {},
        move |output| output.text().contains(text),
    )
    .expect("the virtual machine can be built, and the host can run it")
}

fn run_until(
    limit: Duration,
    config: Config,
    prepare: impl FnOnce(&mut Vm),
    is_enough: impl Fn(&Output) -> bool + Send + 'static,
) -> Result<Ran, HostError> {
    hold_kvm();
    let output = Output::default();
    let mut vm = Vm::new(config, Box::new(output.clone()))?;
    prepare(&mut vm);
    let stop = vm.stop_handle();
    let (ended, wait) = mpsc::channel::<()>();
    let written = output.clone();
    let watch = thread::spawn(move || {
        let start = Instant::now();
        while start.elapsed() < limit && !is_enough(&written) {
            let look = LOOK.min(limit.saturating_sub(start.elapsed()));
            if wait.recv_timeout(look) != Err(mpsc::RecvTimeoutError::Timeout) {
                return;
            }
        }
        stop.stop(StopReason::Timeout);
    });
    let outcome = vm.run();
    drop(ended);
    watch.join().expect("the watch does not panic");
    Ok(Ran {
        outcome: outcome?,
        output: output.text(),
    })
}

/// What a host error says; success is a failure of the test.
#[track_caller]
pub fn refusal(config: Config) -> String {
    hold_kvm();
    match Vm::new(config, Box::new(io::sink())) {
        Ok(_) => panic!("the virtual machine was built"),
        Err(error) => error.to_string(),
    }
}

/// Numbers that look random and are the same in every run: splitmix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % limit
    }
}
