//! A block device (virtio 1.2, 5.2), over a file or what else implements [`BlockBackend`].
//!
//! `request.rs` says what a chain asks for, `path.rs` moves requests between queue and engine,
//! `job.rs` is a request's way through system calls, `engine.rs` runs jobs one after the other or on
//! an io_uring, `pool.rs` on threads; `file.rs` is a raw disk, `image.rs` one in qcow2. Payload goes between the file and guest memory without a copy here.

mod backend;
mod device;
mod engine;
mod file;
mod image;
mod job;
mod path;
mod pool;
mod qcow2_header;
mod request;
mod runner;
mod wire;

pub use backend::{BlockBackend, Command, Engine, Finished, Span};
pub use device::{Block, MAX_QUEUES};
pub use file::{DiskError, DiskOptions, EngineKind, FileDisk};
pub use image::{Format, ImageDisk};
pub use wire::SECTOR;

#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod image_tests;
#[cfg(test)]
mod tests;
