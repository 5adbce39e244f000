//! The interval timer, an 8254: its first counter, as a source of interrupts and as a clock that is read.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use driver_api::{Halves, Lock, PortEnv, Ports};

use crate::BoardError;

/// How many ports it has.
const PORTS: u16 = 4;
/// Ticks in a second.
pub const HZ: u32 = 1_193_182;

const COUNTER: u16 = 0;
const CONTROL: u16 = 3;

/// Control words, all of the first counter, low byte first.
mod control {
    /// One interrupt, once; until a count comes, none.
    pub const ONCE: u8 = 0x30;
    /// One each time the count has passed.
    pub const RATE: u8 = 0x34;
    /// Hold the count for who reads it.
    pub const LATCH: u8 = 0x00;
    /// Hold the status and the count.
    pub const READ_BACK: u8 = 0xc2;
}

/// Status: the output is high; no count has come yet.
const OUTPUT: u8 = 1 << 7;
const NO_COUNT: u8 = 1 << 6;

/// The timer.
pub struct Timer<E: PortEnv> {
    ports: E::Ports,
    /// What takes more than one access is done by one at a time.
    alone: E::Lock<()>,
    ticks: AtomicU64,
}

impl<E: PortEnv> Timer<E> {
    /// Take over the timer at these ports, stopped. Its interrupts arrive at a vector.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn new(env: &E, first: u16, vector: u8) -> Result<Arc<Self>, BoardError> {
        let timer = Arc::new(Self {
            ports: env.ports(first, PORTS)?,
            alone: E::Lock::new(()),
            ticks: AtomicU64::new(0),
        });
        timer.stop();
        // Stopped in this mode the output is low, and no count has come.
        let status = timer.read_back().0;
        if status & (OUTPUT | NO_COUNT | 0x3f) != NO_COUNT | control::ONCE & 0x3f {
            return Err(BoardError::NoDevice);
        }
        env.irq(vector, timer.clone())?;
        Ok(timer)
    }

    /// Interrupt so many times in a second, 19 at least. Returns how many ticks of the timer a period has.
    ///
    /// # Errors
    /// [`BoardError::OutOfRange`].
    pub fn start(&self, hz: u32) -> Result<u16, BoardError> {
        let period = HZ
            .checked_div(hz)
            .and_then(|period| u16::try_from(period).ok());
        let period = period
            .filter(|period| *period >= 2)
            .ok_or(BoardError::OutOfRange)?;
        self.ticks.store(0, Ordering::Relaxed);
        self.load(control::RATE, period);
        Ok(period)
    }

    /// Interrupt no more.
    pub fn stop(&self) {
        self.alone
            .with(|()| self.ports.write(CONTROL, control::ONCE));
    }

    /// How many interrupts there were since the start.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// What is left of the period, in ticks of the timer.
    pub fn left(&self) -> u16 {
        self.alone.with(|()| {
            self.ports.write(CONTROL, control::LATCH);
            self.count()
        })
    }

    fn load(&self, control: u8, count: u16) {
        let [low, high] = count.to_le_bytes();
        self.alone.with(|()| {
            self.ports.write(CONTROL, control);
            self.ports.write(COUNTER, low);
            self.ports.write(COUNTER, high);
        });
    }

    /// Status and count, both of one moment.
    fn read_back(&self) -> (u8, u16) {
        self.alone.with(|()| {
            self.ports.write(CONTROL, control::READ_BACK);
            (self.ports.read(COUNTER), self.count())
        })
    }

    fn count(&self) -> u16 {
        let low = self.ports.read(COUNTER);
        u16::from_le_bytes([low, self.ports.read(COUNTER)])
    }
}

impl<E: PortEnv> Halves for Timer<E> {
    /// Count. The line falls by itself.
    fn top(&self) -> bool {
        self.ticks.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn bottom(&self) {}
}
