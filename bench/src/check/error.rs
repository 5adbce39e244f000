//! What is wrong with a baseline, and what mends it.

use super::baseline::BASELINE_SCHEMA;

/// A baseline cannot be used. The sentences do not name the file: the caller knows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// It is no JSON.
    #[error("not JSON ({0}); name a file that `paravane bench --write-baseline` wrote")]
    Json(String),
    /// It is JSON, and no baseline.
    #[error(
        "not a baseline of paravane bench; name a file that `paravane bench --write-baseline` wrote"
    )]
    Kind,
    /// It is a baseline of another version.
    #[error(
        "a baseline of schema {found}, and this paravane reads schema {BASELINE_SCHEMA}; write it again with \
         `paravane bench --write-baseline`, on each platform that it holds"
    )]
    Schema {
        /// The version that it says.
        found: u64,
    },
    /// It is a baseline, and something in it is wrong.
    #[error("{0}; mend it by hand, or write it again with `paravane bench --write-baseline`")]
    Content(String),
    /// It says nothing that holds on this platform.
    #[error(
        "nothing about the platform {platform}, and it takes two others to tell what holds everywhere (it has \
         {known}); write this one with `paravane bench --write-baseline`"
    )]
    Platform {
        /// This platform.
        platform: String,
        /// The platforms that it knows.
        known: String,
    },
    /// A row failed in the run that was to become a baseline.
    #[error("{row} failed in mode {mode}: {why}; a baseline holds what works")]
    Failed {
        /// The row.
        row: String,
        /// The mode.
        mode: String,
        /// Why it failed.
        why: String,
    },
}
