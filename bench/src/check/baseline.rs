//! The file that remembers: of each platform, each row's counts and ratios.

use std::collections::BTreeMap;
use std::fmt;

use hypercall_abi::Mode;
use serde::{Deserialize, Serialize};

use super::{BaselineError, Counted, Counts, RowCounts};
use crate::report::{By, Report, Row};

/// The version of [`Baseline`] as a file; it rises when a field goes or changes its meaning.
pub const BASELINE_SCHEMA: u64 = 1;
/// What tells a baseline from other JSON, a report for one.
const KIND: &str = "paravane bench baseline";
/// How far a ratio may move, as a factor, where nobody says otherwise. Generous: a busy host moves it, too.
pub const FACTOR: f64 = 2.0;

/// What was found once, of each platform by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    kind: String,
    schema: u64,
    /// The entries, by platform: `vmx`, `svm` or `kvm_pvm`.
    pub platforms: BTreeMap<String, Entry>,
}

/// What was found on one platform.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// By row and mode; `None` where the mode's image has no such thing.
    pub counts: BTreeMap<String, BTreeMap<String, Option<Counts>>>,
    /// By row and the ratio's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ratios: BTreeMap<String, BTreeMap<RatioName, Ratio>>,
}

/// A ratio of a row: a mode's column, by its floor or by another column. As text, and so in files:
/// `trap_to_pv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RatioName {
    /// Whose column is divided.
    pub mode: Mode,
    /// By what.
    pub by: By,
}

/// A ratio, and how far it may move.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    /// What was found: above 0.
    pub value: f64,
    /// It may be so many times larger or smaller: 1 or more.
    pub factor: f64,
}

impl Ratio {
    /// Whether another value is near enough.
    pub fn allows(&self, value: f64) -> bool {
        value >= self.value / self.factor && value <= self.value * self.factor
    }
}

impl RatioName {
    /// Every ratio that is remembered. `hvm_to_pv` is not: `pv_to_hvm` says the same.
    fn all() -> impl Iterator<Item = Self> {
        let of = |mode| By::ALL.map(|by| Self { mode, by });
        Mode::ALL.into_iter().flat_map(of).filter(|name| {
            let is_itself = name.mode.name() == name.by.name();
            !is_itself && (name.mode, name.by) != (Mode::Hvm, By::Pv)
        })
    }

    /// The ratio of a row, where it was measured.
    pub fn of(self, row: &Row) -> Option<f64> {
        row.column(self.mode)?.ratio(self.by)
    }
}

impl fmt::Display for RatioName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_to_{}", self.mode.name(), self.by.name())
    }
}

impl From<RatioName> for String {
    fn from(name: RatioName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for RatioName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::all()
            .find(|name| name.to_string() == text)
            .ok_or_else(|| {
                let known: Vec<String> = Self::all().map(String::from).collect();
                format!(
                    "no ratio is called {text:?}; there are {}",
                    known.join(", ")
                )
            })
    }
}

/// What a file must have before the rest of it is looked at.
#[derive(Deserialize)]
struct Head {
    kind: String,
    schema: u64,
}

impl Default for Baseline {
    fn default() -> Self {
        Self {
            kind: KIND.to_owned(),
            schema: BASELINE_SCHEMA,
            platforms: BTreeMap::new(),
        }
    }
}

impl Baseline {
    /// Read a file's text.
    ///
    /// # Errors
    /// [`BaselineError`], for what is no baseline, or one of another version.
    pub fn parse(text: &str) -> Result<Self, BaselineError> {
        let whole: serde_json::Value =
            serde_json::from_str(text).map_err(|error| BaselineError::Json(error.to_string()))?;
        let head = Head::deserialize(&whole).ok();
        let head = head.filter(|head| head.kind == KIND);
        let found = head.ok_or(BaselineError::Kind)?.schema;
        if found != BASELINE_SCHEMA {
            return Err(BaselineError::Schema { found });
        }
        // From the text, so that a complaint has its line.
        let baseline: Self = serde_json::from_str(text)
            .map_err(|error| BaselineError::Content(error.to_string()))?;
        baseline.check()?;
        Ok(baseline)
    }

    fn check(&self) -> Result<(), BaselineError> {
        for (platform, entry) in &self.platforms {
            for (row, ratios) in &entry.ratios {
                for (name, ratio) in ratios {
                    let Ratio { value, factor } = *ratio;
                    let is_sound =
                        value.is_finite() && value > 0.0 && factor.is_finite() && factor >= 1.0;
                    if !is_sound {
                        return Err(BaselineError::Content(format!(
                            "{name} of {row} on {platform} has the value {value} and the factor {factor}: a \
                             value is above 0, a factor 1 or more"
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    /// The file's text.
    ///
    /// # Errors
    /// [`BaselineError::Content`] for a ratio that is no number.
    pub fn text(&self) -> Result<String, BaselineError> {
        self.check()?;
        serde_json::to_string_pretty(self)
            .map(|text| text + "\n")
            .map_err(|error| BaselineError::Content(error.to_string()))
    }

    /// Remember what a run found on a platform. The rows that were counted, and without `only` all others too,
    /// lose what was remembered of them; ratios stay where none are given. A ratio that was there keeps its
    /// factor.
    ///
    /// # Errors
    /// [`BaselineError::Failed`], when a row did not work.
    pub fn update(
        &mut self,
        platform: &str,
        counts: &[RowCounts],
        report: Option<&Report>,
        only: &[String],
    ) -> Result<(), BaselineError> {
        let mut fresh = Vec::new();
        for RowCounts { row, modes } in counts {
            fresh.push(((*row).to_owned(), remembered(row, modes)?));
        }
        let entry = self.platforms.entry(platform.to_owned()).or_default();
        let is_replaced = |row: &String| only.is_empty() || only.contains(row);
        entry.counts.retain(|row, _| !is_replaced(row));
        entry.counts.extend(fresh);
        if let Some(report) = report {
            let before = entry.ratios.clone();
            entry.ratios.retain(|row, _| !is_replaced(row));
            for row in &report.rows {
                let ratios = ratios(row, before.get(row.name));
                if !ratios.is_empty() {
                    entry.ratios.insert(row.name.to_owned(), ratios);
                }
            }
        }
        Ok(())
    }

    /// What holds on a platform: its own entry, and true; or the counts on which all entries agree, and false.
    ///
    /// # Errors
    /// [`BaselineError::Platform`], when fewer than two entries could agree.
    pub fn entry(&self, platform: &str) -> Result<(Entry, bool), BaselineError> {
        if let Some(entry) = self.platforms.get(platform) {
            return Ok((entry.clone(), true));
        }
        let mut others = self.platforms.values();
        let (Some(first), true) = (others.next(), self.platforms.len() > 1) else {
            let known: Vec<&str> = self.platforms.keys().map(String::as_str).collect();
            return Err(BaselineError::Platform {
                platform: platform.to_owned(),
                known: match known.is_empty() {
                    true => "none".to_owned(),
                    false => known.join(", "),
                },
            });
        };
        let mut common = first.counts.clone();
        for other in others {
            for (row, modes) in &mut common {
                let other = other.counts.get(row);
                modes.retain(|mode, counts| other.and_then(|row| row.get(mode)) == Some(counts));
            }
        }
        let entry = Entry {
            counts: common,
            ..Entry::default()
        };
        Ok((entry, false))
    }
}

fn remembered(
    row: &str,
    modes: &BTreeMap<&'static str, Counted>,
) -> Result<BTreeMap<String, Option<Counts>>, BaselineError> {
    let of = |(mode, counted): (&&str, &Counted)| match counted {
        Counted::Counts(counts) => Ok(((*mode).to_owned(), Some(*counts))),
        Counted::Absent => Ok(((*mode).to_owned(), None)),
        Counted::Failed { why } => Err(BaselineError::Failed {
            row: row.to_owned(),
            mode: (*mode).to_owned(),
            why: why.clone(),
        }),
    };
    modes.iter().map(of).collect()
}

fn ratios(row: &Row, before: Option<&BTreeMap<RatioName, Ratio>>) -> BTreeMap<RatioName, Ratio> {
    let found = RatioName::all().filter_map(|name| {
        let value = name.of(row).filter(|value| *value > 0.0)?;
        let before = before.and_then(|ratios| ratios.get(&name));
        let factor = before.map_or(FACTOR, |ratio| ratio.factor);
        // Three digits: a ratio has no more that mean anything.
        Some((
            name,
            Ratio {
                value: rounded(value),
                factor,
            },
        ))
    });
    found.collect()
}

fn rounded(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

#[cfg(test)]
#[path = "baseline_tests.rs"]
mod tests;
