//! The bare cost of each mechanism: a raw KVM VM and a guest of a few instructions.
//!
//! This is the yardstick that the product's figures are divided by, so it is the leanest honest
//! form of each mechanism on this host's KVM and shares no code with the hypervisor library.
//! Time is taken inside the guest (`rdtsc` around a loop), exits are counted outside of it.
//! The caller computes minimum, median and quantiles.

mod code;
mod error;
mod layout;
mod lifecycle;
mod platform;
mod rows;
mod tables;
mod vm;
mod watchdog;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::keep_kvm_on;

pub use error::FloorError;
pub use lifecycle::{BYTE, Lifecycle, monotonic_ns, one_byte, one_byte_into};
pub use platform::Platform;
pub use rows::{IDLE_DELAY, Row, SPIN_DELAY};

use serde::{Deserialize, Serialize};

/// How often each mechanism is exercised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effort {
    /// Operations of a cheap row between two readings of the clock; dear rows do fewer.
    pub iterations: u64,
    /// Samples of a row, each the mean over its iterations; the first, cold, one is not counted.
    pub repeats: u64,
}

impl Effort {
    /// All rows within 3 seconds on the development machine.
    pub const fn quick() -> Self {
        Self {
            iterations: 256,
            repeats: 11,
        }
    }

    /// Steady figures, for a report.
    pub const fn full() -> Self {
        Self {
            iterations: 2048,
            repeats: 31,
        }
    }
}

/// What one row cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// TSC cycles per operation, rounded up; one entry per repeat, in the order measured.
    pub ticks: Vec<u64>,
    /// Returns from `KVM_RUN` per operation.
    pub exits_per_op: f64,
}

/// A VM that never runs. While one exists, KVM does not switch the processors' virtualization on
/// and off around each other VM, which costs a tenth of a VM's short life on kvm_pvm. In the
/// emulated SVM of `svm-rig` it also avoids a hang: there, on two processors, about one in 200
/// creations of an only VM never returns.
pub struct KvmOn {
    _vm: kvm_ioctls::VmFd,
}

impl KvmOn {
    /// Keeps KVM switched on until this is dropped.
    pub fn hold() -> Result<Self, FloorError> {
        let (_, vm) = vm::open()?;
        Ok(Self { _vm: vm })
    }
}

/// Measures `rows` in the order given, each in a fresh VM; `progress` hears of each before it starts.
pub fn measure(
    rows: &[Row],
    effort: Effort,
    progress: &mut dyn FnMut(Row),
) -> Result<Vec<(Row, Sample)>, FloorError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let _on = KvmOn::hold()?;
    let platform = Platform::detect()?;
    let measure_one = |&row| {
        progress(row);
        Ok((row, rows::measure(row, platform, effort)?))
    };
    rows.iter().map(measure_one).collect()
}

/// Frequency of the clock that [`Sample::ticks`] counts, as KVM states it for a guest.
pub fn tsc_khz() -> Result<u32, FloorError> {
    vm::Vm::new(layout::MEMORY_LEN)?.tsc_khz()
}
