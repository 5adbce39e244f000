//! The clock of a PC, an MC146818: the time of day, and a periodic interrupt.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use driver_api::{Halves, Lock, PortEnv, Ports};

use crate::BoardError;

/// How many ports it has.
const PORTS: u16 = 2;
const INDEX: u16 = 0;
const VALUE: u16 = 1;
/// How often the time is read until two readings agree: a second passes once at most between two of them.
const TRIES: usize = 8;
/// How often the clock is asked whether it is being updated: that takes 2 ms, and each look costs an exit.
const LOOKS: usize = 10_000;

/// Registers.
mod register {
    pub const SECOND: u8 = 0x00;
    pub const MINUTE: u8 = 0x02;
    pub const HOUR: u8 = 0x04;
    pub const DAY: u8 = 0x07;
    pub const MONTH: u8 = 0x08;
    pub const YEAR: u8 = 0x09;
    pub const A: u8 = 0x0a;
    pub const B: u8 = 0x0b;
    pub const C: u8 = 0x0c;
    pub const D: u8 = 0x0d;
    pub const CENTURY: u8 = 0x32;
}

/// Register A: an update is near; and the rate of periodic interrupts.
const UPDATING: u8 = 1 << 7;
const RATE: u8 = 0xf;
/// Register B: hours are 24, numbers are binary; periods interrupt.
const HOURS_24: u8 = 1 << 1;
const BINARY: u8 = 1 << 2;
const PERIODIC: u8 = 1 << 6;
/// Register D: the battery is good. The other bits are zeros.
const VALID: u8 = 1 << 7;
/// An hour of the afternoon, where hours are 12.
const AFTERNOON: u8 = 1 << 7;

/// A moment in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// The year.
    pub year: u16,
    /// The month, from 1 on.
    pub month: u8,
    /// The day of the month, from 1 on.
    pub day: u8,
    /// The hour, 0 to 23.
    pub hour: u8,
    /// The minute.
    pub minute: u8,
    /// The second.
    pub second: u8,
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = self;
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
        )
    }
}

/// The clock.
pub struct Clock<E: PortEnv> {
    ports: E::Ports,
    /// Index and value are two accesses. The top half uses them, too: it has to be kept off.
    alone: E::Lock<()>,
    ticks: AtomicU64,
}

impl<E: PortEnv> Clock<E> {
    /// Take over the clock at these ports. Its interrupts arrive at a vector.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn new(env: &E, first: u16, vector: u8) -> Result<Arc<Self>, BoardError> {
        let clock = Arc::new(Self {
            ports: env.ports(first, PORTS)?,
            alone: E::Lock::new(()),
            ticks: AtomicU64::new(0),
        });
        if clock.get(register::D) != VALID {
            return Err(BoardError::NoDevice);
        }
        clock.stop();
        env.irq(vector, clock.clone())?;
        Ok(clock)
    }

    /// The time of day.
    ///
    /// # Errors
    /// [`BoardError::Busy`], when no two readings agree.
    pub fn now(&self) -> Result<Date, BoardError> {
        let mut last = None;
        for _ in 0..TRIES {
            let mut looks = (0..LOOKS).map(|_| self.get(register::A) & UPDATING);
            if looks.all(|is_updating| is_updating != 0) {
                return Err(BoardError::Busy);
            }
            let date = self.read();
            if last == Some(date) {
                return Ok(date);
            }
            last = Some(date);
        }
        Err(BoardError::Busy)
    }

    /// Interrupt so many times in a second: a power of two from 2 to 8192.
    ///
    /// # Errors
    /// [`BoardError::OutOfRange`].
    pub fn start(&self, hz: u32) -> Result<(), BoardError> {
        let is_one = hz.is_power_of_two() && (2..=8192).contains(&hz);
        let log = hz
            .checked_ilog2()
            .filter(|_| is_one)
            .ok_or(BoardError::OutOfRange)?;
        // Rate r is 2^(16 - r) in a second.
        let rate = 16 - log as u8;
        self.ticks.store(0, Ordering::Relaxed);
        let kept = self.get(register::A) & !(RATE | UPDATING);
        self.set(register::A, kept | rate);
        // Periods pass without interrupts, too: one from before would be one too many.
        self.get(register::C);
        let control = self.get(register::B);
        self.set(register::B, control | PERIODIC);
        Ok(())
    }

    /// Interrupt no more.
    pub fn stop(&self) {
        let control = self.get(register::B);
        self.set(register::B, control & !PERIODIC);
        self.get(register::C);
    }

    /// How many interrupts there were since the start.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    fn read(&self) -> Date {
        let control = self.get(register::B);
        let number = |value: u8| match control & BINARY {
            0 => (value >> 4).wrapping_mul(10).wrapping_add(value & 0xf),
            _ => value,
        };
        let get = |register| number(self.get(register));
        let hour = self.get(register::HOUR);
        let hour = match control & HOURS_24 {
            0 => number(hour & !AFTERNOON) % 12 + if hour & AFTERNOON != 0 { 12 } else { 0 },
            _ => number(hour),
        };
        Date {
            year: u16::from(get(register::CENTURY)) * 100 + u16::from(get(register::YEAR)),
            month: get(register::MONTH),
            day: get(register::DAY),
            hour,
            minute: get(register::MINUTE),
            second: get(register::SECOND),
        }
    }

    fn get(&self, register: u8) -> u8 {
        self.alone.with(|()| {
            self.ports.write(INDEX, register);
            self.ports.read(VALUE)
        })
    }

    fn set(&self, register: u8, value: u8) {
        self.alone.with(|()| {
            self.ports.write(INDEX, register);
            self.ports.write(VALUE, value);
        });
    }
}

impl<E: PortEnv> Halves for Clock<E> {
    /// Read why there is an interrupt, which lowers the line, and count it. Whoever had chosen a register
    /// holds the lock meanwhile.
    fn top(&self) -> bool {
        self.ports.write(INDEX, register::C);
        if self.ports.read(VALUE) & PERIODIC != 0 {
            self.ticks.fetch_add(1, Ordering::Relaxed);
        }
        false
    }

    fn bottom(&self) {}
}
