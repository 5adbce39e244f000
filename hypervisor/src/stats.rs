//! Counts of exits and calls, by name.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// The kind of an exit that the guest had no part in: a signal came to the hypervisor's thread.
pub const INTERRUPTED: &str = "interrupted";

/// How often something happened, and how long it took in the hypervisor's process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// How often.
    pub count: u64,
    /// How long in all, in nanoseconds; 0 unless timing was asked for.
    pub total_ns: u64,
}

impl Count {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.total_ns += nanoseconds(took);
    }
}

fn nanoseconds(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

/// What a virtual machine did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Exits to the hypervisor's process, by kind.
    pub exits: BTreeMap<&'static str, Count>,
    /// Calls that left the virtual machine, by name; batch entries included.
    pub calls: BTreeMap<&'static str, Count>,
    /// Mode `patch`: instructions that would have trapped, and were emulated in the exit of one before them.
    pub ahead: u64,
    /// Instructions that trapped, fetched and decoded; counted only where things are timed.
    pub decoded: Count,
    /// Modes `trap` and `patch`: how long it took to make the shadow page tables that the guest begins with, in
    /// nanoseconds; 0 unless timing was asked for.
    pub first_tables_ns: u64,
}

impl Stats {
    /// Count an exit.
    pub fn exit(&mut self, kind: &'static str, took: Duration) {
        self.exits.entry(kind).or_default().add(took);
    }

    /// Count a call.
    pub fn call(&mut self, name: &'static str, took: Duration) {
        self.calls.entry(name).or_default().add(took);
    }

    /// Note how long the tables took that the guest begins with.
    pub fn first_tables(&mut self, took: Duration) {
        self.first_tables_ns = nanoseconds(took);
    }

    /// Count an instruction that was decoded.
    pub fn decode(&mut self, took: Duration) {
        self.decoded.add(took);
    }

    /// All exits.
    pub fn total_exits(&self) -> u64 {
        self.exits.values().map(|count| count.count).sum()
    }
}
