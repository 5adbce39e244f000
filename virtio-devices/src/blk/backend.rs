//! What a block device needs of what is behind it. Implemented by [`super::file`], and by whoever
//! brings another kind of image. Never knows queues.

use std::io;
use std::os::fd::RawFd;

use vm_memory::GuestMemoryMmap;

use crate::chain::Buffer;

/// A disk's contents, of which each activation makes an [`Engine`].
pub trait BlockBackend: Send {
    /// The size, in bytes: a multiple of [`super::SECTOR`] that does not change.
    fn capacity(&self) -> u64;

    /// Whether writes are refused.
    fn is_read_only(&self) -> bool;

    /// The size and alignment that suits it best, in bytes: a power of two, at least a sector.
    fn block_size(&self) -> u32;

    /// An engine with a number of slots, each for one command at a time.
    ///
    /// # Errors
    /// The host's reason for refusing one.
    fn engine(&self, slots: u16, memory: &GuestMemoryMmap) -> io::Result<Box<dyn Engine>>;
}

/// A range of the disk, in bytes: multiples of a sector, within its capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub at: u64,
    /// How many bytes.
    pub len: u64,
}

/// What a driver asks for, checked against the disk's capacity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Fill the buffers from `at` on.
    Read {
        /// Where, in bytes.
        at: u64,
    },
    /// Write the buffers out, from `at` on.
    Write {
        /// Where, in bytes.
        at: u64,
        /// Whether to finish only once the data is on the disk.
        is_durable: bool,
    },
    /// Have every write that has finished on the disk.
    Flush,
    /// The contents do not matter any more.
    Discard {
        /// Of these ranges.
        spans: Vec<Span>,
        /// As for a write.
        is_durable: bool,
    },
    /// The contents are zeros from now on.
    WriteZeroes {
        /// Each range, with whether its space may be given back.
        spans: Vec<(Span, bool)>,
        /// As for a write.
        is_durable: bool,
    },
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// The slot that it had.
    pub slot: usize,
    /// How it ended.
    pub result: io::Result<()>,
}

/// Runs commands, in any order. Dropping it waits for those that run.
pub trait Engine: Send {
    /// A descriptor that is readable when commands have finished, if they ever do later.
    fn fd(&self) -> Option<RawFd>;

    /// Run a command in a free slot; it may start only with [`Engine::submit`].
    fn start(&mut self, slot: usize, command: Command, buffers: &[Buffer]);

    /// Start all that was given.
    ///
    /// # Errors
    /// The host's, after which the engine is of no use.
    fn submit(&mut self) -> io::Result<()>;

    /// The next command that has ended, if there is one.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    fn finished(&mut self) -> io::Result<Option<Finished>>;

    /// Wait until a command that runs has made progress.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    fn wait(&mut self) -> io::Result<()>;

    /// End commands of many steps early, with an error.
    fn cancel(&mut self);
}
