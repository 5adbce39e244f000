//! The network's part of the report for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::report::NetRow;
use crate::io::render::rate;
use crate::io::report::Found;
use crate::render::table::{plain, ruled};

/// A table, and what was not measured and why. Nothing without rows.
pub fn render(rows: &[NetRow]) -> String {
    let mut text = String::new();
    if rows.is_empty() {
        return text;
    }
    let mut table = plain(&[
        "who",
        "us/operation",
        "",
        "operations/s",
        "MiB/s",
        "exits",
        "doorbells",
        "interrupts",
        "copied",
        "frames",
        "cpu",
        "device",
    ]);
    let mut before = None;
    for row in rows {
        let title = (row.work, row.over);
        if before != Some(title) {
            table.add_row([format!("{}, {}", row.work.name(), row.over.name())]);
            before = Some(title);
        }
        let name = format!("  {} {}", row.mode, row.device);
        match &row.found {
            Some(found) => table.add_row(cells(name, row, found)),
            None => table.add_row([name, "not measured".to_owned()]),
        };
    }
    // Writing to a string does not fail.
    let _ = writeln!(text, "{}", ruled(&table));
    text.push_str(
        "Per operation, as above; frames are of either direction. Streams are hashed at both ends; what\n\
         comes back of round trips and pings is compared.\n",
    );
    for why in rows
        .iter()
        .filter_map(|row| row.why.as_deref())
        .collect::<BTreeSet<_>>()
    {
        let _ = writeln!(text, "Not measured: {why}.");
    }
    text.push('\n');
    text
}

fn cells(name: String, row: &NetRow, found: &Found) -> [String; 12] {
    let per_second = 1e9 / found.ns.median.max(1.0);
    let is_host = row.mode == "host";
    let counted = |value: f64| if is_host { "-".to_owned() } else { rate(value) };
    [
        name,
        format!("{:.2}", found.ns.median / 1e3),
        format!("±{:.0}%", found.ns.percent()),
        format!("{per_second:.0}"),
        format!("{:.1}", per_second * row.bytes as f64 / f64::from(1 << 20)),
        counted(found.exits),
        counted(found.doorbells),
        counted(found.interrupts),
        counted(found.copied),
        row.frames.map_or("-".to_owned(), rate),
        format!("{:.0}%", found.cpu_percent),
        match is_host {
            true => "-".to_owned(),
            false => format!("{:.0}%", found.device_cpu_percent),
        },
    ]
}
