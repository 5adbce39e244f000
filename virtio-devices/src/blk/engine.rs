//! Two engines: one command after the other, and, for a raw file, an io_uring; `pool.rs` is the third. Called by the data
//! path. Never decide what a command means: the job does.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use vm_memory::GuestMemoryMmap;

use super::backend::{Command, Engine, Finished};
use super::job::Job;
use super::runner::Runner;
use crate::chain::Buffer;
use crate::raw_io::{IoVecs, Operation, Ring};

/// The alignment that direct I/O needs at most, in bytes.
pub(super) const DIRECT_ALIGNMENT: usize = 4096;

/// The open files of a disk.
#[derive(Clone)]
pub(super) struct Files {
    /// Through the page cache.
    pub cached: Arc<File>,
    /// Past the page cache, if that was asked for.
    pub direct: Option<Arc<File>>,
}

impl Files {
    /// The file for an operation: direct I/O needs its alignment, so what a driver aligns otherwise
    /// goes through the cache, which Linux keeps coherent with direct I/O.
    pub fn of(&self, what: &Operation, io: &IoVecs) -> &Arc<File> {
        let at = match what {
            Operation::Read { at } | Operation::Write { at, .. } => *at,
            Operation::Sync | Operation::Allocate { .. } => return &self.cached,
        };
        let is_aligned =
            at.is_multiple_of(DIRECT_ALIGNMENT as u64) && io.is_aligned(DIRECT_ALIGNMENT);
        match &self.direct {
            Some(direct) if is_aligned => direct,
            _ => &self.cached,
        }
    }
}

/// Runs each command to its end when it is given.
pub(super) struct SyncEngine<R> {
    runner: R,
    finished: VecDeque<Finished>,
}

impl<R: Runner> SyncEngine<R> {
    pub fn new(runner: R) -> Self {
        SyncEngine {
            runner,
            finished: VecDeque::new(),
        }
    }
}

impl<R: Runner> Engine for SyncEngine<R> {
    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn start(&mut self, slot: usize, command: Command, buffers: &[Buffer]) {
        let result = self.runner.run(command, buffers);
        self.finished.push_back(Finished { slot, result });
    }

    fn submit(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finished(&mut self) -> io::Result<Option<Finished>> {
        Ok(self.finished.pop_front())
    }

    fn wait(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn cancel(&mut self) {}
}

/// Runs commands side by side in the kernel.
pub(super) struct RingEngine {
    files: Files,
    ring: Ring,
    jobs: Vec<Option<(Job, Operation)>>,
    /// Ended without a completion.
    finished: VecDeque<Finished>,
    is_cancelled: bool,
}

impl RingEngine {
    pub fn new(files: Files, slots: u16, memory: &GuestMemoryMmap) -> io::Result<Self> {
        Ok(RingEngine {
            files,
            ring: Ring::new(slots, memory)?,
            jobs: (0..slots).map(|_| None).collect(),
            finished: VecDeque::new(),
            is_cancelled: false,
        })
    }

    /// Queue a job's next system call; returns the job's end if there is none.
    fn go_on(&mut self, slot: usize, mut job: Job) -> Option<io::Result<()>> {
        let busy = || io::Error::from(io::ErrorKind::InvalidInput);
        let Some(io) = self.ring.pieces(slot) else {
            return Some(Err(busy()));
        };
        let Some(what) = job.next(io) else {
            return Some(Ok(()));
        };
        let file = Arc::clone(self.files.of(&what, io));
        if let Err(error) = self.ring.push(slot, &file, what) {
            return Some(Err(error));
        }
        let Some(place) = self.jobs.get_mut(slot) else {
            return Some(Err(busy()));
        };
        *place = Some((job, what));
        None
    }

    /// A completion came; returns the job's end, if it is that.
    fn completed(&mut self, slot: usize, result: io::Result<usize>) -> Option<io::Result<()>> {
        let (mut job, what) = self.jobs.get_mut(slot)?.take()?;
        let io = self.ring.pieces(slot)?;
        if let Err(error) = job.took(what, result, io) {
            return Some(Err(error));
        }
        if self.is_cancelled && job.next(io).is_some() {
            return Some(Err(io::Error::from_raw_os_error(libc::ECANCELED)));
        }
        self.go_on(slot, job)
    }
}

impl Engine for RingEngine {
    fn fd(&self) -> Option<RawFd> {
        Some(self.ring.fd())
    }

    fn start(&mut self, slot: usize, command: Command, buffers: &[Buffer]) {
        let set = match self.ring.pieces(slot) {
            Some(io) => io.set(buffers).map_err(io::Error::other),
            None => Err(io::ErrorKind::InvalidInput.into()),
        };
        let end = match set {
            Ok(()) => self.go_on(slot, Job::new(command)),
            Err(error) => Some(Err(error)),
        };
        if let Some(result) = end {
            self.finished.push_back(Finished { slot, result });
        }
    }

    fn submit(&mut self) -> io::Result<()> {
        self.ring.submit()
    }

    fn finished(&mut self) -> io::Result<Option<Finished>> {
        if let Some(finished) = self.finished.pop_front() {
            return Ok(Some(finished));
        }
        while let Some((slot, result)) = self.ring.completed() {
            if let Some(result) = self.completed(slot, result) {
                return Ok(Some(Finished { slot, result }));
            }
        }
        // What goes on with another system call.
        self.ring.submit()?;
        Ok(None)
    }

    fn wait(&mut self) -> io::Result<()> {
        if self.ring.in_flight() == 0 {
            return Ok(());
        }
        self.ring.wait()
    }

    fn cancel(&mut self) {
        self.is_cancelled = true;
    }
}
