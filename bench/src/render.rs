//! The report for people: a header, the table, and the goals.

use std::fmt::Write;

use comfy_table::{Cell as Place, CellAlignment, ContentArrangement, Table, presets};

use crate::floor::Platform;
use crate::goals::Goal;
use crate::report::{Bare, Cell, Extra, Figure, Report, Row};

/// The report as text, with a newline at its end.
pub fn render(report: &Report) -> String {
    let mut text = header(report);
    text.push('\n');
    for line in table(&report.rows).lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
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
Each cell: the median, half the distance between the tenths in percent, how many times its floor (x);
cycles of the time-stamp counter, and exits to the VMM's process, both of one operation. The floor is
the bare mechanism in a raw VM of a few instructions. Ratios compare the lower tenths of the samples,
which a busy host disturbs least; pv:hvm below 1: pv is faster. bench/CLAIMS.md names what is claimed,
and where pv loses.
";

const INTERPRETED: &str = "\
This KVM interprets what a guest does at CPL 0: all of hvm, and pv's monitor. So hvm's figures are its
interpreter's and say nothing of VMX or SVM, where hvm should win most of these rows.
";

const EMULATED: &str = "\
This host is emulated by QEMU: its times are the emulator's and mean nothing; its exits are right.
";

fn header(report: &Report) -> String {
    let (host, conditions) = (&report.host, &report.conditions);
    let mut text = String::new();
    let under = host
        .hypervisor
        .as_ref()
        .map_or(String::new(), |name| format!(", itself under {name}"));
    let pages = host.huge_pages.as_deref().unwrap_or("unknown");
    let kind = if conditions.quick { "quick" } else { "full" };
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

fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["row", "hvm", "pv", "floor", "pv:hvm"]);
    for row in rows {
        table.add_row([
            Place::new(row.name),
            Place::new(guest(&row.hvm, row.hvm_to_floor)),
            Place::new(guest(&row.pv, row.pv_to_floor)),
            Place::new(floor(row)),
            Place::new(row.pv_to_hvm.map_or_else(|| "-".into(), times))
                .set_alignment(CellAlignment::Right),
        ]);
    }
    table.to_string()
}

fn guest(cell: &Cell, to_floor: Option<f64>) -> String {
    let Some(figure) = cell.figure() else {
        return missing(cell);
    };
    let by = to_floor.map_or(String::new(), |ratio| format!("  {}", times(ratio)));
    format!("{}{by}\n{}", time(figure), detail(figure))
}

/// What both columns are divided by, or what each is.
fn floor(row: &Row) -> String {
    match (&row.hvm_floor, &row.pv_floor) {
        (None, None) => "-".into(),
        (Some(hvm), Some(pv)) if hvm == pv => bare("", hvm),
        (Some(hvm), Some(pv)) => format!("{}\n{}", bare_line("hvm ", hvm), bare_line("pv ", pv)),
        (Some(hvm), None) => bare("hvm ", hvm),
        (None, Some(pv)) => bare("pv ", pv),
    }
}

fn bare(whose: &str, bare: &Bare) -> String {
    match bare.cell.figure() {
        Some(figure) => format!("{}\n{}", bare_line(whose, bare), detail(figure)),
        None => bare_line(whose, bare),
    }
}

fn bare_line(whose: &str, bare: &Bare) -> String {
    let what = bare.cell.figure().map_or_else(|| missing(&bare.cell), time);
    format!("{whose}{what}  {}", bare.mechanism)
}

fn missing(cell: &Cell) -> String {
    match cell {
        Cell::Measured(_) => String::new(),
        Cell::Absent => "-".into(),
        Cell::NotMeasured => "not measured".into(),
        Cell::Failed { why } => format!("failed: {}", why.chars().take(40).collect::<String>()),
    }
}

fn time(figure: &Figure) -> String {
    format!(
        "{} ±{:.0}%",
        duration(figure.ns.median),
        figure.ns.percent()
    )
}

fn detail(figure: &Figure) -> String {
    let cycles = grouped(figure.cycles.median);
    match figure.exits_per_op {
        Some(exits) => format!("{cycles} cycles, {}", exits_text(exits)),
        None => format!("{cycles} cycles"),
    }
}

fn exits_text(exits: f64) -> String {
    match exits {
        0.0 => "0 exits".into(),
        1.0 => "1 exit".into(),
        exits if exits < 0.1 => format!("1/{:.0} exit", 1.0 / exits),
        exits if exits.fract() == 0.0 => format!("{exits:.0} exits"),
        exits => format!("{exits:.2} exits"),
    }
}

/// A time with three digits that count.
fn duration(ns: f64) -> String {
    match ns {
        ns if ns < 999.5 => format!("{} ns", three(ns)),
        ns if ns < 999.5e3 => format!("{} us", three(ns / 1e3)),
        ns if ns < 999.5e6 => format!("{} ms", three(ns / 1e6)),
        ns => format!("{} s", three(ns / 1e9)),
    }
}

fn three(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// A ratio; one far below 1 as a fraction.
fn times(ratio: f64) -> String {
    match ratio {
        ratio if ratio > 0.0 && ratio < 0.0995 => format!("1/{}", three(1.0 / ratio)),
        ratio => format!("{}x", three(ratio)),
    }
}

/// A count with its thousands apart.
fn grouped(value: f64) -> String {
    if value < 99.5 {
        return three(value);
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
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
