//! What each row of the guest does, counted in each mode.

use std::collections::BTreeMap;

use hypercall_abi::Mode;
use serde::{Deserialize, Serialize};

use super::PerOp;
use crate::columns::MODES;
use crate::error::BenchError;
use crate::floor::KvmOn;
use crate::micro;
use crate::options::Options;
use crate::watch::Watch;

/// How often one operation leaves for the VMM, and calls it. Calls of tier 1, to the monitor, stay inside the
/// virtual machine: the VMM does not see them, and they are not here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Counts {
    /// Exits to the VMM's process, for whatever reason.
    #[serde(skip_serializing_if = "PerOp::is_zero")]
    pub exits: PerOp,
    /// Calls of tier 2, each of which is an exit.
    #[serde(skip_serializing_if = "PerOp::is_zero")]
    pub machine_calls: PerOp,
    /// Calls of tier 3: entries of the batch ring that the VMM ran.
    #[serde(skip_serializing_if = "PerOp::is_zero")]
    pub batch_calls: PerOp,
}

/// What was counted of a row in a mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Counted {
    /// These.
    Counts(Counts),
    /// This mode's image has no such thing.
    Absent,
    /// It did not work.
    Failed {
        /// Why.
        why: String,
    },
}

/// What was counted of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowCounts {
    /// The row's name.
    pub row: &'static str,
    /// By the mode's name; without those in which the counts would be another each time.
    pub modes: BTreeMap<&'static str, Counted>,
}

/// Count what the rows of the guest do, in each mode; of `only` these where it is not empty. Takes a second or
/// two. Rows of whole lives have no counts.
///
/// # Errors
/// [`BenchError`], with what mends it. A row that fails is no error: its counts say so.
pub fn count(only: &[String]) -> Result<Vec<RowCounts>, BenchError> {
    let options = Options {
        only: only.to_vec(),
        ..Options::default()
    };
    options.check()?;
    let names: Vec<&'static str> = micro::ROWS
        .iter()
        .map(|row| row.name)
        .filter(|name| options.wants(name))
        .collect();
    let mut rows: Vec<RowCounts> = names
        .iter()
        .map(|row| RowCounts {
            row,
            modes: BTreeMap::new(),
        })
        .collect();
    if rows.is_empty() {
        return Ok(rows);
    }
    let _on = KvmOn::hold()?;
    let watch = Watch::start().map_err(BenchError::Thread)?;
    for &mode in MODES {
        let counted = micro::ROWS.iter().filter(|row| row.is_counted(mode));
        let wanted = counted
            .map(|row| row.name)
            .filter(|name| names.contains(name));
        for (name, counted) in micro::count(mode, &wanted.collect::<Vec<_>>(), &watch)? {
            let row = rows.iter_mut().find(|row| row.row == name);
            if let Some(row) = row {
                row.modes.insert(Mode::name(mode), counted);
            }
        }
    }
    Ok(rows)
}
