//! The data path of a block device: requests to the engine, their ends back to the driver. Runs on
//! the worker's thread. Never knows files.

use std::os::fd::RawFd;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::backend::Engine;
use super::request::{Ask, Limits, parse};
use super::wire::{ID_LEN, status};
use crate::chain::{Buffer, Chain, ChainError, copy_to, total};
use crate::device::{DataPath, DeviceError, Served};
use crate::queue::VirtQueue;

/// See the module.
pub(super) struct BlockPath {
    queues: Vec<VirtQueue>,
    chain: Chain,
    /// Of each queue.
    requests: Vec<Requests>,
}

/// Requests between a queue and its engine.
struct Requests {
    memory: GuestMemoryMmap,
    /// Whose they are.
    queue: usize,
    engine: Box<dyn Engine>,
    limits: Limits,
    id: [u8; ID_LEN],
    /// A slot each, of the engine's.
    slots: Vec<Request>,
    free: Vec<usize>,
}

/// A request that the engine has.
#[derive(Default)]
struct Request {
    head: u16,
    status: GuestAddress,
    /// Where a read's data goes.
    room: Vec<Buffer>,
}

impl BlockPath {
    /// The path of queues with an engine each.
    pub fn new(
        memory: &GuestMemoryMmap,
        queues: Vec<VirtQueue>,
        engines: Vec<Box<dyn Engine>>,
        limits: Limits,
        id: [u8; ID_LEN],
    ) -> Self {
        let places = queues.iter().zip(engines).enumerate();
        let requests = places.map(|(place, (queue, engine))| {
            let count = usize::from(queue.size());
            Requests {
                memory: memory.clone(),
                queue: place,
                engine,
                limits,
                id,
                slots: (0..count).map(|_| Request::default()).collect(),
                free: (0..count).collect(),
            }
        });
        BlockPath {
            requests: requests.collect(),
            queues,
            chain: Chain::default(),
        }
    }

    /// Give back what a queue's engine has finished.
    fn reap(&mut self, queue: usize) -> Result<Served, DeviceError> {
        let ring = self.queues.get_mut(queue);
        let (Some(ring), Some(requests)) = (ring, self.requests.get_mut(queue)) else {
            return Ok(Served::default());
        };
        let has_used = requests.reap(ring)?;
        ring.served(has_used, false)
    }
}

impl DataPath for BlockPath {
    fn notify(&mut self, queue: usize) -> Result<Served, DeviceError> {
        let (ring, chain) = (self.queues.get_mut(queue), &mut self.chain);
        let (Some(ring), Some(requests)) = (ring, self.requests.get_mut(queue)) else {
            return Ok(Served::default());
        };
        let mut served = ring.serve(chain, |ring, chain| requests.take(ring, chain))?;
        requests.engine.submit().map_err(host)?;
        // What was in the page cache has ended already.
        served |= self.reap(queue)?;
        Ok(served)
    }

    fn queues(&mut self) -> &mut [VirtQueue] {
        &mut self.queues
    }

    /// One of each queue, or none at all: the engines are of one kind.
    fn fds(&self) -> Vec<RawFd> {
        let engines = self.requests.iter();
        engines.filter_map(|of| of.engine.fd()).collect()
    }

    fn ready(&mut self, queue: usize) -> Result<Served, DeviceError> {
        self.reap(queue)
    }

    fn drain(&mut self) -> Result<Served, DeviceError> {
        let mut served = Served::default();
        for requests in &mut self.requests {
            requests.engine.cancel();
        }
        for queue in 0..self.requests.len() {
            served |= self.reap(queue)?;
            while let Some(requests) = self.requests.get_mut(queue)
                && requests.free.len() < requests.slots.len()
            {
                requests.engine.wait().map_err(host)?;
                served |= self.reap(queue)?;
            }
        }
        Ok(served)
    }
}

impl Requests {
    /// Take a request from the queue; returns whether something was given back.
    fn take(&mut self, queue: &mut VirtQueue, chain: &mut Chain) -> Result<bool, DeviceError> {
        let (status_at, ask) =
            parse(&self.memory, chain, &self.limits).map_err(|what| DeviceError::Request {
                queue: self.queue,
                what,
            })?;
        let (written, status) = match ask {
            Ask::Run(command) => {
                let size = queue.size();
                let slot = self.free.pop();
                let slot = slot.ok_or_else(|| queue.broken(ChainError::InFlight { size }))?;
                if let Some(request) = self.slots.get_mut(slot) {
                    (request.head, request.status) = (chain.head, status_at);
                    // The request's old buffers are the next chain's, so nothing is allocated.
                    std::mem::swap(&mut request.room, &mut chain.writable);
                    let is_read = !request.room.is_empty();
                    let buffers = if is_read {
                        &request.room
                    } else {
                        &chain.readable
                    };
                    self.engine.start(slot, command, buffers);
                }
                // An engine without a descriptor has finished already; the other starts a batch.
                return match self.engine.fd() {
                    None => self.reap(queue),
                    Some(_) => Ok(false),
                };
            }
            Ask::Id => (copy_to(&self.memory, &chain.writable, &self.id), status::OK),
            Ask::Refuse(status) => (0, status),
        };
        // The status is the last writable byte: what lies between is not written.
        let room = total(&chain.writable);
        let is_full = written as u64 == room;
        self.give_back(
            queue,
            chain.head,
            status_at,
            status,
            is_full.then_some(room),
        )?;
        Ok(true)
    }

    /// Give back what the engine has finished; returns whether there was something.
    fn reap(&mut self, queue: &mut VirtQueue) -> Result<bool, DeviceError> {
        let mut has_some = false;
        while let Some(finished) = self.engine.finished().map_err(host)? {
            let Some(request) = self.slots.get_mut(finished.slot) else {
                continue;
            };
            let room = std::mem::take(&mut request.room);
            let (head, status_at) = (request.head, request.status);
            let (status, written) = match finished.result {
                Ok(()) => (status::OK, Some(total(&room))),
                // Of a read that failed, nobody knows what was written.
                Err(_) => (status::IOERR, room.is_empty().then_some(0)),
            };
            if let Some(request) = self.slots.get_mut(finished.slot) {
                request.room = room;
                request.room.clear();
            }
            self.free.push(finished.slot);
            self.give_back(queue, head, status_at, status, written)?;
            has_some = true;
        }
        Ok(has_some)
    }

    /// Write the status, and put the chain into the used ring. The length there counts bytes from
    /// the first on that were surely written (2.7.8.2), so the status counts after full data only.
    fn give_back(
        &mut self,
        queue: &mut VirtQueue,
        head: u16,
        status_at: GuestAddress,
        status: u8,
        data: Option<u64>,
    ) -> Result<(), DeviceError> {
        self.memory
            .write_obj(status, status_at)
            .map_err(|error| queue.broken(ChainError::Ring(error.to_string())))?;
        // A chain has less than 4 GiB.
        let written = data.map_or(0, |data| data.saturating_add(1));
        queue.push_used(head, u32::try_from(written).unwrap_or(u32::MAX))
    }
}

/// The engine has failed as a whole.
fn host(source: std::io::Error) -> DeviceError {
    let what = "I/O on the disk";
    DeviceError::Host { what, source }
}
