//! `paravane doctor`: what this host's KVM can do, and the gates that suit it.

use std::path::Path;

use bench::floor::{self, Effort, Row};
use hypercall_abi::{Mode, Slot};
use hypervisor::Vm;
use hypervisor::doctor::{self, GateReport, Kind, Problem};
use hypervisor::monitor::gates::KvmKind;

use crate::args::Doctor;
use crate::output;
use crate::status::{self, Failure};

/// Examine the host; the exit status.
pub fn run(options: &Doctor) -> Result<u8, Failure> {
    let mut diagnosis = doctor::examine(&options.kvm);
    if diagnosis.usable() {
        match kind(&options.kvm) {
            Ok(kind) => diagnosis.gates = Some(gates(kind, &options.kvm)),
            Err(failure) => diagnosis.problems.insert(0, no_gates(&failure)),
        }
    }
    if options.json {
        output::print_json(&diagnosis.document())?;
    } else {
        output::print(&doctor::render(&diagnosis))?;
    }
    Ok(if diagnosis.usable() {
        status::OK
    } else {
        status::FOUND
    })
}

/// No guest of mode pv runs here, and the bare examination did not show it.
fn no_gates(failure: &Failure) -> Problem {
    Problem::error(
        Kind::Gates,
        format!("the probe of the gates failed: {}", failure.message),
        "use `paravane run --mode hvm`, which needs no gates, and report this",
    )
}

/// The kind of KVM, as a virtual machine finds it when it is built.
fn kind(node: &Path) -> Result<KvmKind, Failure> {
    let mut config = super::built_in(Mode::Pv);
    config.kvm_node = node.to_path_buf();
    let vm = Vm::new(config, Box::new(std::io::sink()))?;
    vm.kvm_kind()
        .ok_or_else(|| Failure::host("mode pv has no gates"))
}

fn gates(kind: KvmKind, node: &Path) -> Vec<GateReport> {
    // The floor knows /dev/kvm alone. Without costs the gates still say how they work.
    let costs = if node == Path::new(hypervisor::vm::NODE) {
        costs_ns()
    } else {
        Vec::new()
    };
    let cost = |row: Row| costs.iter().find(|(of, _)| *of == row).map(|(_, ns)| *ns);
    let report = |slot: Slot| GateReport {
        tier: if slot == Slot::Machine { 2 } else { 1 },
        mechanism: kind.mechanism(slot).to_owned(),
        cost_ns: match slot {
            Slot::Monitor => cost(Row::Gate),
            Slot::Machine => cost(Row::MachineExit),
            _ => None,
        },
        slot: slot.name().to_owned(),
    };
    Slot::IN_PAGE.map(report).into()
}

/// The median cost of each tier's bare gate, in nanoseconds.
fn costs_ns() -> Vec<(Row, f64)> {
    let measure = || {
        let khz = floor::tsc_khz()?;
        let samples = floor::measure(&[Row::Gate, Row::MachineExit], Effort::quick(), &mut |_| {})?;
        Ok::<_, floor::FloorError>((khz, samples))
    };
    match measure() {
        Ok((khz, samples)) => samples
            .into_iter()
            .filter_map(|(row, sample)| {
                Some((row, median(sample.ticks)? as f64 * 1e6 / f64::from(khz)))
            })
            .collect(),
        Err(error) => {
            output::say(&format!("the gates' cost is not known: {error}"));
            Vec::new()
        }
    }
}

fn median(mut ticks: Vec<u64>) -> Option<u64> {
    ticks.sort_unstable();
    ticks.get(ticks.len() / 2).copied()
}
