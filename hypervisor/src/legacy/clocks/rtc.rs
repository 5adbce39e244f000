//! The clock of a PC, an MC146818: the time of day in UTC, an alarm, a periodic interrupt, and 114 bytes of
//! memory that nobody keeps.
//!
//! What it shows follows from the host's clock and what the guest has set; nothing runs while nobody looks.
//! Flags are raised when somebody looks, for what has happened since the last time. The line is raised while
//! one is that interrupts, until register C is read; who wants it raised in time asks when that will be.

use super::calendar::{DAY, Date};

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;
/// How long before each second the time may not be read: 244 microseconds (MC146818A, "Update cycle").
const UPDATE: u64 = 244_000;

/// Registers.
mod register {
    pub const SECOND: u8 = 0x00;
    pub const SECOND_ALARM: u8 = 0x01;
    pub const MINUTE: u8 = 0x02;
    pub const MINUTE_ALARM: u8 = 0x03;
    pub const HOUR: u8 = 0x04;
    pub const HOUR_ALARM: u8 = 0x05;
    pub const WEEKDAY: u8 = 0x06;
    pub const DAY: u8 = 0x07;
    pub const MONTH: u8 = 0x08;
    pub const YEAR: u8 = 0x09;
    pub const A: u8 = 0x0a;
    pub const B: u8 = 0x0b;
    pub const C: u8 = 0x0c;
    pub const D: u8 = 0x0d;
    /// Where PCs have the century.
    pub const CENTURY: u8 = 0x32;
}

/// Bits of register A: an update is near; and the rate.
const UPDATING: u8 = 1 << 7;
const RATE: u8 = 0xf;
/// Register A: the divider for a crystal of 32768 Hz.
const CRYSTAL: u8 = 0x20;
/// Bits of register B.
const HOURS_24: u8 = 1 << 1;
const BINARY: u8 = 1 << 2;
const SET: u8 = 1 << 7;
/// Bits of register C, and of B where they let it interrupt.
const UPDATED: u8 = 1 << 4;
const ALARM: u8 = 1 << 5;
const PERIODIC: u8 = 1 << 6;
const INTERRUPT: u8 = 1 << 7;
/// Register D: the battery is good.
const VALID: u8 = 1 << 7;
/// An hour of the afternoon, where hours are 12.
const AFTERNOON: u8 = 1 << 7;
/// An alarm's field that any value matches.
const ANY: u8 = 0xc0;

/// The clock.
pub struct Rtc {
    index: u8,
    /// The registers as they were written; those of the time are computed.
    memory: [u8; 128],
    /// What the guest's clock is ahead of the host's, in seconds.
    ahead: i64,
    /// While the guest sets the clock: what it shows.
    frozen: Option<Date>,
    /// The host's time when flags were raised last.
    seen: u64,
}

impl std::fmt::Debug for Rtc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rtc")
            .field("index", &self.index)
            .field("ahead", &self.ahead)
            .finish_non_exhaustive()
    }
}

impl Rtc {
    /// A clock that shows the host's time: nanoseconds since 1970, now.
    pub fn new(now: u64) -> Self {
        let mut memory = [0; 128];
        for (register, value) in [
            (register::A, CRYSTAL | 6),
            (register::B, HOURS_24),
            (register::D, VALID),
        ] {
            if let Some(byte) = memory.get_mut(usize::from(register)) {
                *byte = value;
            }
        }
        Self {
            index: 0,
            memory,
            ahead: 0,
            frozen: None,
            seen: now,
        }
    }

    /// Whether the line is raised.
    pub fn interrupt(&self) -> bool {
        self.at(register::C) & INTERRUPT != 0
    }

    /// Read a port, 0 or 1, at a moment of the host's clock.
    pub fn read(&mut self, offset: u16, now: u64) -> u8 {
        match offset {
            // The index cannot be read.
            0 => 0xff,
            _ => self.register(self.index, now),
        }
    }

    /// Write one.
    pub fn write(&mut self, offset: u16, value: u8, now: u64) {
        match offset {
            // The highest bit of the index holds NMI back, which a PC's board has beside it.
            0 => self.index = value & 0x7f,
            _ => self.set_register(self.index, value, now),
        }
    }

    /// Raise the flags for what has happened up to a moment.
    pub fn look(&mut self, now: u64) {
        let then = std::mem::replace(&mut self.seen, now);
        if now <= then {
            return;
        }
        let mut flags = 0;
        if let Some(period) = self.period()
            && now / period != then / period
        {
            flags |= PERIODIC;
        }
        let (first, last) = (then / SECOND + 1, now / SECOND);
        if first <= last && self.frozen.is_none() {
            flags |= UPDATED;
            // A day has all alarms.
            let mut seconds = first..=last.min(first + DAY);
            if seconds.any(|second| self.is_alarm(second)) {
                flags |= ALARM;
            }
        }
        let interrupts = flags & self.at(register::B) & (PERIODIC | ALARM | UPDATED) != 0;
        let interrupt = if interrupts { INTERRUPT } else { 0 };
        self.put(register::C, self.at(register::C) | flags | interrupt);
    }

    /// When a flag may be raised next that interrupts; `None` while there is none, or the line is raised.
    pub fn next_interrupt(&self) -> Option<u64> {
        if self.interrupt() {
            return None;
        }
        let wanted = self.at(register::B);
        let periodic = self.period().filter(|_| wanted & PERIODIC != 0);
        let periodic = periodic.map(|period| (self.seen / period + 1) * period);
        let is_by_second = wanted & (ALARM | UPDATED) != 0 && self.frozen.is_none();
        let second = is_by_second.then(|| (self.seen / SECOND + 1) * SECOND);
        periodic.into_iter().chain(second).min()
    }

    fn at(&self, register: u8) -> u8 {
        self.memory.get(usize::from(register)).copied().unwrap_or(0)
    }

    fn put(&mut self, register: u8, value: u8) {
        if let Some(byte) = self.memory.get_mut(usize::from(register)) {
            *byte = value;
        }
    }

    /// Nanoseconds between periodic interrupts. Two rates are those of another crystal's.
    fn period(&self) -> Option<u64> {
        let shift = match self.at(register::A) & RATE {
            0 => return None,
            rate @ 1..=2 => rate + 7,
            rate => rate,
        };
        // 2^(rate - 1) of 32768 in a second.
        Some(SECOND / (32_768 >> (shift - 1)))
    }

    /// The guest's seconds since 1970, at a second of the host's.
    fn seconds(&self, host: u64) -> u64 {
        host.saturating_add_signed(self.ahead)
    }

    fn date(&self, now: u64) -> Date {
        self.frozen
            .unwrap_or_else(|| Date::of(self.seconds(now / SECOND)))
    }

    fn register(&mut self, which: u8, now: u64) -> u8 {
        self.look(now);
        let date = self.date(now);
        match which {
            register::SECOND => self.coded(date.second),
            register::MINUTE => self.coded(date.minute),
            register::HOUR => self.coded_hour(date.hour),
            register::WEEKDAY => self.coded(Date::weekday(date.seconds())),
            register::DAY => self.coded(date.day),
            register::MONTH => self.coded(date.month),
            register::YEAR => self.coded(date.year % 100),
            register::CENTURY => self.coded(date.year / 100),
            register::A => {
                let is_near = self.frozen.is_none() && now % SECOND >= SECOND - UPDATE;
                self.at(register::A) | if is_near { UPDATING } else { 0 }
            }
            register::C => {
                let flags = self.at(register::C);
                self.put(register::C, 0);
                flags
            }
            _ => self.at(which),
        }
    }

    fn set_register(&mut self, which: u8, value: u8, now: u64) {
        self.look(now);
        match which {
            register::A => self.put(which, value & !UPDATING),
            register::B => self.set_control(value, now),
            register::C | register::D => {}
            register::WEEKDAY => {}
            register::SECOND
            | register::MINUTE
            | register::HOUR
            | register::DAY
            | register::MONTH
            | register::YEAR
            | register::CENTURY => {
                let mut date = self.date(now);
                let number = self.decoded(value);
                match which {
                    register::SECOND => date.second = number,
                    register::MINUTE => date.minute = number,
                    register::HOUR => date.hour = self.decoded_hour(value),
                    register::DAY => date.day = number,
                    register::MONTH => date.month = number,
                    register::YEAR => date.year = date.year / 100 * 100 + number.min(99),
                    _ => date.year = number * 100 + date.year % 100,
                }
                match &mut self.frozen {
                    Some(frozen) => *frozen = date,
                    None => self.set(date, now),
                }
            }
            _ => self.put(which, value),
        }
    }

    /// Register B: the bit that freezes the time while it is set, and what interrupts.
    fn set_control(&mut self, value: u8, now: u64) {
        let frozen = match value & SET {
            0 => {
                if let Some(date) = self.frozen {
                    self.set(date, now);
                }
                None
            }
            _ => Some(self.date(now)),
        };
        self.frozen = frozen;
        // Setting the time ends the updates (MC146818A, register B).
        let value = if value & SET != 0 {
            value & !UPDATED
        } else {
            value
        };
        self.put(register::B, value);
        let interrupts = self.at(register::C) & value & (PERIODIC | ALARM | UPDATED) != 0;
        let flags = self.at(register::C) & !INTERRUPT;
        self.put(register::C, flags | if interrupts { INTERRUPT } else { 0 });
    }

    fn set(&mut self, date: Date, now: u64) {
        let (wanted, host) = (date.seconds(), now / SECOND);
        self.ahead = wanted.cast_signed().saturating_sub(host.cast_signed());
    }

    fn is_alarm(&self, host_second: u64) -> bool {
        let of_day = (self.seconds(host_second) % DAY) as u32;
        [
            (register::SECOND_ALARM, self.coded(of_day % 60)),
            (register::MINUTE_ALARM, self.coded(of_day / 60 % 60)),
            (register::HOUR_ALARM, self.coded_hour(of_day / 3600)),
        ]
        .into_iter()
        .all(|(register, now)| self.at(register) >= ANY || self.at(register) == now)
    }

    /// A number below 100 as register B wants it.
    fn coded(&self, value: u32) -> u8 {
        let value = value as u8;
        match self.at(register::B) & BINARY {
            0 => ((value / 10) << 4) | (value % 10),
            _ => value,
        }
    }

    fn decoded(&self, value: u8) -> u32 {
        match self.at(register::B) & BINARY {
            0 => u32::from(value >> 4) * 10 + u32::from(value & 0xf),
            _ => value.into(),
        }
    }

    fn coded_hour(&self, hour: u32) -> u8 {
        if self.at(register::B) & HOURS_24 != 0 {
            return self.coded(hour);
        }
        let afternoon = if hour >= 12 { AFTERNOON } else { 0 };
        self.coded((hour + 11) % 12 + 1) | afternoon
    }

    fn decoded_hour(&self, value: u8) -> u32 {
        if self.at(register::B) & HOURS_24 != 0 {
            return self.decoded(value);
        }
        let hour = self.decoded(value & !AFTERNOON) % 12;
        if value & AFTERNOON != 0 {
            hour + 12
        } else {
            hour
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sunday, 2026-11-29, 01:02:03 UTC.
    const NOW: u64 = (1_795_910_400 + 3723) * SECOND;

    fn get(rtc: &mut Rtc, register: u8, now: u64) -> u8 {
        rtc.write(0, register | 0x80, now);
        rtc.read(1, now)
    }

    fn set(rtc: &mut Rtc, register: u8, value: u8, now: u64) {
        rtc.write(0, register, now);
        rtc.write(1, value, now);
    }

    fn shown(rtc: &mut Rtc, now: u64) -> [u8; 8] {
        use register::*;
        [
            CENTURY,
            YEAR,
            MONTH,
            DAY,
            WEEKDAY,
            HOUR,
            MINUTE,
            register::SECOND,
        ]
        .map(|register| get(rtc, register, now))
    }

    #[test]
    fn the_time_is_the_host_s_in_each_form() {
        let mut rtc = Rtc::new(NOW);
        assert_eq!(shown(&mut rtc, NOW), [0x20, 0x26, 0x11, 0x29, 1, 1, 2, 3]);
        let noon = NOW + 11 * 3600 * SECOND;
        assert_eq!(get(&mut rtc, register::HOUR, noon), 0x12);
        set(&mut rtc, register::B, 0, NOW);
        assert_eq!(get(&mut rtc, register::HOUR, noon), 0x92);
        assert_eq!(
            get(&mut rtc, register::HOUR, noon - 12 * 3600 * SECOND),
            0x12
        );
        set(&mut rtc, register::B, HOURS_24 | BINARY, NOW);
        assert_eq!(shown(&mut rtc, NOW), [20, 26, 11, 29, 1, 1, 2, 3]);
        assert_eq!(get(&mut rtc, register::D, NOW), VALID);
    }

    #[test]
    fn an_update_is_announced() {
        let mut rtc = Rtc::new(NOW);
        assert_eq!(get(&mut rtc, register::A, NOW), 0x26);
        assert_eq!(get(&mut rtc, register::A, NOW + SECOND - UPDATE - 1), 0x26);
        assert_eq!(get(&mut rtc, register::A, NOW + SECOND - UPDATE), 0xa6);
        assert_eq!(get(&mut rtc, register::A, NOW + SECOND), 0x26);
    }

    #[test]
    fn a_guest_may_set_it() {
        let mut rtc = Rtc::new(NOW);
        set(&mut rtc, register::B, SET | HOURS_24, NOW);
        for (register, value) in [
            (register::CENTURY, 0x19),
            (register::YEAR, 0x99),
            (register::MONTH, 0x12),
            (register::DAY, 0x31),
            (register::HOUR, 0x23),
            (register::MINUTE, 0x59),
            (register::SECOND, 0x58),
        ] {
            set(&mut rtc, register, value, NOW);
        }
        let later = NOW + 9 * SECOND;
        assert_eq!(
            get(&mut rtc, register::SECOND, later),
            0x58,
            "it stands still"
        );
        set(&mut rtc, register::B, HOURS_24, later);
        assert_eq!(
            shown(&mut rtc, later + SECOND),
            [0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59]
        );
        assert_eq!(
            shown(&mut rtc, later + 2 * SECOND),
            [0x20, 0, 1, 1, 7, 0, 0, 0]
        );
        // Without the bit as well, a field at a time.
        set(&mut rtc, register::MINUTE, 0x30, later + 2 * SECOND);
        assert_eq!(shown(&mut rtc, later + 3 * SECOND)[5..], [0, 0x30, 1]);
    }

    #[test]
    fn periods_seconds_and_alarms_raise_their_flags_and_the_line() {
        let mut rtc = Rtc::new(NOW);
        assert_eq!(rtc.next_interrupt(), None);
        // 1024 Hz, the rate after a reset: a flag without an interrupt.
        let tick = SECOND / 1024;
        rtc.look(NOW + 2 * tick);
        assert!(!rtc.interrupt());
        assert_eq!(get(&mut rtc, register::C, NOW + 2 * tick), PERIODIC);
        set(&mut rtc, register::B, HOURS_24 | PERIODIC, NOW + 2 * tick);
        let due = rtc.next_interrupt().expect("it is periodic");
        assert!(due > NOW + 2 * tick && due <= NOW + 3 * tick + 1024);
        rtc.look(due);
        assert!(rtc.interrupt());
        assert_eq!(rtc.next_interrupt(), None, "until somebody reads C");
        assert_eq!(get(&mut rtc, register::C, due), INTERRUPT | PERIODIC);
        assert!(!rtc.interrupt());

        // An alarm at each minute's 5th second, now 01:02:03.
        set(&mut rtc, register::SECOND_ALARM, 5, NOW);
        set(&mut rtc, register::MINUTE_ALARM, 0xff, NOW);
        set(&mut rtc, register::HOUR_ALARM, ANY, NOW);
        set(&mut rtc, register::A, 0x20, NOW);
        set(&mut rtc, register::B, HOURS_24 | ALARM, NOW);
        get(&mut rtc, register::C, NOW + SECOND);
        assert_eq!(rtc.next_interrupt(), Some(NOW + 2 * SECOND));
        rtc.look(NOW + 2 * SECOND);
        assert!(rtc.interrupt());
        assert_eq!(
            get(&mut rtc, register::C, NOW + 2 * SECOND),
            INTERRUPT | ALARM | UPDATED
        );
        rtc.look(NOW + 61 * SECOND);
        assert!(!rtc.interrupt());
        rtc.look(NOW + 62 * SECOND);
        assert!(rtc.interrupt());
    }

    #[test]
    fn memory_is_memory() {
        let mut rtc = Rtc::new(NOW);
        for register in (0x0e..0x80).filter(|register| *register != register::CENTURY) {
            set(&mut rtc, register, register ^ 0x5a, NOW);
        }
        for register in (0x0e..0x80).filter(|register| *register != register::CENTURY) {
            assert_eq!(get(&mut rtc, register, NOW), register ^ 0x5a);
        }
        assert_eq!(rtc.read(0, NOW), 0xff);
    }

    proptest! {
        /// Whatever is written, at whatever time, nothing panics; and what is due is ahead.
        #[test]
        fn no_access_is_too_odd(
            accesses in prop::collection::vec((any::<u8>(), any::<u8>(), any::<bool>(), any::<u64>()), 1..100),
            leap: u64,
        ) {
            let mut rtc = Rtc::new(NOW);
            let mut now = NOW;
            let count = accesses.len();
            for (at, (register, value, is_write, step)) in accesses.into_iter().enumerate() {
                // Seconds mostly, back now and then, and once anywhere.
                now = match step % 8 {
                    _ if at == count / 2 => leap,
                    0 => now.saturating_sub(step % (100 * SECOND)),
                    _ => now.saturating_add(step % (3 * SECOND)),
                };
                match is_write {
                    true => set(&mut rtc, register, value, now),
                    false => {
                        get(&mut rtc, register, now);
                    }
                }
                if let Some(due) = rtc.next_interrupt() {
                    prop_assert!(due > now);
                }
            }
        }
    }
}
