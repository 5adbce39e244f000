//! A socket device (virtio 1.2, 5.10): streams between the guest and programs of the host's, over Unix
//! sockets as Firecracker has it.
//!
//! - The guest connects to the host's port P: that is a connection to the socket `PATH_P`.
//! - A program connects to `PATH`, says `CONNECT P` and a newline: that is a connection to the guest's
//!   port P. If somebody listens there the program gets `OK` with its own port, else an end.
//!
//! In walking order: `device.rs` answers for it, `path.rs` moves packets between queues and streams,
//! `table.rs` has the streams, `connection.rs` is one of them, `greeting.rs` is one that has not said
//! where it wants to, `host.rs` knows Unix sockets, `wire.rs` the packets.
//!
//! The crate virtio-vsock knows packets too, but wants its own chains, of two descriptors at most.

mod connection;
mod device;
mod greeting;
mod host;
mod path;
mod table;
mod wire;

pub use device::{Handle, Vsock};
pub use host::VsockError;

/// The queues (5.10.2).
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const EVENT: usize = 2;
/// The most connections, those that have not said where they want to included.
const MAX_CONNECTIONS: usize = 256;
/// How many bytes of the guest's a connection keeps while its program does not take them.
const BUFFER: u32 = 64 << 10;
/// The most packets, or events, of one step, so that no flood keeps the worker from a reset.
const STEP: usize = 64;
/// How many resets wait for the guest before it is not listened to.
const MAX_RESETS: usize = 256;

#[cfg(test)]
mod tests;
