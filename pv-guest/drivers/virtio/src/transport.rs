//! Virtio over MMIO (virtio 1.3, 4.2): how a device is found, set up and told of requests.
//!
//! Each access may cost an exit, so a driver sets up once and keeps what it read. On the data path
//! only [`Transport::notify`] is used, a store that the hypervisor binds to an eventfd.

use driver_api::Mmio;

use crate::error::VirtioError;
use crate::wire::{self, register, status};

/// How often a reset is asked for its end, and a configuration for a quiet moment.
const TRIES: u32 = 1000;

/// A device's registers.
#[derive(Debug)]
pub struct Transport<M> {
    registers: M,
}

impl<M: Mmio> Transport<M> {
    /// Recognize a device (4.2.3.1.1).
    ///
    /// # Errors
    /// [`VirtioError`] when there is none.
    pub fn new(registers: M) -> Result<Self, VirtioError> {
        if registers.len() < register::CONFIG {
            return Err(VirtioError::Configuration);
        }
        match registers.read(register::MAGIC_VALUE) {
            wire::MAGIC => {}
            other => return Err(VirtioError::NotVirtio(other)),
        }
        match registers.read(register::VERSION) {
            wire::VERSION => Ok(Self { registers }),
            other => Err(VirtioError::Version(other)),
        }
    }

    /// What kind of device it is; 0 when there is none.
    pub fn device_id(&self) -> u32 {
        self.registers.read(register::DEVICE_ID)
    }

    /// Reset the device, and agree on features (3.1.1, steps 1 to 6). Returns those that both have.
    ///
    /// # Errors
    /// [`VirtioError`]; the device is told that the driver has given up.
    pub fn negotiate(&self, wanted: u64) -> Result<u64, VirtioError> {
        self.reset()?;
        let known = status::ACKNOWLEDGE | status::DRIVER;
        self.set_status(status::ACKNOWLEDGE);
        self.set_status(known);
        let agreed = self.device_features() & (wanted | wire::F_VERSION_1);
        if agreed & wire::F_VERSION_1 == 0 {
            self.fail();
            return Err(VirtioError::Legacy);
        }
        self.set_driver_features(agreed);
        self.set_status(known | status::FEATURES_OK);
        if self.status() & status::FEATURES_OK == 0 {
            self.fail();
            return Err(VirtioError::FeaturesRefused);
        }
        Ok(agreed)
    }

    /// Reset the device: when this returns, it uses no memory of the driver's (2.4.2).
    ///
    /// # Errors
    /// [`VirtioError::NoReset`].
    pub fn reset(&self) -> Result<(), VirtioError> {
        self.set_status(0);
        let is_done = (0..TRIES).any(|_| self.status() == 0);
        is_done.then_some(()).ok_or(VirtioError::NoReset)
    }

    /// Let the device begin (3.1.1, step 8).
    pub fn begin(&self) {
        let all = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK;
        self.set_status(all);
    }

    /// Tell the device that the driver has given up.
    pub fn fail(&self) {
        self.set_status(self.status() | status::FAILED);
    }

    /// How many entries a queue may have; 0 when the device lacks it or it is in use.
    pub fn max_queue_size(&self, queue: u16) -> u32 {
        self.registers.write(register::QUEUE_SEL, queue.into());
        match self.registers.read(register::QUEUE_READY) {
            0 => self.registers.read(register::QUEUE_NUM_MAX),
            _ => 0,
        }
    }

    /// Hand a queue's rings to the device (4.2.3.2): descriptors, available and used ring.
    pub fn set_queue(&self, queue: u16, size: u16, rings: [u64; 3]) {
        self.registers.write(register::QUEUE_SEL, queue.into());
        self.registers.write(register::QUEUE_NUM, size.into());
        let [descriptors, available, used] = rings;
        self.write_u64(register::QUEUE_DESC_LOW, descriptors);
        self.write_u64(register::QUEUE_AVAIL_LOW, available);
        self.write_u64(register::QUEUE_USED_LOW, used);
        self.registers.write(register::QUEUE_READY, 1);
    }

    /// Tell the device that a queue has something new.
    pub fn notify(&self, queue: u16) {
        self.registers.write(register::QUEUE_NOTIFY, queue.into());
    }

    /// Take what the interrupt was for, and acknowledge it: two exits, so never on the data path.
    pub fn take_interrupt(&self) -> u32 {
        let reasons = self.registers.read(register::INTERRUPT_STATUS);
        if reasons != 0 {
            self.registers.write(register::INTERRUPT_ACK, reasons);
        }
        reasons
    }

    /// Whether the device says that it cannot go on (2.1.1): one exit, so never on the data path.
    pub fn needs_reset(&self) -> bool {
        self.status() & status::NEEDS_RESET != 0
    }

    /// Read the configuration in a moment when it stands still (2.5.1).
    ///
    /// # Errors
    /// [`VirtioError::Configuration`] when it never does.
    pub fn read_config<T>(&self, read: impl Fn(&Self) -> T) -> Result<T, VirtioError> {
        for _ in 0..TRIES {
            let before = self.registers.read(register::CONFIG_GENERATION);
            let value = read(self);
            if self.registers.read(register::CONFIG_GENERATION) == before {
                return Ok(value);
            }
        }
        Err(VirtioError::Configuration)
    }

    /// The aligned word at an offset of the configuration; 0 beyond its end.
    ///
    /// Fields of 8 and 16 bits are read with the word they lie in, although 4.2.2.2 wants accesses
    /// of a field's width: a 32-bit load is what every KVM emulates alike.
    pub fn config_u32(&self, at: u64) -> u32 {
        let is_there = register::CONFIG + at + 4 <= self.registers.len();
        let read = || self.registers.read(register::CONFIG + at);
        is_there.then(read).unwrap_or_default()
    }

    /// Write the aligned word at an offset of the configuration; nothing happens beyond its end. Few
    /// fields may be written (2.5.1).
    pub fn write_config_u32(&self, at: u64, value: u32) {
        if register::CONFIG + at + 4 <= self.registers.len() {
            self.registers.write(register::CONFIG + at, value);
        }
    }

    /// The two words at an offset of the configuration.
    pub fn config_u64(&self, at: u64) -> u64 {
        u64::from(self.config_u32(at)) | u64::from(self.config_u32(at + 4)) << 32
    }

    fn device_features(&self) -> u64 {
        let half = |which| {
            self.registers.write(register::DEVICE_FEATURES_SEL, which);
            u64::from(self.registers.read(register::DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    fn set_driver_features(&self, features: u64) {
        for (which, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.registers.write(register::DRIVER_FEATURES_SEL, which);
            self.registers.write(register::DRIVER_FEATURES, half);
        }
    }

    fn status(&self) -> u32 {
        self.registers.read(register::STATUS)
    }

    fn set_status(&self, status: u32) {
        self.registers.write(register::STATUS, status);
    }

    fn write_u64(&self, low: u64, value: u64) {
        self.registers.write(low, value as u32);
        self.registers.write(low + 4, (value >> 32) as u32);
    }
}
