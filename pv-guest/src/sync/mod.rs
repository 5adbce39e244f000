//! How threads and interrupt handlers keep out of each other's way.
//!
//! - [`SpinLock`] for a few instructions, also against interrupt handlers;
//! - [`WaitQueue`] and [`Semaphore`] to sleep until something happens, [`TimedQueue`] to do so for a
//!   while;
//! - [`Mutex`] for work that may be long, or sleep; no interrupt handler takes one.

mod irq;
mod mutex;
mod spin_lock;
mod timed;
mod wait;

pub use irq::{Held, hold_interrupts};
pub use mutex::{Mutex, MutexGuard};
pub use spin_lock::{Guard, SpinLock};
pub use timed::TimedQueue;
pub use wait::{Semaphore, WaitQueue};
