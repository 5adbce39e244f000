//! What a target's cases came to, and the line that says so.

use std::collections::BTreeMap;
use std::time::Duration;

/// Counts of a target.
#[derive(Debug, Default)]
pub struct Tally {
    /// Cases.
    pub cases: u64,
    /// Stores, register accesses, and what the other end did.
    pub operations: u64,
    /// Requests that were made available to a device.
    pub offered: u64,
    /// Requests that came back from one.
    pub finished: u64,
    /// How often a device asked for a reset.
    pub needs_resets: u64,
    /// Resets.
    pub resets: u64,
    /// Bytes that a device said it wrote, or that came out at its other end.
    pub bytes: u64,
    /// Cases in which each byte of memory was accounted for. In the others, a descriptor let the device
    /// write to descriptors, and only what no driver could name was compared.
    pub exact: u64,
    /// Cases after which each sector of a disk was accounted for.
    pub disks: u64,
    outcomes: BTreeMap<String, u64>,
}

impl Tally {
    /// Something worth reaching was reached.
    pub fn reached(&mut self, outcome: &str) {
        match self.outcomes.get_mut(outcome) {
            Some(count) => *count += 1,
            None => {
                self.outcomes.insert(outcome.to_owned(), 1);
            }
        }
    }

    /// The line of a target, with the outcomes that it should reach and has not.
    #[must_use]
    pub fn line(&self, target: &str, wanted: &[&str], time: Duration) -> String {
        let missing = self.missing(wanted);
        let rate = self.cases as f64 / time.as_secs_f64().max(1e-9);
        let reached = wanted.len() - missing.len();
        let mut line = format!(
            "{target}: {} cases in {:.0} s ({rate:.0} a second), {} operations, requests {} offered and \
             {} finished, {} NEEDS_RESETs, {} resets, {} bytes moved, exact in {} cases",
            self.cases,
            time.as_secs_f64(),
            self.operations,
            self.offered,
            self.finished,
            self.needs_resets,
            self.resets,
            self.bytes,
            self.exact,
        );
        if self.disks > 0 {
            line += &format!(" and on {} disks", self.disks);
        }
        line += &format!(", outcomes {reached}/{}", wanted.len());
        if !missing.is_empty() {
            line += &format!(" (never: {})", missing.join(", "));
        }
        line
    }

    /// Which outcomes were never reached.
    #[must_use]
    pub fn missing<'a>(&self, wanted: &[&'a str]) -> Vec<&'a str> {
        let is_missing = |name: &&&str| !self.outcomes.contains_key(**name);
        wanted.iter().filter(is_missing).copied().collect()
    }

    /// Each outcome, with how often it was reached.
    pub fn outcomes(&self) -> impl Iterator<Item = (&str, u64)> {
        self.outcomes
            .iter()
            .map(|(name, count)| (name.as_str(), *count))
    }
}
