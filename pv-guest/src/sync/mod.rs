//! How threads and interrupt handlers keep out of each other's way.
//!
//! - [`SpinLock`] for a few instructions, also against interrupt handlers;
//! - [`WaitQueue`] and [`Semaphore`] to sleep until something happens.

mod irq;
mod spin_lock;
mod wait;

pub use irq::{Held, hold_interrupts};
pub use spin_lock::{Guard, SpinLock};
pub use wait::{Semaphore, WaitQueue};
