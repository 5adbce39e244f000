//! The interval timer of a PC, an 8254: three counters that run at 1.19 MHz, of which the first interrupts.
//!
//! A counter's value follows from the time that has passed since it was loaded, so nothing runs while nobody
//! looks; who wants the first one's output to rise in time asks when that will be. Gates are high, so the
//! modes that a gate starts (1 and 5) never start.

/// Ticks in a second.
pub const HZ: u128 = 1_193_182;
const SECOND: u128 = 1_000_000_000;

/// Bits of the control word.
const BCD: u8 = 1;
const READ_BACK: u8 = 3;

/// How a counter is read and written: its low byte, its high byte, or one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Low,
    High,
    Both,
}

/// A counter.
#[derive(Clone, Copy, Debug)]
struct Counter {
    mode: u8,
    access: Access,
    is_bcd: bool,
    /// What it counts down from, 1 to 65536, and since when; `None` until it is loaded.
    loaded: Option<(u32, u64)>,
    /// The low byte of a count that is not whole yet.
    low: Option<u8>,
    /// Whether the next byte that is read is the high one.
    reads_high: bool,
    latched: Option<u16>,
    latched_status: Option<u8>,
}

impl Default for Counter {
    fn default() -> Self {
        Self {
            mode: 0,
            access: Access::Both,
            is_bcd: false,
            loaded: None,
            low: None,
            reads_high: false,
            latched: None,
            latched_status: None,
        }
    }
}

/// The timer.
#[derive(Debug, Default)]
pub struct Pit {
    counters: [Counter; 3],
}

impl Pit {
    /// Read a register, 0 to 3, at a moment in nanoseconds.
    pub fn read(&mut self, offset: u16, now: u64) -> u8 {
        let counter = self.counters.get_mut(usize::from(offset));
        // The control word cannot be read.
        counter.map_or(0xff, |counter| counter.read(now))
    }

    /// Write one.
    pub fn write(&mut self, offset: u16, value: u8, now: u64) {
        match self.counters.get_mut(usize::from(offset)) {
            Some(counter) => counter.write(value, now),
            None => self.control(value, now),
        }
    }

    /// The first counter's output.
    pub fn output(&self, now: u64) -> bool {
        self.counters[0].output(now)
    }

    /// When the first counter's output rises next, behind a moment.
    pub fn next_rise(&self, now: u64) -> Option<u64> {
        self.counters[0].next_rise(now)
    }

    fn control(&mut self, value: u8, now: u64) {
        let which = value >> 6;
        if which == READ_BACK {
            for (number, counter) in self.counters.iter_mut().enumerate() {
                if value >> (number + 1) & 1 != 0 {
                    counter.read_back(value, now);
                }
            }
        } else if let Some(counter) = self.counters.get_mut(usize::from(which)) {
            counter.control(value, now);
        }
    }
}

impl Counter {
    fn control(&mut self, value: u8, now: u64) {
        self.access = match value >> 4 & 3 {
            0 => return self.latch(now),
            1 => Access::Low,
            2 => Access::High,
            _ => Access::Both,
        };
        *self = Self {
            // Modes 2 and 3 have two numbers each.
            mode: match value >> 1 & 7 {
                mode @ 6.. => mode - 4,
                mode => mode,
            },
            access: self.access,
            is_bcd: value & BCD != 0,
            ..Self::default()
        };
    }

    /// A latch holds until it is read, whatever comes meanwhile.
    fn latch(&mut self, now: u64) {
        if self.latched.is_none() {
            self.latched = Some(self.value(now));
            self.reads_high = false;
        }
    }

    fn read_back(&mut self, value: u8, now: u64) {
        if value & 0x20 == 0 {
            self.latch(now);
        }
        if value & 0x10 == 0 && self.latched_status.is_none() {
            let access = match self.access {
                Access::Low => 1,
                Access::High => 2,
                Access::Both => 3,
            };
            let output = u8::from(self.output(now)) << 7;
            let is_empty = u8::from(self.loaded.is_none()) << 6;
            let status = output | is_empty | access << 4 | self.mode << 1;
            self.latched_status = Some(status | u8::from(self.is_bcd));
        }
    }

    fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = self
            .latched
            .unwrap_or_else(|| self.value(now))
            .to_le_bytes();
        let (byte, is_over) = match (self.access, self.reads_high) {
            (Access::Low, _) => (low, true),
            (Access::High, _) => (high, true),
            (Access::Both, false) => (low, false),
            (Access::Both, true) => (high, true),
        };
        self.reads_high = !is_over;
        if is_over {
            self.latched = None;
        }
        byte
    }

    fn write(&mut self, value: u8, now: u64) {
        let count = match (self.access, self.low.take()) {
            (Access::Low, _) => u16::from(value),
            (Access::High, _) => u16::from(value) << 8,
            (Access::Both, None) => {
                self.low = Some(value);
                if self.mode == 0 {
                    // The first of two bytes stops it.
                    self.loaded = None;
                }
                return;
            }
            (Access::Both, Some(low)) => u16::from_le_bytes([low, value]),
        };
        let count = match self.is_bcd {
            true => from_bcd(count),
            false => u32::from(count),
        };
        self.loaded = Some((if count == 0 { self.span() } else { count }, now));
    }

    /// How many values it has.
    fn span(&self) -> u32 {
        if self.is_bcd { 10_000 } else { 65_536 }
    }

    /// Ticks since it was loaded.
    fn ticks(&self, loaded: u64, now: u64) -> u64 {
        // Of 64 bits of nanoseconds, fewer ticks than 64 bits come.
        (u128::from(now.saturating_sub(loaded)) * HZ / SECOND) as u64
    }

    fn value(&self, now: u64) -> u16 {
        let Some((reload, loaded)) = self.loaded else {
            return 0;
        };
        let (ticks, reload, span) = (
            self.ticks(loaded, now),
            u64::from(reload),
            u64::from(self.span()),
        );
        let value = match self.mode {
            2 => reload - ticks % reload,
            // It counts by two, twice in a period.
            3 => (reload & !1).max(2) - ticks * 2 % (reload & !1).max(2),
            // It goes on below zero.
            0 | 4 => (reload + span - ticks % span) % span,
            _ => reload,
        };
        match self.is_bcd {
            true => to_bcd(value % span),
            false => value as u16,
        }
    }

    fn output(&self, now: u64) -> bool {
        let Some((reload, loaded)) = self.loaded else {
            return self.mode != 0;
        };
        let (ticks, reload) = (self.ticks(loaded, now), u64::from(reload));
        match self.mode {
            0 => ticks >= reload,
            2 => reload > 1 && ticks % reload != reload - 1,
            3 => ticks % reload < reload.div_ceil(2),
            4 => ticks != reload,
            _ => true,
        }
    }

    fn next_rise(&self, now: u64) -> Option<u64> {
        let (reload, loaded) = self.loaded?;
        let (ticks, reload) = (self.ticks(loaded, now), u64::from(reload));
        let at = match self.mode {
            0 => Some(reload).filter(|at| *at > ticks),
            2 | 3 => Some((ticks / reload + 1) * reload),
            4 => Some(reload + 1).filter(|at| *at > ticks),
            _ => None,
        };
        // The first nanosecond in which so many ticks have passed.
        let ns = (u128::from(at?) * SECOND).div_ceil(HZ);
        u64::try_from(ns).ok()?.checked_add(loaded)
    }
}

/// The number that four decimal digits are; a digit above 9 counts as what it is.
fn from_bcd(digits: u16) -> u32 {
    let digit = |at: u16| u32::from(digits >> (4 * at) & 0xf);
    (digit(3) * 1000 + digit(2) * 100 + digit(1) * 10 + digit(0)).min(10_000)
}

/// Four decimal digits.
fn to_bcd(value: u64) -> u16 {
    let digit = |divisor: u64| (value / divisor % 10) as u16;
    digit(1000) << 12 | digit(100) << 8 | digit(10) << 4 | digit(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// So many ticks, in nanoseconds, and a little.
    fn ticks(count: u64) -> u64 {
        (u128::from(count) * SECOND).div_ceil(HZ) as u64
    }

    fn loaded(control: u8, count: u16) -> Pit {
        let mut pit = Pit::default();
        pit.write(3, control, 0);
        for byte in count.to_le_bytes() {
            pit.write(0, byte, 0);
        }
        pit
    }

    fn value(pit: &mut Pit, now: u64) -> u16 {
        pit.write(3, 0x00, now);
        u16::from_le_bytes([pit.read(0, now + 999), pit.read(0, now + 9999)])
    }

    #[test]
    fn a_rate_generator_counts_and_rises_once_a_period() {
        let mut pit = loaded(0x34, 1000);
        for (passed, expected) in [(0, 1000), (1, 999), (999, 1), (1000, 1000), (2500, 500)] {
            assert_eq!(value(&mut pit, ticks(passed)), expected, "{passed}");
        }
        assert!(pit.output(ticks(998)) && !pit.output(ticks(999)) && pit.output(ticks(1000)));
        assert_eq!(pit.next_rise(0), Some(ticks(1000)));
        assert_eq!(pit.next_rise(ticks(1000)), Some(ticks(2000)));
        // 0 is 65536.
        assert_eq!(loaded(0x34, 0).next_rise(0), Some(ticks(65_536)));
    }

    #[test]
    fn a_square_wave_is_high_for_half_of_the_time() {
        let mut pit = loaded(0x36, 1000);
        assert_eq!(value(&mut pit, ticks(1)), 998);
        assert_eq!(value(&mut pit, ticks(500)), 1000);
        assert!(pit.output(ticks(499)) && !pit.output(ticks(500)) && pit.output(ticks(1000)));
        assert_eq!(pit.next_rise(ticks(499)), Some(ticks(1000)));
    }

    #[test]
    fn a_terminal_count_comes_once() {
        let mut pit = loaded(0x30, 100);
        assert_eq!(value(&mut pit, ticks(60)), 40);
        assert!(!pit.output(ticks(99)) && pit.output(ticks(100)));
        assert_eq!(pit.next_rise(ticks(99)), Some(ticks(100)));
        assert_eq!(pit.next_rise(ticks(100)), None);
        assert_eq!(value(&mut pit, ticks(101)), 0xffff, "it goes on");
        // The first byte of a new count stops it.
        pit.write(0, 1, ticks(200));
        assert_eq!(pit.next_rise(ticks(200)), None);
        assert!(!pit.output(ticks(200)));
    }

    #[test]
    fn a_latch_holds_and_a_read_back_says_how_it_is() {
        let mut pit = loaded(0x34, 500);
        pit.write(3, 0x00, ticks(10));
        pit.write(3, 0x00, ticks(20));
        assert_eq!(
            [pit.read(0, ticks(30)), pit.read(0, ticks(40))],
            [0xea, 1],
            "490"
        );
        // Status and count of the first counter; the status comes first.
        pit.write(3, 0xc2, ticks(100));
        let read = [(); 3].map(|()| pit.read(0, ticks(300)));
        assert_eq!(read, [0xb4, 0x90, 1]);
        // Not loaded yet, one byte alone.
        pit.write(3, 0x90, 0);
        pit.write(3, 0xe8, 0);
        assert_eq!(pit.read(2, 0), 0x50);
        assert_eq!(pit.read(3, 0), 0xff);
    }

    #[test]
    fn digits_are_decimal_where_they_are_asked_for() {
        let mut pit = loaded(0x35, 0x1000);
        assert_eq!(value(&mut pit, ticks(1)), 0x0999);
        assert_eq!(loaded(0x35, 0).next_rise(0), Some(ticks(10_000)));
    }

    proptest! {
        /// Whatever is written, at whatever time: nothing panics, and the next rise is behind now, and one.
        #[test]
        fn no_access_is_too_odd(
            accesses in prop::collection::vec((0..5_u16, any::<u8>(), any::<bool>(), any::<u64>()), 1..100),
        ) {
            let mut pit = Pit::default();
            for (offset, value, is_write, now) in accesses {
                let now = now >> (value % 64);
                match is_write {
                    true => pit.write(offset, value, now),
                    false => {
                        pit.read(offset, now);
                    }
                }
                if let Some(rise) = pit.next_rise(now) {
                    prop_assert!(rise > now);
                    prop_assert!(pit.output(rise) || pit.counters[0].loaded.is_some_and(|(reload, _)| reload == 1));
                }
                pit.output(now);
            }
        }
    }
}
