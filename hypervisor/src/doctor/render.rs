//! The diagnosis as text, for a terminal.

use std::fmt::{self, Write};

use super::host::HostFacts;
use super::kvm::KvmFacts;
use super::{Diagnosis, GateReport, Problem, Severity, nested};

/// The diagnosis as compact text: the verdict, the facts, then each problem with its mend.
pub fn render(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    // Writing to a String fails only when a Display does, and none of these do.
    let _ = write_all(&mut text, diagnosis);
    text
}

fn write_all(out: &mut String, diagnosis: &Diagnosis) -> fmt::Result {
    let verdict = if diagnosis.usable() {
        "this host can run guests"
    } else {
        "this host cannot run guests yet"
    };
    writeln!(out, "{verdict}")?;
    line(out, "node", &diagnosis.node)?;
    write_host(out, &diagnosis.host)?;
    if let Some(kvm) = &diagnosis.kvm {
        write_kvm(out, kvm, diagnosis.build)?;
    }
    for gate in diagnosis.gates.iter().flatten() {
        write_gate(out, gate)?;
    }
    for problem in &diagnosis.problems {
        write_problem(out, problem)?;
    }
    Ok(())
}

fn write_host(out: &mut String, host: &HostFacts) -> fmt::Result {
    line(out, "kernel", &host.kernel)?;
    line(out, "processor", &host.cpu)?;
    let above = host.hypervisor.as_deref().map(nested::name);
    let machine = match (host.nested, above) {
        (Some(true), Some(above)) => format!("a VM under {above}: virtualization here is nested"),
        (Some(true), None) => "a VM: virtualization here is nested".to_string(),
        (Some(false), _) => "not a VM".to_string(),
        (None, _) => "unknown".to_string(),
    };
    line(out, "machine", &machine)?;
    if let Some(container) = &host.container {
        line(out, "container", container)?;
    }
    let huge_pages = host.huge_pages.as_deref().unwrap_or("unknown");
    line(out, "huge pages", huge_pages)
}

fn write_kvm(out: &mut String, kvm: &KvmFacts, build: &str) -> fmt::Result {
    line(out, "platform", kvm.platform.name())?;
    let limits = format!(
        "API {}, up to {} vCPUs and {} memory slots",
        kvm.api_version, kvm.max_vcpus, kvm.memory_slots
    );
    line(out, "KVM", &limits)?;
    let tsc = kvm.tsc_khz.map_or_else(
        || "unknown".to_string(),
        |khz| format!("{:.3} GHz, as KVM reports it", f64::from(khz) / 1e6),
    );
    line(out, "TSC", &tsc)?;
    if let Some(exit) = &kvm.bare_exit {
        let cost = format!(
            "{} ns median of {} (min {}, p90 {}; {build} build)",
            exit.median_ns, exit.samples, exit.min_ns, exit.p90_ns
        );
        line(out, "bare exit", &cost)?;
    }
    let present = kvm.capabilities.iter().filter(|cap| cap.present).count();
    let count = format!("{present} of {}", kvm.capabilities.len());
    line(out, "capabilities", &count)?;
    for capability in &kvm.capabilities {
        let mark = if capability.present { "yes" } else { "NO" };
        writeln!(
            out,
            "    {mark:<4}{:<28}{}",
            capability.name, capability.purpose
        )?;
    }
    Ok(())
}

fn write_gate(out: &mut String, gate: &GateReport) -> fmt::Result {
    let cost = gate.cost_ns.map_or_else(
        || "not measured".to_string(),
        |ns| format!("{ns:.0} ns bare"),
    );
    let text = format!("{:<14}{}, {cost}", gate.slot, gate.mechanism);
    line(out, &format!("gate, tier {}", gate.tier), &text)
}

fn write_problem(out: &mut String, problem: &Problem) -> fmt::Result {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    writeln!(out, "{severity}: {}", problem.what)?;
    writeln!(out, "    mend: {}", problem.mend)
}

fn line(out: &mut String, name: &str, value: &str) -> fmt::Result {
    writeln!(out, "  {name:<14}{value}")
}
