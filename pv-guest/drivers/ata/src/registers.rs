//! A channel's registers, and what a drive is asked by polling.

use core::sync::atomic::{AtomicU32, Ordering};

use driver_api::Ports;

use crate::identify::Identity;
use crate::wire::{SECTOR_WORDS, command, control, device, register, status};

/// How often a status is looked at before a drive counts as stuck: each look costs an exit.
const LOOKS: u32 = 100_000;

/// A drive, or the channel, did not do what it should in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck;

/// In `answered`: there was an interrupt, and the status is below.
const ANSWERED: u32 = 1 << 8;

/// The registers, and the last interrupt's status.
pub struct Registers<P> {
    command: P,
    control: P,
    /// The status that the last interrupt came with, until somebody has taken it.
    answered: AtomicU32,
}

impl<P: Ports> Registers<P> {
    pub fn new(command: P, control: P) -> Self {
        Self {
            command,
            control,
            answered: AtomicU32::new(0),
        }
    }

    /// There is an interrupt: keep the status, and so lower the line.
    pub fn acknowledge(&self) {
        let now = u32::from(self.status()) | ANSWERED;
        self.answered.store(now, Ordering::Release);
    }

    /// The status of an interrupt since the last call of this or `begin`.
    pub fn take_answer(&self) -> Option<u8> {
        let answered = self.answered.swap(0, Ordering::AcqRel);
        (answered & ANSWERED != 0).then_some(answered as u8)
    }

    /// Give the selected drive a command. An interrupt from before is none of its.
    pub fn begin(&self, command: u8) {
        self.answered.store(0, Ordering::Release);
        self.write(register::STATUS, command);
    }

    pub fn write(&self, register: u16, value: u8) {
        self.command.write(register, value);
    }

    /// The status; a pending interrupt is acknowledged.
    pub fn status(&self) -> u8 {
        self.command.read(register::STATUS)
    }

    pub fn read_data(&self, into: &mut [u16]) {
        self.command.read_words(register::DATA, into);
    }

    pub fn write_data(&self, from: &[u16]) {
        self.command.write_words(register::DATA, from);
    }

    /// Let interrupts out, or not.
    pub fn set_interrupts(&self, is_on: bool) {
        self.control
            .write(0, if is_on { 0 } else { control::NO_INTERRUPT });
    }

    /// Choose a drive, and wait until it takes a command. The other bits of the device register are `more`.
    pub fn select(&self, is_second: bool, more: u8) -> Result<(), Stuck> {
        let second = if is_second { device::SECOND } else { 0 };
        self.write(register::DEVICE, device::LBA | second | more);
        self.wait(|now| now & (status::BUSY | status::DATA) == 0)
            .map(drop)
    }

    /// Wait, without an interrupt, until the drive has an answer: data, an error, or success.
    pub fn answer(&self) -> Result<u8, Stuck> {
        self.wait(|now| now & status::BUSY == 0)
    }

    /// Look at the alternate status, which acknowledges nothing.
    fn wait(&self, is_over: impl Fn(u8) -> bool) -> Result<u8, Stuck> {
        let mut looks = (0..LOOKS).map(|_| self.control.read(0));
        looks.find(|now| is_over(*now)).ok_or(Stuck)
    }

    /// Reset both drives, with interrupts held back.
    pub fn reset(&self) -> Result<(), Stuck> {
        self.control
            .write(0, control::NO_INTERRUPT | control::RESET);
        self.set_interrupts(false);
        self.write(register::DEVICE, 0);
        self.answer().map(drop)
    }

    /// Ask a drive what it is; `None` when no disk answers. Interrupts are held back.
    pub fn identify(&self, is_second: bool) -> Option<Identity> {
        self.select(is_second, 0).ok()?;
        // A bus that nobody drives floats, or shows no status at all.
        if matches!(self.status(), 0 | 0xff) {
            return None;
        }
        self.begin(command::IDENTIFY);
        let now = self.answer().ok()?;
        if now & (status::ERROR | status::FAULT) != 0 || now & status::DATA == 0 {
            return None;
        }
        let mut words = [0; SECTOR_WORDS];
        self.read_data(&mut words);
        self.status();
        let identity = Identity::parse(&words)?;
        Some(Identity {
            multiple: self.set_multiple(is_second, identity.multiple),
            ..identity
        })
    }

    /// Have a drive move blocks of so many sectors; 0 when it will not.
    fn set_multiple(&self, is_second: bool, count: u8) -> u8 {
        if count == 0 || self.select(is_second, 0).is_err() {
            return 0;
        }
        self.write(register::COUNT, count);
        self.begin(command::SET_MULTIPLE);
        let answer = self.answer();
        // What came of the setup is over, for this drive: the line would rise when it is selected again.
        self.status();
        match answer {
            Ok(now) if now & (status::ERROR | status::FAULT | status::DATA) == 0 => count,
            _ => 0,
        }
    }
}
