//! The kernel as a driver's environment: for drivers that are linked into it.

use alloc::sync::Arc;
use core::fmt;

use driver_api::{Env, EnvError, Halves, Lock, Waiters};

use super::raw::{DmaMemory, Registers};
use crate::sync::{SpinLock, WaitQueue};
use crate::{boot, irq, println};

/// The kernel.
#[derive(Clone, Copy, Debug)]
pub struct KernelEnv;

impl Env for KernelEnv {
    type Dma = DmaMemory;
    type Mmio = Registers;
    type Lock<T: Send + 'static> = KernelLock<T>;
    type Waiters = KernelWaiters;

    fn dma(&self, bytes: usize) -> Result<DmaMemory, EnvError> {
        DmaMemory::new(bytes)
    }

    fn mmio(&self, phys: u64, bytes: u64) -> Result<Registers, EnvError> {
        Registers::map(boot::info().ok_or(EnvError::NoRoom)?, phys, bytes)
    }

    fn irq(&self, vector: u8, halves: Arc<dyn Halves>) -> Result<(), EnvError> {
        irq::attach(vector, halves)
    }

    fn log(&self, text: fmt::Arguments<'_>) {
        println!("{text}");
    }
}

/// A spin lock, with interrupts off meanwhile.
pub struct KernelLock<T>(SpinLock<T>);

impl<T: Send + 'static> Lock<T> for KernelLock<T> {
    fn new(value: T) -> Self {
        Self(SpinLock::new(value))
    }

    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.0.lock())
    }
}

/// A wait queue.
pub struct KernelWaiters(WaitQueue);

impl Waiters for KernelWaiters {
    fn new() -> Self {
        Self(WaitQueue::new())
    }

    fn wait_until<T>(&self, condition: impl FnMut() -> Option<T>) -> T {
        self.0.wait_until(condition)
    }

    fn wake_all(&self) {
        self.0.wake_all();
    }
}
