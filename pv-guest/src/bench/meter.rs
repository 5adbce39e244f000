//! Takes samples of one row.

use core::sync::atomic::Ordering;

use super::Missing;
use crate::hooks;
use crate::sync::hold_interrupts;
use crate::time::{self, MICROSECOND};

/// The most samples of a row.
pub const MAX_SAMPLES: usize = 64;
/// How long a sample lasts when the meter chooses its length: short enough that some escape what
/// else a busy host does.
const SAMPLE_NS: u64 = 1_000 * MICROSECOND;
/// The most turns of a loop in a sample, however short they are.
const MAX_TURNS: u64 = 1 << 22;

/// Turns of a loop that come before the samples.
const WARM_UP: u64 = 8;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Samples of each row.
    pub samples: usize,
    /// Operations in a sample; `None` for as many as take about [`SAMPLE_NS`].
    pub operations: Option<u64>,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            samples: 11,
            operations: None,
        }
    }
}

/// Takes samples.
#[derive(Debug)]
pub struct Meter {
    effort: Effort,
    samples: [u64; MAX_SAMPLES],
    taken: usize,
    n: u64,
    counts: Counts,
}

/// What the hypervisor has counted in the shared page. Calls of tier 1 stay inside the virtual
/// machine, and nobody counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Exits, for whatever reason.
    pub exits: u64,
    /// Calls of tier 2.
    pub calls: u64,
    /// Calls of tier 3: entries taken out of the batch ring.
    pub entries: u32,
}

impl Counts {
    fn now() -> Self {
        let page = hooks::shared();
        Self {
            exits: page.exits.load(Ordering::Relaxed),
            calls: page.calls.load(Ordering::Relaxed),
            entries: page.ring_head.load(Ordering::Relaxed),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            exits: self.exits.wrapping_sub(before.exits),
            calls: self.calls.wrapping_sub(before.calls),
            entries: self.entries.wrapping_sub(before.entries),
        }
    }

    fn plus(self, more: Self) -> Self {
        Self {
            exits: self.exits.wrapping_add(more.exits),
            calls: self.calls.wrapping_add(more.calls),
            entries: self.entries.wrapping_add(more.entries),
        }
    }
}

/// What was measured.
#[derive(Debug)]
pub struct Measured<'a> {
    /// Operations in a sample.
    pub n: u64,
    /// What was counted in all samples.
    pub counts: Counts,
    /// The length of each sample, in ticks of the time-stamp counter.
    pub samples: &'a mut [u64],
}

impl Measured<'_> {
    /// The median of the samples, which are in order afterwards.
    pub fn median(&mut self) -> u64 {
        self.samples.sort_unstable();
        let middle = self.samples.len() / 2;
        self.samples.get(middle).copied().unwrap_or(0)
    }
}

impl Meter {
    /// A meter without samples.
    pub fn new(effort: Effort) -> Self {
        let samples = effort.samples.clamp(1, MAX_SAMPLES);
        Self {
            effort: Effort { samples, ..effort },
            samples: [0; MAX_SAMPLES],
            taken: 0,
            n: 0,
            counts: Counts::default(),
        }
    }

    /// Measure a loop whose every turn makes `operations`. Interrupts are off; the loop may turn
    /// them on and leave them so. Counts are the loop's alone.
    pub fn turns(&mut self, operations: u64, run: &mut dyn FnMut(u64)) {
        // What the console still holds would be an exit of the first sample's.
        hooks::console_flush();
        let turns = match self.effort.operations {
            Some(wanted) => (wanted / operations).max(1),
            None => calibrate(run),
        };
        // Where code is found when it is first executed, or replaced when it has trapped a few times, that
        // is none of a sample's.
        timed(WARM_UP, run);
        self.n = turns.saturating_mul(operations);
        self.take(&mut || timed(turns, run));
    }

    /// Measure a moment: `once` makes one operation and says how many ticks it took. With
    /// interrupts as they are.
    ///
    /// # Errors
    /// [`Missing::Failed`] when `once` has no answer.
    pub fn moments(&mut self, once: &mut dyn FnMut() -> Option<u64>) -> Result<(), Missing> {
        hooks::console_flush();
        let mut is_complete = once().is_some(); // the first, cold, one does not count
        self.n = 1;
        self.take(&mut || {
            let before = Counts::now();
            let ticks = once();
            is_complete &= ticks.is_some();
            (ticks.unwrap_or(0), Counts::now().since(before))
        });
        match is_complete {
            true => Ok(()),
            false => Err(Missing::Failed("the timer did not fire")),
        }
    }

    fn take(&mut self, sample: &mut dyn FnMut() -> (u64, Counts)) {
        let places = self.samples.iter_mut().take(self.effort.samples);
        for place in places {
            let (ticks, counts) = sample();
            *place = ticks;
            self.counts = self.counts.plus(counts);
            self.taken += 1;
        }
    }

    /// What was measured.
    ///
    /// # Errors
    /// [`Missing::Absent`] when nothing was.
    pub fn finish(&mut self) -> Result<Measured<'_>, Missing> {
        match self.samples.get_mut(..self.taken) {
            Some(samples) if !samples.is_empty() => Ok(Measured {
                n: self.n,
                counts: self.counts,
                samples,
            }),
            _ => Err(Missing::Absent),
        }
    }
}

/// How many ticks the turns took, and what was counted meanwhile. That interrupts are held is not in it:
/// where that traps, it would be exits of every sample's. A function of its own, so that the warm-up executes
/// the very code that is measured.
#[inline(never)]
fn timed(turns: u64, run: &mut dyn FnMut(u64)) -> (u64, Counts) {
    let _held = hold_interrupts();
    let before = Counts::now();
    let start = hooks::ticks();
    run(turns);
    let took = hooks::ticks().wrapping_sub(start);
    (took, Counts::now().since(before))
}

/// How many turns last about a sample: a power of two, so that what happens once in 64 operations
/// happens equally often in each sample. Warms up, too.
fn calibrate(run: &mut dyn FnMut(u64)) -> u64 {
    let mut turns = 1;
    loop {
        let took = time::scale().ticks_to_ns(timed(turns, run).0);
        if took.saturating_mul(2) > SAMPLE_NS || turns >= MAX_TURNS {
            return turns;
        }
        // Towards the wanted length in one step once the figure means something.
        let factor = if took.saturating_mul(16) > SAMPLE_NS {
            2
        } else {
            4
        };
        turns *= factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::fake;
    use hypercall_abi::shared::ClockScale;

    fn effort(samples: usize, operations: Option<u64>) -> Effort {
        Effort {
            samples,
            operations,
        }
    }

    #[test]
    fn a_sample_is_the_time_of_a_whole_number_of_turns() {
        let mut meter = Meter::new(effort(3, Some(70)));
        let mut now = 0;
        meter.turns(16, &mut |turns| {
            now += turns * 5;
            fake::set_ticks(now);
        });
        let measured = meter.finish().unwrap();
        assert_eq!((measured.n, measured.counts), (64, Counts::default()));
        assert_eq!(measured.samples, [20, 20, 20]);
    }

    #[test]
    fn counts_are_of_the_samples_alone_and_may_wrap() {
        let page = hooks::shared();
        page.exits.store(900, Ordering::Relaxed);
        page.ring_head.store(u32::MAX, Ordering::Relaxed);
        let mut meter = Meter::new(effort(2, Some(3)));
        meter.turns(1, &mut |turns| {
            page.exits.fetch_add(turns, Ordering::Relaxed);
            page.calls.fetch_add(2 * turns, Ordering::Relaxed);
            page.ring_head.fetch_add(4, Ordering::Relaxed);
        });
        let counts = meter.finish().unwrap().counts;
        let expected = Counts {
            exits: 6,
            calls: 12,
            entries: 8,
        };
        assert_eq!(counts, expected);
    }

    #[test]
    fn calibration_finds_a_sample_s_length_and_ends_though_the_clock_stands() {
        let page = hooks::shared();
        let scale = ClockScale::new(1_000_000, 0).unwrap();
        page.tsc_mul.store(scale.mul, Ordering::Relaxed);
        let mut now = 0;
        let turns = calibrate(&mut |turns| {
            now += turns * 1000;
            fake::set_ticks(now);
        });
        assert_eq!(turns, 512, "a turn takes a microsecond");
        assert_eq!(calibrate(&mut |_| ()), MAX_TURNS);
    }

    #[test]
    fn the_number_of_samples_has_bounds() {
        for (wanted, taken) in [(0, 1), (5, 5), (1 << 20, MAX_SAMPLES)] {
            let mut meter = Meter::new(effort(wanted, Some(1)));
            meter.turns(1, &mut |_| ());
            assert_eq!(meter.finish().unwrap().samples.len(), taken);
        }
    }

    #[test]
    fn a_moment_without_an_answer_fails_the_row() {
        let mut meter = Meter::new(effort(2, None));
        let mut answers = [Some(9), Some(4), None].into_iter();
        let failed = meter.moments(&mut || answers.next().flatten());
        assert!(matches!(failed, Err(Missing::Failed(_))));
        let mut meter = Meter::new(effort(3, None));
        let mut answers = [9, 4, 3, 5].into_iter();
        meter.moments(&mut || answers.next()).unwrap();
        assert_eq!(meter.finish().unwrap().median(), 4);
    }

    #[test]
    fn nothing_measured_is_absent() {
        let mut meter = Meter::new(Effort::default());
        assert_eq!(meter.finish().unwrap_err(), Missing::Absent);
    }
}
