//! Compares a run with a baseline: counts exactly, ratios within their tolerance, and never a time.
//!
//! [`count`] counts what each row does, `per_op` holds such a count as a fraction, [`Baseline`] is the file
//! that remembers counts and ratios of each platform, and [`compare`] says what moved. `docs/bench.md` has
//! every field.

mod baseline;
mod compare;
mod counts;
mod document;
mod error;
#[cfg(test)]
mod fixtures;
mod per_op;

pub use baseline::{BASELINE_SCHEMA, Baseline, Entry, FACTOR, Ratio, RatioName};
pub use compare::{Comparison, Moved, MovedKind, compare};
pub use counts::{Counted, Counts, RowCounts, count};
pub use document::{CHECK_SCHEMA, CheckReport, why_no_ratios};
pub use error::BaselineError;
pub use per_op::PerOp;
