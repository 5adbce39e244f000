//! The driver of virtio consoles (virtio 1.3, 5.3): a [`ConsoleDevice`] on any [`driver_api::Env`], with
//! one port.
//!
//! `console.rs` is the device's life and its interrupt, `queues.rs` what is typed and what goes out.
//!
//! [`ConsoleDevice`]: driver_api::ConsoleDevice
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod console;
mod queues;

pub use console::{Console, FEATURES};

#[cfg(test)]
mod tests;
