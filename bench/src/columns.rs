//! The columns of a report: THE list of the modes that are measured.
//!
//! A new mode is one more entry of [`MODES`]. Measuring, counting, rendering, baselines and goals all go by
//! it, or by the modes that a report names.

use hypercall_abi::Mode;

/// The modes that are measured, in the order of a report.
pub const MODES: &[Mode] = &[Mode::Hvm, Mode::Trap, Mode::Patch, Mode::Pv];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_in_the_order_of_the_modes_and_each_once() {
        assert!(MODES.is_sorted_by(|one, next| one < next));
        // What every other column is divided by.
        assert!(MODES.contains(&Mode::Hvm) && MODES.contains(&Mode::Pv));
    }
}
