//! A check for programs, and when its ratios mean nothing.

use serde::Serialize;

use super::{Comparison, RowCounts};
use crate::host::HostInfo;
use crate::report::Report;

/// The version of [`CheckReport`]; it rises when a field goes or changes its meaning.
pub const CHECK_SCHEMA: u32 = 1;

/// A check, to be serialized.
#[derive(Debug, Serialize)]
pub struct CheckReport<'a> {
    /// Which version of this structure it is: [`CHECK_SCHEMA`].
    pub schema: u32,
    /// Where it was done.
    pub host: &'a HostInfo,
    /// What moved.
    pub comparison: &'a Comparison,
    /// What was counted.
    pub counts: &'a [RowCounts],
    /// What was measured for the ratios, as `paravane bench --json` prints it.
    pub report: Option<&'a Report>,
}

/// Why ratios of this host and build are compared with none, if so.
pub fn why_no_ratios(host: &HostInfo) -> Option<&'static str> {
    let is_emulated = |name: &str| name.contains("TCG");
    if host.hypervisor.as_deref().is_some_and(is_emulated) {
        Some("this host is emulated by QEMU, and its times mean nothing")
    } else if host.build != "release" {
        Some("this is a debug build, and ratios are of release builds")
    } else {
        None
    }
}
