//! The data path of a console: input to the receive queue, the transmit queue to output. Runs on the
//! worker's thread.

use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;

use super::end::End;
use crate::chain::{Chain, copy_from, copy_to, drop_front, total};
use crate::device::{DataPath, DeviceError, Served};
use crate::queue::VirtQueue;

/// The queues, which are also the places of the descriptors (5.3.2).
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// The most bytes of one copy.
const PIECE: usize = 4096;
/// The most pieces of one step, so that no flood keeps the worker from a reset.
const STEP: usize = 64;

/// See the module.
pub(super) struct ConsolePath {
    memory: GuestMemoryMmap,
    queues: Vec<VirtQueue>,
    receive: Way,
    transmit: Way,
}

/// One direction: its file, and the chain that waits for it.
struct Way {
    end: End,
    chain: Chain,
    /// The chain is the driver's, and not given back yet.
    has_chain: bool,
}

impl Way {
    fn new(file: Arc<File>) -> io::Result<Way> {
        Ok(Way {
            end: End::new(file)?,
            chain: Chain::default(),
            has_chain: false,
        })
    }

    /// Have a chain, a new one if need be; returns whether there is one.
    fn take(&mut self, queue: &mut VirtQueue) -> Result<bool, DeviceError> {
        if !queue.is_ready() {
            self.has_chain = false;
            return Ok(false);
        }
        while !self.has_chain {
            self.has_chain = queue.pop(&mut self.chain)?;
            // A chain may have come while doorbells were off: then look again.
            if !self.has_chain && !queue.arm()? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl ConsolePath {
    pub fn new(
        memory: GuestMemoryMmap,
        queues: Vec<VirtQueue>,
        input: Arc<File>,
        output: Arc<File>,
    ) -> io::Result<Self> {
        Ok(ConsolePath {
            memory,
            queues,
            receive: Way::new(input)?,
            transmit: Way::new(output)?,
        })
    }

    /// Fill the driver's buffers with what the input has.
    fn receive(&mut self) -> Result<Served, DeviceError> {
        let (way, memory) = (&mut self.receive, &self.memory);
        step(&mut self.queues, RECEIVE, |queue| {
            if way.end.is_closed() || !way.take(queue)? {
                return Ok(Progress::Waits);
            }
            let mut bytes = [0; PIECE];
            let room = usize::try_from(total(&way.chain.writable)).unwrap_or(PIECE);
            let into = bytes.get_mut(..room.min(PIECE)).unwrap_or_default();
            // A chain without room is given back as it is: a read of nothing would be an end.
            let count = if into.is_empty() {
                Some(0)
            } else {
                way.end.read(into)
            };
            let Some(bytes) = count.and_then(|count| bytes.get(..count)) else {
                return Ok(Progress::Waits);
            };
            let written = copy_to(memory, &way.chain.writable, bytes);
            way.has_chain = false;
            queue.copied(written as u64);
            // A piece is far below a u32.
            queue.push_used(way.chain.head, written as u32)?;
            Ok(Progress::GaveBack)
        })
    }

    /// Write the driver's buffers out.
    fn transmit(&mut self) -> Result<Served, DeviceError> {
        let (way, memory) = (&mut self.transmit, &self.memory);
        step(&mut self.queues, TRANSMIT, |queue| {
            if !way.take(queue)? {
                return Ok(Progress::Waits);
            }
            let mut bytes = [0; PIECE];
            let count = copy_from(memory, &way.chain.readable, &mut bytes);
            let bytes = bytes.get(..count).unwrap_or_default();
            if !bytes.is_empty() {
                let Some(written) = way.end.write(bytes) else {
                    return Ok(Progress::Waits);
                };
                queue.copied(written as u64);
                // A piece is far below a u32.
                drop_front(&mut way.chain.readable, written as u32);
            }
            if !way.chain.readable.is_empty() {
                return Ok(Progress::Moved);
            }
            way.has_chain = false;
            queue.push_used(way.chain.head, 0)?;
            Ok(Progress::GaveBack)
        })
    }
}

/// What one piece came to.
enum Progress {
    /// There is nothing to move, or nobody to take it.
    Waits,
    /// A part of a chain was moved.
    Moved,
    /// A chain was given back.
    GaveBack,
}

/// Move pieces until one waits, or there were many.
fn step(
    queues: &mut [VirtQueue],
    index: usize,
    mut piece: impl FnMut(&mut VirtQueue) -> Result<Progress, DeviceError>,
) -> Result<Served, DeviceError> {
    let Some(queue) = queues.get_mut(index) else {
        return Ok(Served::default());
    };
    let (mut has_used, mut again) = (false, true);
    for _ in 0..STEP {
        match piece(queue)? {
            Progress::Moved => {}
            Progress::GaveBack => has_used = true,
            Progress::Waits => {
                again = false;
                break;
            }
        }
    }
    queue.served(has_used, again)
}

impl DataPath for ConsolePath {
    fn notify(&mut self, queue: usize) -> Result<Served, DeviceError> {
        match queue {
            RECEIVE => self.receive(),
            TRANSMIT => self.transmit(),
            _ => Ok(Served::default()),
        }
    }

    fn queues(&mut self) -> &mut [VirtQueue] {
        &mut self.queues
    }

    fn fds(&self) -> Vec<RawFd> {
        vec![self.receive.end.fd(), self.transmit.end.fd()]
    }

    /// Only while a chain waits for the file.
    fn interest(&self, fd: usize) -> EventSet {
        let (way, events) = match fd {
            RECEIVE => (&self.receive, EventSet::IN),
            _ => (&self.transmit, EventSet::OUT),
        };
        if way.has_chain && !way.end.is_closed() && way.end.may_wait() {
            events
        } else {
            EventSet::empty()
        }
    }

    fn ready(&mut self, fd: usize) -> Result<Served, DeviceError> {
        self.notify(fd)
    }
}
