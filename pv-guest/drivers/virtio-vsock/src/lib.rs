//! The driver of virtio socket devices (virtio 1.3, 5.10): a [`SocketDevice`] on any
//! [`driver_api::Env`], with streams.
//!
//! `vsock.rs` is the device's life and its interrupt, `queues.rs` packets in memory for devices,
//! `table.rs` the streams and who listens, `connection.rs` one stream with its credit, `wire.rs` a
//! packet's header. Below `vsock.rs` nobody waits or knows the device's registers, and below `table.rs`
//! nobody knows queues.
//!
//! [`SocketDevice`]: driver_api::SocketDevice
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod connection;
mod queues;
mod table;
mod vsock;
mod wire;

pub use vsock::{FEATURES, Vsock};

#[cfg(test)]
mod tests;
