//! The environment: registers lead to the device, and who waits lets it work.

use core::fmt;
use std::string::ToString;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};

use driver_api::{Env, EnvError, Halves, Lock, Mmio, Waiters};

use super::{FakeDma, Machine, lock};
use crate::wire::register;

/// The machine's environment.
#[derive(Clone)]
pub struct FakeEnv(pub(super) Arc<Machine>);

std::thread_local! {
    /// The machine whose driver was given registers last: who waits lets it work.
    static MACHINE: core::cell::RefCell<Weak<Machine>> = const { core::cell::RefCell::new(Weak::new()) };
}

impl Env for FakeEnv {
    type Dma = FakeDma;
    type Mmio = FakeMmio;
    type Lock<T: Send + 'static> = FakeLock<T>;
    type Waiters = FakeWaiters;

    fn dma(&self, bytes: usize) -> Result<FakeDma, EnvError> {
        self.0.memory.take(bytes).ok_or(EnvError::NoMemory)
    }

    fn mmio(&self, _: u64, bytes: u64) -> Result<FakeMmio, EnvError> {
        MACHINE.with(|machine| *machine.borrow_mut() = Arc::downgrade(&self.0));
        Ok(FakeMmio {
            machine: self.0.clone(),
            len: bytes,
        })
    }

    fn irq(&self, vector: u8, halves: Arc<dyn Halves>) -> Result<(), EnvError> {
        let mut all = lock(&self.0.halves);
        if all.iter().any(|(taken, _)| *taken == vector) {
            return Err(EnvError::VectorInUse(vector));
        }
        all.push((vector, halves));
        Ok(())
    }

    fn log(&self, text: fmt::Arguments<'_>) {
        lock(&self.0.log).push(text.to_string());
    }
}

/// The device's registers.
pub struct FakeMmio {
    machine: Arc<Machine>,
    len: u64,
}

impl Mmio for FakeMmio {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, at: u64) -> u32 {
        assert!(
            at + 4 <= self.len && at.is_multiple_of(4),
            "register {at:#x}"
        );
        self.machine.reads.fetch_add(1, Ordering::Relaxed);
        self.machine.device(|device| device.read(at))
    }

    fn write(&self, at: u64, value: u32) {
        assert!(
            at + 4 <= self.len && at.is_multiple_of(4),
            "register {at:#x}"
        );
        let count = match at {
            register::QUEUE_NOTIFY => &self.machine.notifications,
            _ => &self.machine.writes,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.machine.device(|device| device.write(at, value));
    }
}

/// A mutex.
pub struct FakeLock<T>(Mutex<T>);

impl<T: Send + 'static> Lock<T> for FakeLock<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        // Only one thread uses a machine: a lock that is taken would stay taken.
        let mut guard = self.0.try_lock().expect("a lock was taken twice");
        work(&mut guard)
    }
}

/// Waiting lets the device work.
pub struct FakeWaiters(());

impl Waiters for FakeWaiters {
    fn new() -> Self {
        Self(())
    }

    fn wait_until<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(value) = condition() {
                return value;
            }
            let machine = MACHINE.with(|machine| machine.borrow().upgrade());
            let machine = machine.expect("somebody waits, and there is no device");
            assert!(machine.run(), "somebody waits, and nothing will happen");
        }
    }

    fn wake_all(&self) {}
}
