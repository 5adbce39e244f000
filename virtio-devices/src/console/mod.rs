//! A console of one port (virtio 1.2, 5.3) over any two file descriptors: a terminal, pipes, a
//! socket, files. Payload is copied once, as it is small.
//!
//! `device.rs` answers for it, `path.rs` moves bytes, `end.rs` is a descriptor that is never waited
//! for in a system call, so that a stopped terminal stops no reset.

mod device;
mod end;
mod path;

pub use device::{Console, Resizer};

#[cfg(test)]
mod tests;
