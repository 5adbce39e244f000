//! The seam between a driver and whoever hosts it. Drivers and the kernel both use this crate; it
//! names neither, and does nothing itself.
//!
//! - [`Env`]: what a driver may ask for: memory that a device reaches ([`Dma`]), registers
//!   ([`Mmio`]), interrupts in two halves ([`Halves`]), a [`Lock`], [`Waiters`], and a log;
//! - [`PortEnv`]: an environment with [`Ports`], for the devices of a PC;
//! - the classes, one trait each: [`BalloonDevice`], [`BlockDevice`], [`ConsoleDevice`], [`NetDevice`],
//!   [`RandomSource`].
//!
//! Everything here is safe to call, so a driver forbids `unsafe_code` and can be hosted built in, as
//! a module, or as a user's process: its host alone vouches for memory and registers.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod balloon;
mod block;
mod console;
mod env;
mod net;
mod ports;
mod random;

pub use balloon::{BALLOON_PAGE, BalloonClient, BalloonDevice, BalloonError, PageRun};
pub use block::{BlockDevice, BlockError, BlockInfo, Completion, Operation, Refused, Request};
pub use block::{ID_BYTES, SECTOR_SIZE};
pub use console::{ConsoleDevice, ConsoleError};
pub use env::{Dma, Env, EnvError, Halves, Lock, Mmio, Waiters};
pub use net::{ETHERNET_HEADER, NetClient, NetCounts, NetDevice, NetError, NetInfo, NetOffloads};
pub use net::{PartialChecksum, ReceivedFrame, Segments, SendOptions};
pub use ports::{PortEnv, Ports};
pub use random::{RandomError, RandomSource};
