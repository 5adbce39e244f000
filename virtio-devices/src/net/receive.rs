//! Frames to the driver: buffers are gathered for the longest frame, so that one goes straight into
//! them. Where there are too few, the frame waits here, and its copy goes out as soon as it fits.

use std::io;

use vm_memory::GuestMemoryMmap;

use super::backend::Carrier;
use super::{HEADER_LEN, LONGEST};
use crate::chain::{Buffer, Chain, copy_to_after, total};
use crate::device::DeviceError;
use crate::queue::VirtQueue;
use crate::raw_io::IoVecs;

/// Where `num_buffers` is in the header (5.1.6).
const NUM_BUFFERS: u64 = 10;

/// See the module.
pub(super) struct Receive {
    memory: GuestMemoryMmap,
    io: IoVecs,
    /// Chains of the driver's, in order, with the room of each.
    chains: Vec<(u16, u64)>,
    /// All their buffers.
    buffers: Vec<Buffer>,
    chain: Chain,
    /// A frame that waits for room.
    held: Vec<u8>,
    longest: usize,
    is_merging: bool,
    /// The carrier has ended, or failed: nothing comes any more, like from a wire that was cut.
    is_cut: bool,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The driver has it, or it was none.
    Frame,
    /// There is none.
    NoFrame,
    /// There is no buffer for it.
    NoBuffer,
}

impl Receive {
    pub fn new(memory: GuestMemoryMmap, longest: usize, is_merging: bool) -> Self {
        Receive {
            io: IoVecs::new(memory.clone()),
            memory,
            chains: Vec::new(),
            buffers: Vec::new(),
            chain: Chain::default(),
            held: Vec::new(),
            longest,
            is_merging,
            is_cut: false,
        }
    }

    /// Whether a frame could be taken from the carrier.
    pub fn wants_frame(&self) -> bool {
        self.held.is_empty() && !self.chains.is_empty() && !self.is_cut
    }

    /// Take one frame from the carrier to the driver.
    pub fn frame(
        &mut self,
        queue: &mut VirtQueue,
        carrier: &dyn Carrier,
    ) -> Result<Received, DeviceError> {
        if !queue.is_ready() {
            // What was gathered is the driver's again.
            self.chains.clear();
            self.buffers.clear();
            return Ok(Received::NoBuffer);
        }
        if !self.held.is_empty() {
            return self.release(queue);
        }
        if self.is_cut {
            return Ok(Received::NoFrame);
        }
        if !self.gather(queue, self.longest)? && self.chains.is_empty() {
            return Ok(Received::NoBuffer);
        }
        if self.room() < self.longest as u64 {
            return self.hold(queue, carrier);
        }
        let set = self.io.set(&self.buffers);
        set.map_err(|error| queue.broken(error.into()))?;
        let received = carrier.receive(&self.io);
        match self.judge(received) {
            Some(len) if len > HEADER_LEN => self.deliver(queue, len)?,
            Some(_) => {}
            None => return Ok(Received::NoFrame),
        }
        Ok(Received::Frame)
    }

    /// Take a frame here, as there may be no room for it.
    fn hold(
        &mut self,
        queue: &mut VirtQueue,
        carrier: &dyn Carrier,
    ) -> Result<Received, DeviceError> {
        self.held.resize(LONGEST, 0);
        let received = carrier.receive_here(&mut self.held);
        let judged = self.judge(received);
        let is_frame = |len: &usize| *len > HEADER_LEN;
        self.held.truncate(judged.filter(is_frame).unwrap_or(0));
        match judged {
            Some(_) if self.held.is_empty() => Ok(Received::Frame),
            Some(_) => self.release(queue),
            None => Ok(Received::NoFrame),
        }
    }

    /// Give the frame that waits to the driver, if it fits by now.
    fn release(&mut self, queue: &mut VirtQueue) -> Result<Received, DeviceError> {
        let len = self.held.len();
        if !self.gather(queue, len)? {
            return Ok(Received::NoBuffer);
        }
        copy_to_after(&self.memory, &self.buffers, 0, &self.held);
        queue.copied(len as u64);
        self.held.clear();
        self.deliver(queue, len).map(|()| Received::Frame)
    }

    /// What came: how many bytes, or nothing now, or nothing ever again.
    fn judge(&mut self, received: io::Result<usize>) -> Option<usize> {
        match received {
            Ok(len) if len > 0 => Some(len),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                None
            }
            Ok(_) | Err(_) => {
                self.is_cut = true;
                None
            }
        }
    }

    fn room(&self) -> u64 {
        self.chains.iter().map(|(_, room)| room).sum()
    }

    /// Have chains with room for `len` bytes; returns whether there are. Without merging, a chain is
    /// a frame's.
    fn gather(&mut self, queue: &mut VirtQueue, len: usize) -> Result<bool, DeviceError> {
        while self.room() < len as u64 {
            if !self.is_merging && !self.chains.is_empty() {
                return Ok(false);
            }
            if !queue.pop(&mut self.chain)? {
                // A chain may have come while doorbells were off: then look again.
                if queue.is_ready() && queue.arm()? {
                    continue;
                }
                return Ok(false);
            }
            let room = total(&self.chain.writable);
            // 5.1.6.3.1: a header's room in any case, a whole frame's without merging.
            let least = if self.is_merging {
                HEADER_LEN
            } else {
                self.longest
            };
            if room < least as u64 || !self.chain.readable.is_empty() {
                let what = "a receive buffer is too small, or not for writing";
                return Err(DeviceError::Request { queue: 0, what });
            }
            if self.chains.len() >= queue.size().into() {
                let size = queue.size();
                return Err(queue.broken(crate::chain::ChainError::InFlight { size }));
            }
            self.chains.push((self.chain.head, room));
            self.buffers.append(&mut self.chain.writable);
        }
        Ok(true)
    }

    /// Tell the driver of a frame of `len` bytes in the first buffers; keep the others.
    fn deliver(&mut self, queue: &mut VirtQueue, len: usize) -> Result<(), DeviceError> {
        let (mut left, mut used, mut room) = (len as u64, Vec::new(), 0);
        for (head, chain_room) in &self.chains {
            let written = left.min(*chain_room);
            left -= written;
            room += chain_room;
            // A chain is below 4 GiB.
            used.push((*head, written as u32));
            if left == 0 {
                break;
            }
        }
        // No more than the queue's size.
        let count = (used.len() as u16).to_le_bytes();
        copy_to_after(&self.memory, &self.buffers, NUM_BUFFERS, &count);
        self.chains.drain(..used.len());
        self.forget(room);
        queue.push_used_together(&used)
    }

    /// Leave buffers out that make up whole chains.
    fn forget(&mut self, room: u64) {
        let mut left = room;
        let count = self.buffers.iter().take_while(|buffer| {
            let is_gone = left > 0;
            left = left.saturating_sub(buffer.len.into());
            is_gone
        });
        let count = count.count();
        self.buffers.drain(..count);
    }
}
