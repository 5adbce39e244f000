//! The clock. Time zero is the hypervisor's choice: a little before the kernel's entry.

use core::sync::atomic::Ordering;

use hypercall_abi::shared::ClockScale;

use crate::hooks;

/// Nanoseconds in a microsecond.
pub const MICROSECOND: u64 = 1_000;
/// Nanoseconds in a millisecond.
pub const MILLISECOND: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// Nanoseconds since time zero.
pub fn now_ns() -> u64 {
    scale().ns(hooks::ticks())
}

/// How time-stamp counter readings become nanoseconds.
pub fn scale() -> ClockScale {
    let page = hooks::shared();
    ClockScale {
        tsc_base: page.tsc_base.load(Ordering::Relaxed),
        mul: page.tsc_mul.load(Ordering::Relaxed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::fake;

    #[test]
    fn the_clock_follows_the_shared_scale() {
        let page = hooks::shared();
        let scale = ClockScale::new(2_000_000, 500).unwrap();
        page.tsc_base.store(scale.tsc_base, Ordering::Relaxed);
        page.tsc_mul.store(scale.mul, Ordering::Relaxed);
        fake::set_ticks(500);
        assert_eq!(now_ns(), 0);
        fake::set_ticks(500 + 2_000_000_000);
        assert_eq!(now_ns(), SECOND);
    }
}
