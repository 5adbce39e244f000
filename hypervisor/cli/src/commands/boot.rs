//! Runs a virtual machine to its end, with the terminal, the time limit and the signals around it.

use std::io::Write;
use std::time::{Duration, Instant};

use hypervisor::patch::PatchedSite;
use hypervisor::{Config, End, Outcome, Vm};

use crate::ending::{Ending, TimeLimit};
use crate::output;
use crate::status::{self, Failure};
use crate::stdin::{Feeder, Source};
use crate::terminal::{KEYS_HELP, KeyFilter, RawTerminal};

/// What a run needs beside its configuration.
pub struct Around<'a> {
    /// What is typed at the guest's console.
    pub input: Source,
    /// Where the guest's console writes.
    pub console: Box<dyn Write + Send>,
    /// Where the trace goes.
    pub trace: Option<Box<dyn Write + Send>>,
    /// How long the guest may run.
    pub timeout: Option<Duration>,
    /// What ends it before.
    pub ending: &'a Ending,
}

/// A run that has ended.
pub struct Ran {
    /// How, and what was counted.
    pub outcome: Outcome,
    /// The gates' kind of KVM, where the guest has gates.
    pub gates: Option<hypervisor::monitor::gates::KvmKind>,
    /// From the first instruction to the end.
    pub took: Duration,
    /// In mode `patch`: the sites, and what became of them.
    pub patches: Vec<PatchedSite>,
}

/// Run a guest to its end. The terminal is as before when this returns.
pub fn boot(mut config: Config, around: Around<'_>) -> Result<Ran, Failure> {
    config.interactive = around.input == Source::Terminal;
    let mut vm = Vm::new(config, around.console)?;
    if let Some(trace) = around.trace {
        vm.trace_to(trace);
    }
    for (device, place) in vm.places() {
        output::say(&format!("{device} is {place}"));
    }
    around.ending.of_run(vm.stop_handle());
    let _limit = TimeLimit::start(around.timeout, around.ending)?;

    let terminal = match around.input {
        Source::Terminal => RawTerminal::enter()
            .map_err(|error| Failure::host(format!("cannot prepare the terminal: {error}")))?,
        Source::Stream | Source::Nothing => None,
    };
    let feeder = match around.input {
        Source::Nothing => None,
        Source::Terminal | Source::Stream => {
            let filter = terminal.is_some().then(KeyFilter::default);
            let feeder = Feeder::start(vm.keyboard(), filter, around.ending);
            Some(feeder.map_err(|error| Failure::host(format!("cannot read the input: {error}")))?)
        }
    };
    if terminal.is_some() {
        output::say(KEYS_HELP);
    }
    let start = Instant::now();
    let result = vm.run();
    let took = start.elapsed();
    drop(feeder);
    drop(terminal);
    Ok(Ran {
        outcome: result?,
        gates: vm.kvm_kind(),
        took,
        patches: vm.patches(),
    })
}

/// The exit status of a run; what the user must know of a run that did not end well goes to stderr.
pub fn conclude(outcome: &Outcome, input: Source) -> u8 {
    // A guest that was stopped at its prompt has left the cursor there.
    let gap = if input == Source::Terminal { "\n" } else { "" };
    match &outcome.end {
        End::PowerOff(status) => *status,
        End::Fault(fault) => {
            let report = outcome.report.as_deref().unwrap_or_default();
            output::note(&format!(
                "{gap}paravane: the guest cannot go on: {fault}\n{report}"
            ));
            status::GUEST
        }
        End::Stopped(reason) => {
            output::note(&format!(
                "{gap}paravane: {}\n",
                status::stop_sentence(*reason)
            ));
            status::stopped(*reason)
        }
    }
}
