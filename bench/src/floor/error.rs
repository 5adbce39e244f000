//! Why the floor could not be measured, and what mends it.

use std::time::Duration;

/// The floor could not be measured on this host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FloorError {
    /// The KVM device did not open.
    #[error(
        "cannot open /dev/kvm: {source}; load a KVM module (kvm_intel, kvm_amd), or join the group that owns the device"
    )]
    NoKvm {
        /// What the host answered.
        source: kvm_ioctls::Error,
    },
    /// This host's KVM lacks something that no row works without.
    #[error("KVM of this host lacks {capability}; a kernel of 5.10 or later has it")]
    Lacks {
        /// The capability's name in the KVM API.
        capability: &'static str,
    },
    /// The host refused a KVM call.
    #[error(
        "KVM refused to {what}: {source}; see `dmesg`, and whether other VMs hold the resource"
    )]
    Refused {
        /// The call, as a verb phrase.
        what: &'static str,
        /// What the host answered.
        source: kvm_ioctls::Error,
    },
    /// The host has no room for the guest's memory.
    #[error("cannot map {len} bytes of guest memory: {reason}; free memory, or raise the limit")]
    NoMemory {
        /// Bytes asked for.
        len: usize,
        /// What the host answered.
        reason: String,
    },
    /// The host would not start the watchdog.
    #[error("cannot start the watchdog: {source}; raise the limit of threads")]
    NoWatchdog {
        /// What the host answered.
        source: std::io::Error,
    },
    /// The guest's byte could not be passed on.
    #[error("cannot write the guest's byte: {source}; keep the output open")]
    Output {
        /// What the host answered.
        source: std::io::Error,
    },
    /// The guest ended in a way that its few instructions never should.
    #[error(
        "the guest stopped at {rip:#x}: {how}; this KVM may not support the mechanism, leave the row out"
    )]
    Stopped {
        /// The exit, as KVM names it.
        how: String,
        /// Where the guest was.
        rip: u64,
    },
    /// The guest did not finish.
    #[error(
        "the guest did not finish within {limit:?} (at {rip:#x}); the host is overloaded, or this KVM lost an event"
    )]
    Stuck {
        /// How long it was given.
        limit: Duration,
        /// Where the guest was.
        rip: u64,
    },
    /// The two sides of a mechanism did not see the same values.
    #[error("{what}: expected {expected:#x}, found {found:#x}; this KVM loses data, report it")]
    Mismatch {
        /// The value in question.
        what: &'static str,
        /// What one side sent.
        expected: u64,
        /// What the other side saw.
        found: u64,
    },
    /// A row of the report failed.
    #[error("floor row {row}")]
    Row {
        /// The row.
        row: super::Row,
        /// Why.
        source: Box<FloorError>,
    },
}

impl FloorError {
    /// Turns a refusal into an error that names the call: `.map_err(FloorError::refused("run"))`.
    pub(super) fn refused(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |source| Self::Refused { what, source }
    }
}
