//! A device over plain memory, and an environment on it: for the tests of drivers, on the host.
//!
//! Nothing runs by itself. The device works when a driver waits, or when a test calls
//! [`Machine::run`]; interrupts run both halves right there.

mod device;
mod env;
mod memory;

use std::string::String;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use driver_api::Halves;

pub use device::{Answer, Chain, Device, Handler};
pub use env::{FakeEnv, FakeLock, FakeMmio, FakeWaiters};
pub use memory::{FakeDma, Memory};

/// A machine with one device.
pub struct Machine {
    memory: Memory,
    device: Mutex<Device>,
    halves: Mutex<Vec<(u8, Arc<dyn Halves>)>>,
    log: Mutex<Vec<String>>,
    reads: AtomicU64,
    writes: AtomicU64,
    notifications: AtomicU64,
    interrupts: AtomicU64,
}

/// Take a lock; a test that failed while it held it has failed already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    /// A machine with this device and some memory.
    pub fn new(device: Device) -> Arc<Self> {
        Arc::new(Self {
            memory: Memory::new(4 << 20),
            device: Mutex::new(device),
            halves: Mutex::default(),
            log: Mutex::default(),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            notifications: AtomicU64::new(0),
            interrupts: AtomicU64::new(0),
        })
    }

    /// The environment of this machine's driver.
    pub fn env(self: &Arc<Self>) -> FakeEnv {
        FakeEnv(self.clone())
    }

    /// Change the device, or ask it something.
    pub fn device<R>(&self, work: impl FnOnce(&mut Device) -> R) -> R {
        work(&mut lock(&self.device))
    }

    /// Let the device do all that it was told of, and run the interrupt, if it raises one. Returns
    /// whether it did anything.
    pub fn run(&self) -> bool {
        let (count, is_raised) = self.device(|device| device.run(&self.memory));
        if is_raised {
            self.interrupt();
        }
        count > 0 || is_raised
    }

    /// Let the device do all that it was told of; its interrupt, if it raises one, is on its way and has
    /// not come yet.
    pub fn run_quietly(&self) {
        self.device(|device| device.run(&self.memory));
    }

    /// Run both halves, as an interrupt does.
    pub fn interrupt(&self) {
        self.interrupts.fetch_add(1, Ordering::Relaxed);
        let halves: Vec<_> = lock(&self.halves).iter().map(|(_, h)| h.clone()).collect();
        for halves in halves {
            if halves.top() {
                halves.bottom();
            }
        }
    }

    /// Loads and stores of registers so far; notifications are not among them.
    pub fn accesses(&self) -> u64 {
        self.reads.load(Ordering::Relaxed) + self.writes.load(Ordering::Relaxed)
    }

    /// Notifications so far.
    pub fn notifications(&self) -> u64 {
        self.notifications.load(Ordering::Relaxed)
    }

    /// Interrupts so far.
    pub fn interrupts(&self) -> u64 {
        self.interrupts.load(Ordering::Relaxed)
    }

    /// What the driver has logged.
    pub fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }
}
