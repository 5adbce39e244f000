//! What moved between a baseline and a run.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::baseline::{Entry, RatioName};
use super::{Baseline, BaselineError, Counted, Counts, Ratio, RowCounts};
use crate::report::Report;

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// This platform: `vmx`, `svm`, `kvm_pvm` or `unknown`.
    pub platform: String,
    /// Whether the baseline has an entry of it. If not, only counts on which all its entries agree were
    /// compared.
    pub platform_known: bool,
    /// How many counts were compared.
    pub counts: usize,
    /// How many ratios were compared.
    pub ratios: usize,
    /// Why no ratios were, if that was not wished.
    pub ratios_left_out: Option<String>,
    /// What is not as it was.
    pub moved: Vec<Moved>,
    /// What the baseline's entries do not agree on, as `ROW MODE`, where the platform is not known.
    pub not_compared: Vec<String>,
}

/// What is not as it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    /// What it is.
    pub kind: MovedKind,
    /// The row.
    pub row: String,
    /// The mode, or the ratio's name.
    pub column: String,
    /// Which count: `exits`, `machine_calls` or `batch_calls`.
    pub count: Option<&'static str>,
    /// What the baseline has.
    pub was: String,
    /// What this run has.
    pub now: String,
    /// How far it might have moved, as a factor; of a ratio alone.
    pub factor: Option<f64>,
}

/// What moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MovedKind {
    /// A count.
    Count,
    /// A ratio, out of its tolerance.
    Ratio,
    /// A row in a mode: it came, went, or does not work.
    Row,
}

/// Compare a run with a baseline: its counts, and the ratios of a report where there is one. Of `only` these
/// rows where it is not empty.
///
/// # Errors
/// [`BaselineError::Platform`], when the baseline says nothing that holds here.
pub fn compare(
    baseline: &Baseline,
    platform: &str,
    counts: &[RowCounts],
    report: Option<&Report>,
    only: &[String],
) -> Result<Comparison, BaselineError> {
    let (entry, platform_known) = baseline.entry(platform)?;
    let mut found = Comparison {
        platform: platform.to_owned(),
        platform_known,
        counts: 0,
        ratios: 0,
        ratios_left_out: None,
        moved: Vec::new(),
        not_compared: Vec::new(),
    };
    for row in counts {
        for (mode, now) in &row.modes {
            let was = entry.counts.get(row.row).and_then(|modes| modes.get(*mode));
            found.cell(row.row, mode, was, now);
        }
    }
    let wants = |row: &String| only.is_empty() || only.contains(row);
    found.lost(&entry, counts, &wants);
    if let Some(report) = report {
        for (row, ratios) in entry.ratios.iter().filter(|(row, _)| wants(row)) {
            for (name, was) in ratios {
                let now = report.rows.iter().find(|now| now.name == row);
                found.ratio(row, *name, *was, now.and_then(|row| name.of(row)));
            }
        }
    }
    Ok(found)
}

impl Comparison {
    /// Whether nothing moved.
    pub fn is_same(&self) -> bool {
        self.moved.is_empty()
    }

    /// Whether nothing was compared: then that nothing moved says nothing.
    pub fn is_empty(&self) -> bool {
        self.counts == 0 && self.ratios == 0 && self.moved.is_empty()
    }

    fn cell(&mut self, row: &str, mode: &str, was: Option<&Option<Counts>>, now: &Counted) {
        match (was, now) {
            (None, _) if !self.platform_known => self.not_compared.push(format!("{row} {mode}")),
            (Some(Some(was)), Counted::Counts(now)) => self.count(row, mode, *was, *now),
            (Some(None), Counted::Absent) => {}
            (was, now) => {
                let was = match was {
                    Some(Some(_)) => "counted",
                    Some(None) => "absent",
                    None => "not in the baseline",
                };
                self.row(row, mode, was.to_owned(), state(now));
            }
        }
    }

    fn count(&mut self, row: &str, mode: &str, was: Counts, now: Counts) {
        for (name, was, now) in [
            ("exits", was.exits, now.exits),
            ("machine_calls", was.machine_calls, now.machine_calls),
            ("batch_calls", was.batch_calls, now.batch_calls),
        ] {
            self.counts += 1;
            if was != now {
                self.moved.push(Moved {
                    kind: MovedKind::Count,
                    row: row.to_owned(),
                    column: mode.to_owned(),
                    count: Some(name),
                    was: was.to_string(),
                    now: now.to_string(),
                    factor: None,
                });
            }
        }
    }

    fn row(&mut self, row: &str, mode: &str, was: String, now: String) {
        self.moved.push(Moved {
            kind: MovedKind::Row,
            row: row.to_owned(),
            column: mode.to_owned(),
            count: None,
            was,
            now,
            factor: None,
        });
    }

    /// What the baseline has and the run has not.
    fn lost(&mut self, entry: &Entry, counts: &[RowCounts], wants: &dyn Fn(&String) -> bool) {
        let counted: BTreeMap<_, _> = counts.iter().map(|row| (row.row, &row.modes)).collect();
        for (row, modes) in entry.counts.iter().filter(|(row, _)| wants(row)) {
            let now = counted.get(row.as_str());
            for (mode, was) in modes {
                if !now.is_some_and(|modes| modes.contains_key(mode.as_str())) {
                    let was = if was.is_some() { "counted" } else { "absent" };
                    self.row(row, mode, was.into(), "no such row any more".into());
                }
            }
        }
    }

    fn ratio(&mut self, row: &str, name: RatioName, was: Ratio, now: Option<f64>) {
        self.ratios += 1;
        if now.is_some_and(|now| was.allows(now)) {
            return;
        }
        self.moved.push(Moved {
            kind: MovedKind::Ratio,
            row: row.to_owned(),
            column: name.to_string(),
            count: None,
            was: number(was.value),
            now: now.map_or_else(|| "not measured".into(), number),
            factor: Some(was.factor),
        });
    }
}

fn state(counted: &Counted) -> String {
    match counted {
        Counted::Counts(_) => "counted".into(),
        Counted::Absent => "absent".into(),
        Counted::Failed { why } => format!("failed, {why}"),
    }
}

/// With three digits that count, however small it is.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 0.01 => format!("{value:.2}"),
        value => format!("{value:.2e}"),
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            row,
            column,
            was,
            now,
            ..
        } = self;
        match (self.count, self.factor) {
            (Some(count), _) => {
                let count = count.replace('_', " ");
                write!(f, "{row} {column}: {count} per operation {was} -> {now}")
            }
            (None, Some(factor)) => write!(
                f,
                "{row} {column}: {was} -> {now}, more than a factor of {factor} away"
            ),
            (None, None) => write!(f, "{row} {column}: {was} -> {now}"),
        }
    }
}

/// The comparison for people: a line for each that moved, then what was left out, and a closing line.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for moved in &self.moved {
            writeln!(f, "MOVED  {moved}")?;
        }
        let platform = &self.platform;
        if !self.platform_known {
            writeln!(
                f,
                "the baseline has nothing about {platform}: compared with what its platforms agree on"
            )?;
        }
        if !self.not_compared.is_empty() {
            let rows = self.not_compared.join(", ");
            writeln!(f, "not compared, as they do not agree on it: {rows}")?;
        }
        if let Some(why) = &self.ratios_left_out {
            writeln!(f, "ratios were not compared: {why}")?;
        }
        writeln!(
            f,
            "{} counts and {} ratios compared on {platform}, {} moved",
            self.counts,
            self.ratios,
            self.moved.len()
        )
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
