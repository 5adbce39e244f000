//! The board's timer, clock and keyboard controller: ports, and time that passes.

use fastrand::Rng;
use hypervisor::legacy::{I8042, Pit, Rtc};

use super::{Step, byte, show, steps};
use crate::random::Choose;
use crate::tally::Tally;
use crate::target::Target;

/// What cases should come to.
pub const OUTCOMES: &[&str] = &[
    "the timer rises",
    "the clock interrupts",
    "the clock was set",
    "a reset",
];

/// The three.
pub struct Clocks;

/// Where they are in a PC: the timer from here on, the clock, and the controller's data and commands.
const PIT: u64 = 0x40;
const RTC: u64 = 0x70;
const I8042_DATA: u64 = 0x60;
const I8042_COMMAND: u64 = 0x64;
/// The event: so many nanoseconds pass.
const TIME: &str = "time passes";
const SECOND: u64 = 1_000_000_000;
/// When a case begins: in 2026, in nanoseconds since 1970.
const BEGIN: u64 = 1_795_910_400 * SECOND;

/// One step of a driver that may be wrong, or of time.
fn step(rng: &mut Rng, steps: &mut Vec<Step>) {
    let some = rng.u8(..);
    let step = match rng.u32(..12) {
        0..2 => byte(
            PIT + 3,
            rng.one_of(&[0x34, 0x36, 0x30, 0x38, 0x35, 0, 0xc2, some]),
        ),
        2..4 => byte(PIT + rng.u64(..3), rng.one_of(&[0, 1, 2, 0x99, some])),
        4..7 => {
            let register = rng.u8(..0x10);
            let register = rng.one_of(&[register, register, 0x0a, 0x0b, 0x0b, 0x32, some]);
            steps.push(byte(RTC, register));
            byte(
                RTC + 1,
                rng.one_of(&[0x02, 0x06, 0x42, 0x52, 0x72, 0x82, 0xc0, 0xff, some]),
            )
        }
        7 => byte(
            rng.one_of(&[I8042_DATA, I8042_COMMAND, I8042_COMMAND]),
            rng.one_of(&[0xaa, 0xfe, some]),
        ),
        8..10 => Step::Read {
            at: rng.one_of(&[
                PIT,
                PIT + 1,
                PIT + 3,
                RTC,
                RTC + 1,
                I8042_DATA,
                I8042_COMMAND,
            ]),
            len: 1,
        },
        _ => {
            let shift = rng.u32(..50);
            Step::Event {
                what: TIME,
                first: rng.u64(..) >> (63 - shift),
                second: 0,
            }
        }
    };
    steps.push(step);
}

/// The devices, and what they have been told.
struct Board {
    pit: Pit,
    rtc: Rtc,
    keyboard: I8042,
    passed: u64,
    /// Whether a pulse of the reset's line was asked for.
    wants_reset: bool,
}

impl Board {
    fn wall(&self) -> u64 {
        BEGIN.saturating_add(self.passed)
    }

    fn write(&mut self, at: u64, value: u8) {
        match at {
            I8042_DATA | I8042_COMMAND => {
                self.wants_reset |= at == I8042_COMMAND && value >= 0xf0 && value & 1 == 0;
                self.keyboard.write(at as u16, value);
            }
            RTC.. => self.rtc.write((at - RTC) as u16, value, self.wall()),
            _ => self.pit.write((at - PIT) as u16, value, self.passed),
        }
    }

    fn read(&mut self, at: u64) -> u8 {
        match at {
            I8042_DATA | I8042_COMMAND => self.keyboard.read(at as u16),
            RTC.. => self.rtc.read((at - RTC) as u16, self.wall()),
            _ => self.pit.read((at - PIT) as u16, self.passed),
        }
    }

    fn register(&mut self, register: u8) -> u8 {
        self.write(RTC, register);
        self.read(RTC + 1)
    }

    fn set_register(&mut self, register: u8, value: u8) {
        self.write(RTC, register);
        self.write(RTC + 1, value);
    }

    /// What has to be so at any time.
    fn check(&mut self, tally: &mut Tally) -> Result<(), String> {
        if let Some(rise) = self.pit.next_rise(self.passed) {
            tally.reached("the timer rises");
            if rise <= self.passed {
                return Err(format!("at {} the timer rises next at {rise}", self.passed));
            }
        }
        let now = self.wall();
        self.rtc.look(now);
        if let Some(next) = self.rtc.next_interrupt()
            && next <= now
        {
            return Err(format!("at {now} the clock may interrupt next at {next}"));
        }
        if self.rtc.interrupt() {
            tally.reached("the clock interrupts");
        }
        if self.keyboard.resets() != self.wants_reset {
            return Err(format!(
                "the processor's reset is {}",
                self.keyboard.resets()
            ));
        }
        Ok(())
    }

    /// Whatever was done to them: set up afresh, they are of use.
    fn probe(&mut self) -> Result<(), String> {
        // 1000 ticks at 1.193182 MHz, mode 2.
        for (offset, value) in [(3, 0x34), (0, 0xe8), (0, 0x03)] {
            self.write(PIT + offset, value);
        }
        let rise = self.pit.next_rise(self.passed).map(|at| at - self.passed);
        if rise != Some(838_096) {
            return Err(format!("a thousand ticks are {rise:?} ns"));
        }
        // 24 hours, decimal; 30 seconds after the minute.
        self.set_register(0x0b, 0x82);
        for (register, value) in [
            (0x32, 0x20),
            (9, 0x26),
            (8, 0x11),
            (7, 0x29),
            (4, 0x23),
            (2, 0x59),
            (0, 0x30),
        ] {
            self.set_register(register, value);
        }
        self.set_register(0x0b, 0x02);
        self.passed = self.passed.saturating_add(31 * SECOND);
        let shown = [0x32, 9, 8, 7, 4, 2].map(|register| self.register(register));
        let midnight = [0x20, 0x26, 0x11, 0x30, 0, 0];
        if shown != midnight {
            return Err(format!(
                "the clock shows {shown:02x?} instead of {midnight:02x?}"
            ));
        }
        // Once register C has been read, the periodic interrupt comes at 1024 Hz.
        self.set_register(0x0a, 0x26);
        self.set_register(0x0b, 0x42);
        self.register(0x0c);
        let next = self.rtc.next_interrupt();
        let wait = next.and_then(|next| next.checked_sub(self.wall()));
        if wait.is_none_or(|wait| wait > 976_563) {
            return Err(format!(
                "the clock interrupts at {next:?}, and now it is {}",
                self.wall()
            ));
        }
        Ok(())
    }
}

impl Target for Clocks {
    fn case(&mut self, mut rng: Rng, tally: &mut Tally) -> Result<(), String> {
        let mut board = Board {
            pit: Pit::default(),
            rtc: Rtc::new(BEGIN),
            keyboard: I8042::default(),
            passed: 0,
            wants_reset: false,
        };
        for step in steps(&mut rng, step) {
            tally.operations += 1;
            match step {
                Step::Write { at, bytes } => bytes.iter().for_each(|value| board.write(at, *value)),
                Step::Read { at, .. } => {
                    board.read(at);
                }
                // A hundred years at most, so that a century is left.
                Step::Event { first, .. } => {
                    board.passed = board
                        .passed
                        .saturating_add(first)
                        .min(100 * 366 * 86_400 * SECOND);
                }
            }
            board.check(tally)?;
        }
        if board.wants_reset {
            tally.reached("a reset");
        }
        board.probe()?;
        tally.reached("the clock was set");
        Ok(())
    }

    fn show(&mut self, mut rng: Rng) -> String {
        show(&steps(&mut rng, step))
    }
}
