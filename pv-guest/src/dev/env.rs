//! The kernel as a driver's environment: for drivers that are linked into it.

use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;

use driver_api::{Env, EnvError, Halves, Lock, PortEnv, Ports, Waiters};
use hypercall_abi::layout::{POWER_PORT, UART_PORT};

use super::raw::{DmaMemory, Registers};
use crate::sync::{SpinLock, WaitQueue};
use crate::{boot, hooks, irq, println};

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

/// Ports that the images use themselves: the UART's, and the one that switches the machine off.
const TAKEN: [Range<u16>; 2] = [UART_PORT..UART_PORT + 8, POWER_PORT..POWER_PORT + 1];

impl PortEnv for KernelEnv {
    type Ports = KernelPorts;

    fn ports(&self, first: u16, count: u16) -> Result<KernelPorts, EnvError> {
        let end = first.checked_add(count).ok_or(EnvError::NoRoom)?;
        let is_taken = |taken: &Range<u16>| taken.start < end && first < taken.end;
        match TAKEN.iter().any(is_taken) {
            true => Err(EnvError::NoRoom),
            false => Ok(KernelPorts { first, count }),
        }
    }
}

/// A device's ports.
#[derive(Clone, Copy, Debug)]
pub struct KernelPorts {
    first: u16,
    count: u16,
}

impl KernelPorts {
    fn at(self, offset: u16) -> u16 {
        assert!(offset < self.count, "port {offset} of {}", self.count);
        self.first + offset
    }
}

impl Ports for KernelPorts {
    fn read(&self, at: u16) -> u8 {
        hooks::port_read(self.at(at))
    }

    fn write(&self, at: u16, value: u8) {
        hooks::port_write(self.at(at), value);
    }

    fn read_words(&self, at: u16, into: &mut [u16]) {
        hooks::port_read_words(self.at(at), into);
    }

    fn write_words(&self, at: u16, from: &[u16]) {
        hooks::port_write_words(self.at(at), from);
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
