//! A problem is what is wrong and what mends it; it never comes without the mend.

use serde::Serialize;

/// How grave a problem is. Errors sort before warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No guest can run.
    Error,
    /// Guests run, slower or without a named feature.
    Warning,
}

/// Something wrong with the host, and its mend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How grave it is.
    pub severity: Severity,
    /// What is wrong: a clause without a full stop.
    pub what: String,
    /// What to do about it: a clause that starts with the verb, without a full stop.
    pub mend: String,
}

impl Problem {
    /// A problem that keeps every guest from running.
    pub fn error(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(Severity::Error, what.into(), mend.into())
    }

    /// A problem that guests survive.
    pub fn warning(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(Severity::Warning, what.into(), mend.into())
    }

    /// Whether no guest can run.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The problem and its mend as one sentence, without a full stop so that it can be embedded.
    pub fn sentence(&self) -> String {
        format!("{}; to mend it, {}", self.what, self.mend)
    }

    fn new(severity: Severity, what: String, mend: String) -> Self {
        Self {
            severity,
            what,
            mend,
        }
    }
}
