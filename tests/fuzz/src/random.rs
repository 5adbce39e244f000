//! The random numbers of a case: from the seed and the case's number, and nothing else.

use fastrand::Rng;

/// The numbers of one case of a target.
#[must_use]
pub fn of_case(target: &str, seed: u64, case: u64) -> Rng {
    let name = target
        .bytes()
        .fold(0, |sum, byte| mix(sum ^ u64::from(byte)));
    Rng::with_seed(mix(mix(name ^ seed) ^ case))
}

/// One step of SplitMix64, so that neighbours have nothing in common.
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Choices that a case makes all the time.
pub trait Choose {
    /// Whether what is to happen once in `times` happens.
    fn once_in(&mut self, times: u32) -> bool;

    /// One of these.
    ///
    /// # Panics
    /// When there are none, a mistake of ours.
    fn one_of<T: Copy>(&mut self, of: &[T]) -> T;
}

impl Choose for Rng {
    fn once_in(&mut self, times: u32) -> bool {
        self.u32(..times.max(1)) == 0
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.usize(..of.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_differ_and_repeat() {
        let first = |target, seed, case| of_case(target, seed, case).u64(..);
        assert_eq!(first("blk", 1, 2), first("blk", 1, 2));
        let others = [first("blk", 1, 3), first("blk", 2, 2), first("rng", 1, 2)];
        assert!(!others.contains(&first("blk", 1, 2)));
    }
}
