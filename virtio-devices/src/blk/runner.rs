//! Runs a command to its end, by system calls that wait. Called by engines. Never knows queues.

use std::io;

use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use vm_memory::GuestMemoryMmap;

use super::backend::Command;
use super::engine::Files;
use super::job::Job;
use crate::chain::Buffer;
use crate::raw_io::{IoVecs, Operation, read_at, write_at};

/// See the module.
pub(super) trait Runner: Send {
    /// Run a command; its data is in these buffers, or goes there.
    ///
    /// # Errors
    /// The host's.
    fn run(&mut self, command: Command, buffers: &[Buffer]) -> io::Result<()>;
}

/// A raw file's.
pub(super) struct FileRunner {
    files: Files,
    io: IoVecs,
}

impl FileRunner {
    pub fn new(files: Files, memory: &GuestMemoryMmap) -> Self {
        FileRunner {
            files,
            io: IoVecs::new(memory.clone()),
        }
    }

    fn call(&self, what: Operation) -> io::Result<usize> {
        let file = self.files.of(&what, &self.io);
        match what {
            Operation::Read { at } => read_at(file, &self.io, at),
            Operation::Write { at, is_durable } => write_at(file, &self.io, at, is_durable),
            Operation::Sync => Ok(fdatasync(file).map(|()| 0)?),
            Operation::Allocate { mode, at, len } => {
                // The flags are those of the job, all of which rustix knows.
                let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
                Ok(fallocate(file, mode, at, len).map(|()| 0)?)
            }
        }
    }
}

impl Runner for FileRunner {
    fn run(&mut self, command: Command, buffers: &[Buffer]) -> io::Result<()> {
        self.io.set(buffers).map_err(io::Error::other)?;
        let mut job = Job::new(command);
        while let Some(what) = job.next(&mut self.io) {
            let result = self.call(what);
            job.took(what, result, &mut self.io)?;
        }
        Ok(())
    }
}
