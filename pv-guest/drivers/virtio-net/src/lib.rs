//! The driver of virtio network cards (virtio 1.3, 5.1): a [`NetDevice`] on any [`driver_api::Env`].
//!
//! `card.rs` is the device's life and its interrupt, `receive.rs` and `transmit.rs` a queue each,
//! `header.rs` what is before each frame, `wire.rs` the numbers.
//!
//! Memory for devices is taken once, at the start. A received frame is copied once, out of its
//! buffers, which go back at once; a frame to send is copied once, into a ring of bytes, in which
//! each takes as much as it needs.
//!
//! No exit on the data path, and few interrupts and doorbells: while the client takes frames no
//! interrupt is asked for, sent frames are taken back only when room is short, and buffers are
//! handed to the device many at once. Of the control queue nothing is used: the device may deliver
//! what it likes, the client looks at addresses itself.
//!
//! [`NetDevice`]: driver_api::NetDevice
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod card;
mod header;
mod receive;
mod transmit;
mod wire;

pub use card::Net;
pub use wire::FEATURES;

#[cfg(test)]
mod tests;
