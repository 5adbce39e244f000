//! The bare mechanisms that the table divides by, each once. Called by `render`.

use comfy_table::Cell as Place;

use super::table::{detail, missing, plain, ruled, time};
use crate::report::{Bare, Report};

/// How many rows are named that a mechanism divides; of more there is the number.
const NAMED: usize = 3;

/// The mechanisms as text; nothing when there are none.
pub fn floors(report: &Report) -> String {
    let mut found: Vec<(&Bare, Vec<String>)> = Vec::new();
    for row in &report.rows {
        for mode in &report.modes {
            let column = row.modes.get(*mode);
            let Some(bare) = column.and_then(|column| column.floor.as_ref()) else {
                continue;
            };
            let at = match found.iter().position(|(known, _)| *known == bare) {
                Some(at) => at,
                None => {
                    found.push((bare, Vec::new()));
                    found.len() - 1
                }
            };
            let rows = &mut found[at].1;
            // Each row once: in which of its columns, the columns show.
            if rows.last().is_none_or(|last| last != row.name) {
                rows.push(row.name.to_owned());
            }
        }
    }
    if found.is_empty() {
        return String::new();
    }
    let mut table = plain(&["floor", "", "", "divides"]);
    for (bare, rows) in found {
        let (cost, detail) = match bare.cell.figure() {
            Some(figure) => (time(figure), detail(figure)),
            None => (missing(&bare.cell).replace('\n', " "), String::new()),
        };
        let rows = match rows.len() {
            0..=NAMED => rows.join(", "),
            count => format!("{count} rows"),
        };
        table.add_row([&bare.mechanism, &cost, &detail, &rows].map(Place::new));
    }
    format!("\n{}", ruled(&table))
}
