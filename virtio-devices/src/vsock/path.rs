//! The data path of a socket device: packets between the queues and the table. Runs on the worker's
//! thread. Data goes between streams and guest memory without a copy here, unless a stream has no room.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;

use vm_memory::GuestMemoryMmap;

use super::connection::Payload;
use super::table::Table;
use super::wire::{HEADER_LEN, Header};
use super::{EVENT, RECEIVE, STEP, TRANSMIT};
use crate::chain::{Buffer, Chain, copy_from, copy_to, drop_front, total};
use crate::device::{DataPath, DeviceError, Served};
use crate::queue::VirtQueue;
use crate::raw_io::{IoVecs, read_frame, write_frame};

/// VIRTIO_VSOCK_EVENT_TRANSPORT_RESET (5.10.6.7).
const TRANSPORT_RESET: u32 = 0;

/// See the module.
pub(super) struct VsockPath {
    memory: GuestMemoryMmap,
    queues: Vec<VirtQueue>,
    table: Table,
    /// The driver's buffer for the next packet.
    receive: Chain,
    has_receive: bool,
    transmit: Chain,
    io: IoVecs,
    buffers: Vec<Buffer>,
}

impl VsockPath {
    pub fn new(memory: GuestMemoryMmap, queues: Vec<VirtQueue>, table: Table) -> Self {
        VsockPath {
            io: IoVecs::new(memory.clone()),
            memory,
            queues,
            table,
            receive: Chain::default(),
            has_receive: false,
            transmit: Chain::default(),
            buffers: Vec::new(),
        }
    }

    /// Move what can be moved: the guest's packets, then those for it, which make room for more of the
    /// guest's.
    fn serve(&mut self) -> Result<Served, DeviceError> {
        let mut served = self.transmit()?;
        let was_full = !self.table.has_room();
        served |= self.receive()?;
        served |= self.event()?;
        // The guest has taken resets, so it is listened to again.
        served.again |= was_full && self.table.has_room();
        Ok(served)
    }

    /// Packets for the guest.
    fn receive(&mut self) -> Result<Served, DeviceError> {
        let mut count = 0;
        while count < STEP && self.table.has_packets() && self.take_receive()? {
            if !self.receive_one()? {
                break;
            }
            count += 1;
        }
        self.served(RECEIVE, count)
    }

    /// Have a buffer of the driver's; returns whether there is one.
    fn take_receive(&mut self) -> Result<bool, DeviceError> {
        let Some(queue) = self
            .queues
            .get_mut(RECEIVE)
            .filter(|queue| queue.is_ready())
        else {
            self.has_receive = false;
            return Ok(false);
        };
        while !self.has_receive {
            self.has_receive = queue.pop(&mut self.receive)?;
            // A chain may have come while doorbells were off: then look again.
            if !self.has_receive && !queue.arm()? {
                return Ok(false);
            }
        }
        // Data has to have room behind the header: what is read of nothing would be an end.
        let room = total(&self.receive.writable);
        if !self.receive.readable.is_empty() || room <= HEADER_LEN as u64 {
            return Err(DeviceError::Request {
                queue: RECEIVE,
                what: "a receive buffer is too small, or not for writing",
            });
        }
        Ok(true)
    }

    /// One packet to the driver's buffer; returns whether there was one.
    fn receive_one(&mut self) -> Result<bool, DeviceError> {
        let (io, buffers, chain) = (&mut self.io, &mut self.buffers, &self.receive);
        let header = self.table.next(|stream, most| {
            buffers.clear();
            buffers.extend_from_slice(&chain.writable);
            drop_front(buffers, HEADER_LEN as u32);
            keep_front(buffers, most.into());
            // The chain's buffers were checked.
            io.set(buffers).map_err(io::Error::other)?;
            read_frame(stream, io)
        });
        let Some(header) = header else {
            return Ok(false);
        };
        copy_to(&self.memory, &self.receive.writable, &header.bytes());
        self.has_receive = false;
        if let Some(queue) = self.queues.get_mut(RECEIVE) {
            let written = HEADER_LEN as u32 + header.len;
            queue.push_used(self.receive.head, written)?;
        }
        Ok(true)
    }

    /// Packets of the guest's.
    fn transmit(&mut self) -> Result<Served, DeviceError> {
        let mut count = 0;
        while count < STEP && self.table.has_room() && self.transmit_one()? {
            count += 1;
        }
        self.served(TRANSMIT, count)
    }

    /// One packet of the guest's; returns whether there was one.
    fn transmit_one(&mut self) -> Result<bool, DeviceError> {
        let Some(queue) = self.queues.get_mut(TRANSMIT) else {
            return Ok(false);
        };
        while !queue.pop(&mut self.transmit)? {
            // A chain may have come while doorbells were off: then look again.
            if !queue.is_ready() || !queue.arm()? {
                return Ok(false);
            }
        }
        let mut bytes = [0; HEADER_LEN];
        let buffers = &mut self.transmit.readable;
        let has_header = copy_from(&self.memory, buffers, &mut bytes) == HEADER_LEN;
        let header = Header::parse(&bytes);
        let rest = total(buffers).saturating_sub(HEADER_LEN as u64);
        if !has_header || u64::from(header.len) > rest {
            return Err(DeviceError::Request {
                queue: TRANSMIT,
                what: "a packet is shorter than its header says",
            });
        }
        drop_front(buffers, HEADER_LEN as u32);
        keep_front(buffers, header.len.into());
        let mut payload = Data {
            memory: &self.memory,
            buffers,
            len: header.len as usize,
            io: &mut self.io,
            kept: 0,
        };
        self.table.packet(&header, &mut payload);
        queue.copied(payload.kept);
        queue.push_used(self.transmit.head, 0)?;
        Ok(true)
    }

    /// Tell the driver that the connections are gone, when it has a buffer for it.
    fn event(&mut self) -> Result<Served, DeviceError> {
        let mut chain = Chain::default();
        let mut count = 0;
        if let Some(queue) = self.queues.get_mut(EVENT)
            && self.table.has_lost_all()
        {
            while !queue.pop(&mut chain)? {
                if !queue.is_ready() || !queue.arm()? {
                    return Ok(Served::default());
                }
            }
            let event = TRANSPORT_RESET.to_le_bytes();
            if copy_to(&self.memory, &chain.writable, &event) < event.len() {
                return Err(DeviceError::Request {
                    queue: EVENT,
                    what: "an event has no room",
                });
            }
            queue.push_used(chain.head, event.len() as u32)?;
            self.table.told_loss();
            count = 1;
        }
        self.served(EVENT, count)
    }

    /// What follows from so many chains that were given back.
    fn served(&mut self, queue: usize, count: usize) -> Result<Served, DeviceError> {
        match self.queues.get_mut(queue) {
            Some(queue) => queue.served(count > 0, count == STEP),
            None => Ok(Served::default()),
        }
    }
}

/// Leave out what is behind the first `len` bytes.
fn keep_front(buffers: &mut Vec<Buffer>, len: u64) {
    let mut left = len;
    for buffer in buffers.iter_mut() {
        // No more than the length that it has, which is a u32.
        buffer.len = u64::from(buffer.len).min(left) as u32;
        left -= u64::from(buffer.len);
    }
    buffers.retain(|buffer| buffer.len > 0);
}

/// A packet's data.
struct Data<'a> {
    memory: &'a GuestMemoryMmap,
    buffers: &'a [Buffer],
    len: usize,
    io: &'a mut IoVecs,
    /// How many bytes were copied.
    kept: u64,
}

impl Payload for Data<'_> {
    fn write(&mut self, stream: &File) -> io::Result<usize> {
        // The chain's buffers were checked.
        self.io.set(self.buffers).map_err(io::Error::other)?;
        write_frame(stream, self.io)
    }

    /// Its length is below the connection's credit, which is checked before.
    fn keep(&mut self, skip: usize, into: &mut VecDeque<u8>) {
        if skip < self.len {
            self.kept += (self.len - skip) as u64;
            let mut bytes = vec![0; self.len];
            copy_from(self.memory, self.buffers, &mut bytes);
            into.extend(bytes.get(skip..).unwrap_or_default());
        }
    }
}

impl DataPath for VsockPath {
    /// Whichever queue it was: room in one may be what another waited for.
    fn notify(&mut self, _: usize) -> Result<Served, DeviceError> {
        self.serve()
    }

    fn queues(&mut self) -> &mut [VirtQueue] {
        &mut self.queues
    }

    fn fds(&self) -> Vec<RawFd> {
        vec![self.table.fd()]
    }

    fn ready(&mut self, _: usize) -> Result<Served, DeviceError> {
        self.table.events();
        self.serve()
    }
}
