//! The driver of virtio memory balloons (virtio 1.3, 5.5): a [`BalloonDevice`] on any
//! [`driver_api::Env`].
//!
//! `balloon.rs` is the device's life and its interrupt, `channel.rs` a queue with one request at a time.
//! The driver moves lists of pages and never touches a page: its client chooses them.
//!
//! [`BalloonDevice`]: driver_api::BalloonDevice
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod balloon;
mod channel;

pub use balloon::{Balloon, FEATURES};

#[cfg(test)]
mod tests;
