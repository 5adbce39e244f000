//! The driver of the I/O APIC (Intel 82093AA): which pin leads to which vector of the local APIC, and how.
//!
//! Called by who knows which pin a device has. Never handles an interrupt: it routes them. A local APIC tells
//! the I/O APIC of the end of a level-triggered one itself (SDM vol. 3, 11.8.5), so nothing is done here then.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

use driver_api::{Env, EnvError, Lock, Mmio};

/// Bytes of its registers.
pub const BYTES: u64 = 0x1000;

/// Offsets of the registers that are not behind the index.
const INDEX: u64 = 0x00;
const WINDOW: u64 = 0x10;

/// Registers behind the index: the version, and two for each pin.
const VERSION: u32 = 0x01;
const TABLE: u32 = 0x10;

/// Bits of a pin's low register (82093AA, 3.2.4). Fixed delivery, active high and edge are zeros.
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;

/// When a pin asks for an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// When its line rises: once.
    Edge,
    /// While its line is raised: again after each end.
    Level,
}

/// Why it cannot be used, or a pin not be connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoApicError {
    /// What is there is none.
    Version(u32),
    /// It has no such pin.
    NoPin(u8),
    /// The environment refused something.
    Env(EnvError),
}

impl fmt::Display for IoApicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => {
                write!(f, "there is no I/O APIC: its version is {version:#x}")
            }
            Self::NoPin(pin) => write!(f, "the I/O APIC has no pin {pin}"),
            Self::Env(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for IoApicError {}

/// An I/O APIC.
pub struct IoApic<E: Env> {
    registers: E::Mmio,
    /// Index and window are two accesses.
    index: E::Lock<()>,
    pins: u8,
}

impl<E: Env> IoApic<E> {
    /// Take over the one at a guest-physical address. Its pins are masked, as after each reset: nobody used
    /// it before.
    ///
    /// # Errors
    /// [`IoApicError`].
    pub fn new(env: &E, phys: u64) -> Result<Self, IoApicError> {
        let registers = env.mmio(phys, BYTES).map_err(IoApicError::Env)?;
        let mut apic = Self {
            registers,
            index: E::Lock::new(()),
            pins: 0,
        };
        let version = apic.read(VERSION);
        // The 82093AA's own is 0x11; on a bus that floats all bits are set.
        if !(0x10..0xff).contains(&(version & 0xff)) {
            return Err(IoApicError::Version(version));
        }
        // The highest pin's number; an index has 8 bits, so there are 120 at most.
        apic.pins = ((version >> 16 & 0xff) as u8).min(119) + 1;
        Ok(apic)
    }

    /// How many pins it has.
    pub fn pins(&self) -> u8 {
        self.pins
    }

    /// Lead a pin's interrupts to a vector of local APIC 0.
    ///
    /// # Errors
    /// [`IoApicError::NoPin`].
    pub fn connect(&self, pin: u8, vector: u8, trigger: Trigger) -> Result<(), IoApicError> {
        let register = self.pin(pin)?;
        let trigger = match trigger {
            Trigger::Edge => 0,
            Trigger::Level => LEVEL,
        };
        // The destination first: the low half lets interrupts out.
        self.write(register + 1, 0);
        self.write(register, u32::from(vector) | trigger);
        Ok(())
    }

    /// Let a pin's interrupts out no longer.
    ///
    /// # Errors
    /// [`IoApicError::NoPin`].
    pub fn mask(&self, pin: u8) -> Result<(), IoApicError> {
        let register = self.pin(pin)?;
        self.write(register, MASKED);
        Ok(())
    }

    fn pin(&self, pin: u8) -> Result<u32, IoApicError> {
        match pin < self.pins {
            true => Ok(TABLE + 2 * u32::from(pin)),
            false => Err(IoApicError::NoPin(pin)),
        }
    }

    fn read(&self, register: u32) -> u32 {
        self.index.with(|()| {
            self.registers.write(INDEX, register);
            self.registers.read(WINDOW)
        })
    }

    fn write(&self, register: u32, value: u32) {
        self.index.with(|()| {
            self.registers.write(INDEX, register);
            self.registers.write(WINDOW, value);
        });
    }
}
