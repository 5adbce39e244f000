//! The table: a row an operation, a column a mode. Called by `render`.

use comfy_table::{Cell as Place, ContentArrangement, Table, presets};

use super::number::{duration, exits, quotient, scaled};
use crate::floor::Platform;
use crate::report::{By, Cell, Column, Figure, Report};

/// How wide a cell's ratios are in one line; wider ones have a line each, so that four modes fit.
const WIDTH: usize = 19;
/// How much of a failure's reason fits a cell.
const REASON: usize = 18;

/// The table as text.
pub fn table(report: &Report) -> String {
    let mut header = vec!["row"];
    header.extend(&report.modes);
    let mut table = plain(&header);
    for row in &report.rows {
        let mut places = vec![Place::new(row.name)];
        for mode in &report.modes {
            let column = row.modes.get(*mode);
            let shown = column.map_or_else(|| "-".into(), |column| cell(column, report));
            places.push(Place::new(shown));
        }
        table.add_row(places);
    }
    ruled(&table)
}

/// A table without lines, of these columns: there is no room for lines in 100 columns.
pub fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    table
}

/// Its text, with a rule below the header.
pub fn ruled(table: &Table) -> String {
    let table = table.to_string();
    let lines: Vec<&str> = table.lines().map(str::trim_end).collect();
    let width = lines.iter().map(|line| line.chars().count()).max();
    let mut text = String::new();
    for (at, line) in lines.into_iter().enumerate() {
        text.push_str(line);
        text.push('\n');
        if at == 0 {
            text.push_str(&"─".repeat(width.unwrap_or(0)));
            text.push('\n');
        }
    }
    text
}

fn cell(column: &Column, report: &Report) -> String {
    let Some(figure) = column.cell.figure() else {
        return missing(&column.cell);
    };
    let mut text = format!("{}\n{}", time(figure), detail(figure));
    let shown: Vec<String> = ratios(column, report)
        .map(|(by, ratio)| format!("/{} {}", by.name(), quotient(ratio)))
        .collect();
    let joined = shown.join(" ");
    let lines = match joined.chars().count() <= WIDTH {
        true => joined,
        false => shown.join("\n"),
    };
    if !lines.is_empty() {
        text.push('\n');
        text.push_str(&lines);
    }
    text
}

/// Two of them at most: by the floor, or else by hvm where that is a reference; and by pv.
fn ratios(column: &Column, report: &Report) -> impl Iterator<Item = (By, f64)> {
    let by = |by| Some((by, column.ratio(by)?));
    let hvm = by(By::Hvm).filter(|_| report.host.platform == Platform::Hardware);
    [by(By::Floor).or(hvm), by(By::Pv)].into_iter().flatten()
}

/// Why there is no figure.
pub fn missing(cell: &Cell) -> String {
    match cell {
        Cell::Measured(_) => String::new(),
        Cell::Absent => "-".into(),
        Cell::NotMeasured => "not measured".into(),
        Cell::Failed { why } => {
            format!("failed:\n{}", why.chars().take(REASON).collect::<String>())
        }
    }
}

/// The time of one operation.
pub fn time(figure: &Figure) -> String {
    format!(
        "{} ±{:.0}%",
        duration(figure.ns.median),
        figure.ns.percent()
    )
}

/// Its cycles, and its exits where they were counted.
pub fn detail(figure: &Figure) -> String {
    let cycles = scaled(figure.cycles.median);
    match figure.exits_per_op {
        Some(count) => format!("{cycles} cyc {}", exits(count)),
        None => format!("{cycles} cyc"),
    }
}
