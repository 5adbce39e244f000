//! What is behind each device that is fuzzed, what its requests are, and which of them must be served.
//! A file a device.

pub mod balloon;
pub mod blk;
pub mod console;
mod disk;
pub mod echo;
pub mod image;
pub mod net;
pub mod rng;
pub mod trouble;
