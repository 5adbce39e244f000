//! The environment of a driver: implemented by each host, and by a fake in the drivers' tests.

use alloc::sync::Arc;
use core::fmt;

/// Why a host refused something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvError {
    /// There is no memory for it.
    NoMemory,
    /// There is no place in the address space for these registers.
    NoRoom,
    /// The vector is none that a device may use.
    BadVector(u8),
    /// Somebody else handles the vector.
    VectorInUse(u8),
    /// The thread of the bottom halves could not be made.
    NoThread,
}

impl fmt::Display for EnvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("no memory is left"),
            Self::NoRoom => f.write_str("the registers cannot be mapped"),
            Self::BadVector(vector) => write!(f, "{vector} is no vector of a device"),
            Self::VectorInUse(vector) => write!(f, "vector {vector} is in use"),
            Self::NoThread => f.write_str("there is no thread for bottom halves"),
        }
    }
}

impl core::error::Error for EnvError {}

/// What a driver may ask of its host. A value is a handle: a clone asks the same host.
pub trait Env: Clone + Send + Sync + 'static {
    /// Memory that the driver and a device share.
    type Dma: Dma;
    /// A device's registers.
    type Mmio: Mmio;
    /// What keeps the driver's threads and its bottom half apart.
    type Lock<T: Send + 'static>: Lock<T>;
    /// Threads that wait for the driver.
    type Waiters: Waiters;

    /// Memory of at least `bytes`, zeroed, adjacent for the device, aligned to a page of 4 KiB.
    ///
    /// # Errors
    /// [`EnvError::NoMemory`].
    fn dma(&self, bytes: usize) -> Result<Self::Dma, EnvError>;

    /// Reach the registers in `bytes` bytes from a guest-physical address on.
    ///
    /// # Errors
    /// [`EnvError::NoRoom`].
    fn mmio(&self, phys: u64, bytes: u64) -> Result<Self::Mmio, EnvError>;

    /// Let the interrupts of a vector run these halves from now on.
    ///
    /// # Errors
    /// [`EnvError`] for a vector that is taken or none of a device's, or without a bottom half's
    /// thread.
    fn irq(&self, vector: u8, halves: Arc<dyn Halves>) -> Result<(), EnvError>;

    /// Tell people something, in a line.
    fn log(&self, text: fmt::Arguments<'_>);
}

/// Memory that a device reads and writes, as long as this lives.
///
/// Values are little-endian, as in every device since virtio 1.0. Offsets count bytes.
///
/// # Panics
/// Each access panics outside of the memory or when misaligned, as a slice's does: offsets are the
/// driver's own, never a device's word.
pub trait Dma: Send + Sync + 'static {
    /// The address for the device.
    fn phys(&self) -> u64;
    /// How many bytes there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Read two bytes. What the device wrote before them is visible to what comes after.
    fn load_u16(&self, at: usize) -> u16;
    /// Write two bytes. The device sees what was written before no later than these.
    fn store_u16(&self, at: usize, value: u16);
    /// Copy bytes out.
    fn read(&self, at: usize, into: &mut [u8]);
    /// Copy bytes in.
    fn write(&self, at: usize, from: &[u8]);
}

/// Registers of a device. Each access is one plain 32-bit load or store, and may cost an exit.
///
/// # Panics
/// Outside of the registers or when misaligned, as [`Dma`].
pub trait Mmio: Send + Sync + 'static {
    /// How many bytes of registers there are.
    fn len(&self) -> u64;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Read a register.
    fn read(&self, at: u64) -> u32;
    /// Write a register.
    fn write(&self, at: u64, value: u32);
}

/// Both halves of an interrupt's handling.
pub trait Halves: Send + Sync {
    /// Runs in the interrupt, with interrupts off: short. `true` asks for [`Halves::bottom`].
    fn top(&self) -> bool {
        true
    }

    /// Runs soon after, in a thread, with interrupts on, and never twice at once: it may take
    /// locks and wake threads, and must not wait.
    fn bottom(&self);
}

/// A value that one context uses at a time.
pub trait Lock<T: Send>: Send + Sync + 'static {
    /// A lock around a value.
    fn new(value: T) -> Self;
    /// Use the value. The work is short, and must not wait, complete a request or log.
    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R;
}

/// Threads that wait until something of the driver's has happened.
pub trait Waiters: Send + Sync + 'static {
    /// Nobody waits.
    fn new() -> Self;
    /// Sleep until the condition yields a value. It runs at once, and after each wake-up.
    fn wait_until<T>(&self, condition: impl FnMut() -> Option<T>) -> T;
    /// Let all who wait test their condition again.
    fn wake_all(&self);
}
