//! Tier 0: the words that a guest and its hypervisor share, a page for each virtual processor.
//!
//! The guest's kernel writes them with plain stores; the monitor and the VMM read them when they
//! act. Every field is atomic, because the other side may change it at any instruction.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// Interrupts wait while any of these bytes is set. The monitor tests all four at once.
#[derive(Debug, Default)]
#[repr(C, align(4))]
pub struct Hold {
    /// The virtual interrupt flag, inverted: 1 after the kernel turned interrupts off.
    pub cli: AtomicU8,
    /// 1 from the monitor's bounce of an exception until the kernel has copied its frame.
    pub event: AtomicU8,
    /// 1 while the user root is loaded, and until the kernel's entry has seen that.
    pub user: AtomicU8,
    /// Reserved, 0.
    pub reserved: AtomicU8,
}

/// How a TSC reading becomes nanoseconds: `((tsc - tsc_base) * mul) >> 32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ClockScale {
    /// The TSC's value at time zero.
    pub tsc_base: u64,
    /// Nanoseconds per TSC tick, as a 32.32 fixed-point number.
    pub mul: u64,
}

impl ClockScale {
    /// The scale of a TSC that runs at `khz` kilohertz and is `tsc_base` at time zero.
    /// `None` for a frequency of zero.
    pub fn new(khz: u32, tsc_base: u64) -> Option<Self> {
        let mul = (1_000_000u64 << 32).checked_div(u64::from(khz))?;
        Some(Self { tsc_base, mul })
    }

    /// Nanoseconds since time zero at a TSC reading.
    #[inline]
    pub fn ns(&self, tsc: u64) -> u64 {
        self.ticks_to_ns(tsc.wrapping_sub(self.tsc_base))
    }

    /// The length of a span of TSC ticks, in nanoseconds.
    #[inline]
    pub fn ticks_to_ns(&self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.mul)) >> 32) as u64
    }
}

/// The page that a virtual processor shares with its monitor and with the VMM.
#[derive(Debug, Default)]
#[repr(C, align(4096))]
pub struct SharedPage {
    /// What makes interrupts wait.
    pub hold: Hold,
    /// Nonzero when the processor's own interrupt flag may be clear or an interrupt pends: the
    /// kernel then asks the monitor (`unmask`) instead of only clearing `hold.cli`.
    pub needs_unmask: AtomicU32,
    /// A bit for each vector that arrived while interrupts were held.
    pub pending: AtomicU64,
    /// The linear address of the last page fault (CR2).
    pub fault_address: AtomicU64,
    /// The stack for an event that arrives from user mode: its highest address.
    pub kernel_stack: AtomicU64,
    /// This virtual processor's number.
    pub vcpu: AtomicU32,
    /// This virtual processor's local APIC identifier.
    pub apic_id: AtomicU32,
    /// The clock's base, see [`ClockScale`].
    pub tsc_base: AtomicU64,
    /// The clock's factor, see [`ClockScale`].
    pub tsc_mul: AtomicU64,
    /// How often this virtual processor has left for the VMM.
    pub exits: AtomicU64,
    /// How many entries the guest has put into the batch ring, ever.
    pub ring_tail: AtomicU32,
    /// How many entries the VMM has taken out of the batch ring, ever.
    pub ring_head: AtomicU32,
    /// How many calls of tier `machine` the VMM has answered.
    pub calls: AtomicU64,
}

/// Entries of the batch ring.
pub const RING_ENTRIES: u32 = 64;

/// One queued call.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
)]
#[repr(C)]
pub struct Entry {
    /// The call's number; only calls of tier `batch` are run.
    pub number: u64,
    /// The argument registers.
    pub args: [u64; 6],
    /// Written by the VMM: the result word.
    pub result: u64,
}

/// Why a batch ring cannot be drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingCorrupt {
    /// The guest's index.
    pub tail: u32,
    /// The VMM's index.
    pub head: u32,
}

/// How many entries wait between two free-running indices.
///
/// # Errors
/// [`RingCorrupt`] when the indices claim more entries than the ring has.
pub const fn ring_waiting(tail: u32, head: u32) -> Result<u32, RingCorrupt> {
    let waiting = tail.wrapping_sub(head);
    if waiting <= RING_ENTRIES {
        Ok(waiting)
    } else {
        Err(RingCorrupt { tail, head })
    }
}

/// The slot of a free-running index.
pub const fn ring_slot(index: u32) -> usize {
    (index % RING_ENTRIES) as usize
}

const _: () = assert!(size_of::<SharedPage>() == 4096);
const _: () = assert!(size_of::<Entry>() * RING_ENTRIES as usize == 4096);
const _: () = assert!(core::mem::offset_of!(SharedPage, needs_unmask) == 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_scale_turns_ticks_into_nanoseconds() {
        let scale = ClockScale::new(2_000_000, 1000).unwrap_or_default();
        assert_eq!(scale.ns(1000), 0);
        assert_eq!(scale.ns(3000), 1000);
        assert_eq!(ClockScale::new(0, 0), None);
    }

    #[test]
    fn the_ring_wraps_and_refuses_impossible_indices() {
        assert_eq!(ring_waiting(5, 5), Ok(0));
        assert_eq!(ring_waiting(3, u32::MAX - 2), Ok(6));
        assert_eq!(ring_waiting(64, 0), Ok(64));
        assert_eq!(ring_waiting(65, 0), Err(RingCorrupt { tail: 65, head: 0 }));
        assert_eq!(ring_slot(u32::MAX), 63);
    }
}
