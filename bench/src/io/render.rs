//! The report for people.

use std::fmt::Write as _;

use super::report::{IoReport, IoRow};
use crate::goals::Verdict;
use crate::render::host_lines;
use crate::render::table::{plain, ruled};

/// The report as text.
pub fn render(report: &IoReport) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(text, "{}", host_lines(&report.host));
    let mut table = plain(&[
        "who",
        "us/request",
        "",
        "requests/s",
        "MiB/s",
        "exits",
        "doorbells",
        "interrupts",
        "copied",
        "cpu",
        "device",
    ]);
    let mut before = None;
    for row in &report.rows {
        let title = (row.work, row.medium);
        if before != Some(title) {
            let name = format!("{}, {}", row.work.name(), row.medium.name());
            table.add_row([name]);
            before = Some(title);
        }
        table.add_row(cells(row));
    }
    let _ = writeln!(text, "{}", ruled(&table));
    text.push_str(
        "Per request: exits of the vCPU to the VMM's process, doorbells, interrupts, bytes of payload that\n\
         the VMM copied. cpu and device: how busy the vCPU's (or the host loop's) and the device's thread\n\
         were. us/request: the median, and half the distance between the tenths. All data was checked.\n\n",
    );
    text.push_str(&super::net::render(&report.net));
    rates(&mut text, report);
    for goal in &report.goals {
        let verdict = match goal.verdict {
            Verdict::Pass => "PASS",
            Verdict::Fail => "FAIL",
            Verdict::NotMeasured => "not measured",
        };
        let value = goal
            .value
            .map_or("-".to_owned(), |value| format!("{value:.3}"));
        let (text_of, limit, unit) = (goal.text, goal.limit, goal.unit);
        let _ = writeln!(
            text,
            "{:>3} {verdict:<12} {text_of}: {value}{unit} (limit {limit}{unit})",
            goal.claim
        );
    }
    text
}

fn rates(text: &mut String, report: &IoReport) {
    let mut table = plain(&[
        "what",
        "us/operation",
        "",
        "MiB/s",
        "exits",
        "interrupts",
        "copied",
    ]);
    for row in &report.rates {
        let found = &row.found;
        let per_second = 1e9 / found.ns.median.max(1.0);
        table.add_row([
            format!(
                "{}, {} B, {} {}",
                row.what.name(),
                row.bytes,
                row.mode,
                row.device
            ),
            format!("{:.2}", found.ns.median / 1e3),
            format!("±{:.0}%", found.ns.percent()),
            format!("{:.1}", per_second * row.bytes as f64 / f64::from(1 << 20)),
            rate(found.exits),
            rate(found.interrupts),
            rate(found.copied),
        ]);
    }
    // Writing to a string does not fail.
    let _ = writeln!(text, "{}", ruled(&table));
    if let Some(idle) = &report.idle {
        let _ = writeln!(
            text,
            "An idle guest in {} with {}: {:.2}% of a processor, {:.1} MiB beside its memory.",
            idle.mode,
            idle.devices,
            idle.cpu_percent,
            idle.resident_bytes as f64 / f64::from(1 << 20)
        );
    }
    text.push('\n');
}

/// So many an operation.
pub fn rate(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value < 0.0005 => format!("{value:.1e}"),
        value => format!("{value:.3}"),
    }
}

fn cells(row: &IoRow) -> [String; 11] {
    let found = &row.found;
    let per_second = row.per_second();
    let is_host = row.mode == "host";
    let counted = |value: f64| if is_host { "-".to_owned() } else { rate(value) };
    [
        format!("  {} {}", row.mode, row.device),
        format!("{:.2}", found.ns.median / 1e3),
        format!("±{:.0}%", found.ns.percent()),
        format!("{per_second:.0}"),
        format!(
            "{:.0}",
            per_second * row.work.bytes as f64 / f64::from(1 << 20)
        ),
        counted(found.exits),
        counted(found.doorbells),
        counted(found.interrupts),
        counted(found.copied),
        format!("{:.0}%", found.cpu_percent),
        if is_host {
            "-".to_owned()
        } else {
            format!("{:.0}%", found.device_cpu_percent)
        },
    ]
}
