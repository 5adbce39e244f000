//! The report for people: a header, the table of the modes (`table`), the floors that it divides by
//! (`floors`), and the goals. `number` has the forms of figures. At most 100 columns wide, goals apart.

mod floors;
mod number;
pub mod table;

use std::fmt::Write;

use crate::floor::Platform;
use crate::goals::Goal;
use crate::host::HostInfo;
use crate::report::{Extra, Report};
use number::times;

/// The report as text, with a newline at its end.
pub fn render(report: &Report) -> String {
    let mut text = header(report);
    text.push('\n');
    text.push_str(&table::table(report));
    text.push_str(&floors::floors(report));
    if !report.extras.is_empty() {
        text.push('\n');
    }
    for extra in &report.extras {
        text.push_str(&extra_line(extra));
    }
    text.push_str("\nGoals (by the lower tenth of the samples; in brackets by medians):\n");
    for goal in &report.goals {
        text.push_str(&goal_line(goal));
    }
    text.push_str(NOTES);
    if report.host.platform == Platform::KvmPvm {
        text.push_str(INTERPRETED);
    }
    if report
        .host
        .hypervisor
        .as_deref()
        .is_some_and(|name| name.contains("TCG"))
    {
        text.push_str(EMULATED);
    }
    text
}

const NOTES: &str = "
Each cell: the median, and half the distance between the tenths in percent; cycles of the time-stamp
counter and exits to the VMM's process, both of one operation; how many times its floor it takes
(/floor), and how many times what pv (/pv) or hvm (/hvm) takes for the same row. The floor is the
bare mechanism in a raw VM of a few instructions. Ratios compare the lower tenths of the samples,
which a busy host disturbs least; /pv above 1: pv is faster. bench/CLAIMS.md names what is claimed,
and where pv loses.
";

const INTERPRETED: &str = "\
This KVM interprets what a guest does at CPL 0: all of hvm, and the monitors of trap and pv. So the
figures of hvm are its interpreter's and say nothing of VMX or SVM, where hvm should win most of
these rows, and no column shows /hvm. The kernels of trap and pv run at CPL 3, which is native here.
";

const EMULATED: &str = "\
This host is emulated by QEMU: its times are the emulator's and mean nothing; its exits are right.
";

/// Which host it is, in two lines.
pub fn host_lines(host: &HostInfo) -> String {
    let mut text = String::new();
    let under = host
        .hypervisor
        .as_ref()
        .map_or(String::new(), |name| format!(", itself under {name}"));
    let pages = host.huge_pages.as_deref().unwrap_or("unknown");
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "platform  {}, gates for {}{under}",
        host.kvm, host.platform
    );
    let _ = writeln!(
        text,
        "host      {}, TSC {} kHz, Linux {}, huge pages {pages}, load {} on {} processors",
        host.cpu,
        host.tsc_khz,
        host.kernel,
        host.load
            .map_or_else(|| "unknown".into(), |load| format!("{load:.1}")),
        host.processors,
    );
    text
}

fn header(report: &Report) -> String {
    let (host, conditions) = (&report.host, &report.conditions);
    let kind = if conditions.quick { "quick" } else { "full" };
    let mut text = host_lines(host);
    let _ = writeln!(
        text,
        "build     paravane {} ({}), guests optimized; {kind} run, {} rounds, {:.1} s",
        host.version,
        host.build,
        conditions.rounds,
        report.took_ms as f64 / 1e3,
    );
    let beside = if conditions.beside_another_vm {
        "another VM was open all the while; "
    } else {
        ""
    };
    let _ = writeln!(
        text,
        "also      {beside}consoles wrote to {}",
        conditions.console
    );
    text
}

fn extra_line(extra: &Extra) -> String {
    let value = extra.value.map_or_else(
        || "not measured".into(),
        |value| format!("{value:.3} {}", extra.unit),
    );
    format!(
        "{:<18} {:<3} {value:<12} {}\n",
        extra.name, extra.mode, extra.about
    )
}

fn goal_line(goal: &Goal) -> String {
    let with_unit = |value: f64| match goal.unit {
        "x" => times(value),
        unit => format!("{value:.2} {unit}"),
    };
    let shown = |value: Option<f64>| value.map_or_else(|| "-".into(), with_unit);
    let (value, median) = (shown(goal.value), shown(goal.by_medians));
    let found = match value == median {
        true => value,
        false => format!("{value} [{median}]"),
    };
    let limit = format!("at most {}", with_unit(goal.limit));
    format!(
        "  {:<12} {:>2}  {:<62} {found:<18} {limit}\n",
        goal.verdict.name(),
        goal.claim,
        goal.text
    )
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
