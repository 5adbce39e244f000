//! The three queues, and packets in memory for devices. Never waits, and knows no streams.

use alloc::vec::Vec;

use driver_api::{Dma, Env, Mmio, SocketError};
use virtio::{Queue, Segment, Transport, Used, VirtioError};

use crate::connection::Data;
use crate::wire::{HEADER, Header};

/// The queues (5.10.2).
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
const EVENT: u16 = 2;

/// Pieces of the queues of packets, and bytes of each.
const PIECES: u16 = 16;
const PIECE: usize = 4096;
/// Pieces of the queue of events, and bytes of each: a number, of 32 bits (5.10.6.7).
const EVENTS: u16 = 2;
const EVENT_BYTES: usize = 4;

/// The most bytes of data in a packet that is sent.
pub const DATA_MOST: usize = PIECE - HEADER;
/// How many bytes of a packet that came are looked at together.
const LOOK: usize = 512;

/// A queue, and the memory of its requests.
struct Way<D> {
    index: u16,
    queue: Queue<D>,
    memory: D,
    piece: usize,
    /// The piece of each of the queue's tokens.
    owners: Vec<u16>,
}

impl<D: Dma> Way<D> {
    fn new<E: Env<Dma = D>, M: Mmio>(
        env: &E,
        transport: &Transport<M>,
        index: u16,
        most: u16,
        piece: usize,
        features: u64,
    ) -> Result<Self, VirtioError> {
        let queue = Queue::new(env, transport, index, most, features)?;
        Ok(Self {
            index,
            memory: env.dma(usize::from(queue.size()) * piece)?,
            piece,
            owners: alloc::vec![0; queue.size().into()],
            queue,
        })
    }

    fn start(&self, piece: u16) -> usize {
        usize::from(piece) * self.piece
    }

    /// Hand bytes of a piece to the device.
    fn add(&mut self, piece: u16, len: usize, is_writable: bool) -> Result<(), SocketError> {
        let segment = Segment {
            phys: self.memory.phys() + self.start(piece) as u64,
            len: len as u32,
            is_writable,
        };
        // There is a descriptor for each piece.
        let token = self.queue.add(&[segment]);
        let token = token.map_err(|_| SocketError::Broken)?;
        if let Some(owner) = self.owners.get_mut(usize::from(token)) {
            *owner = piece;
        }
        Ok(())
    }

    /// Hand all pieces to the device, to be written.
    fn fill(&mut self) -> Result<(), VirtioError> {
        for piece in 0..self.queue.size() {
            let added = self.add(piece, self.piece, true);
            added.map_err(|_| VirtioError::NoQueue(self.index))?;
        }
        // Nothing can be there yet.
        let _ = self.queue.allow_interrupts();
        Ok(())
    }

    /// The next piece that the device is done with, and how much it wrote.
    fn pop(&mut self) -> Result<Option<(u16, usize)>, SocketError> {
        let used = self.queue.pop().map_err(|_| SocketError::Broken)?;
        let Some(Used { token, written }) = used else {
            return Ok(None);
        };
        let owner = self.owners.get(usize::from(token)).copied();
        Ok(Some((owner.ok_or(SocketError::Broken)?, written as usize)))
    }
}

/// See the module.
pub struct Queues<D> {
    receive: Way<D>,
    transmit: Way<D>,
    event: Way<D>,
    /// Pieces for packets that nobody uses.
    free: Vec<u16>,
}

impl<D: Dma> Queues<D> {
    /// Set all three up, those that the device writes full of buffers.
    pub fn new<E: Env<Dma = D>, M: Mmio>(
        env: &E,
        transport: &Transport<M>,
        features: u64,
    ) -> Result<Self, VirtioError> {
        let way = |index, most, piece| Way::new(env, transport, index, most, piece, features);
        let mut receive = way(RECEIVE, PIECES, PIECE)?;
        let mut transmit = way(TRANSMIT, PIECES, PIECE)?;
        let mut event = way(EVENT, EVENTS, EVENT_BYTES)?;
        receive.fill()?;
        event.fill()?;
        transmit.queue.hold_interrupts();
        Ok(Self {
            free: (0..transmit.queue.size()).rev().collect(),
            receive,
            transmit,
            event,
        })
    }

    /// Whether there is room for a packet. If not, there is an interrupt as soon as there is.
    ///
    /// # Errors
    /// [`SocketError::Broken`] here and below: the device breaks the protocol, and must be reset.
    pub fn has_room(&mut self) -> Result<bool, SocketError> {
        loop {
            if !self.free.is_empty() {
                return Ok(true);
            }
            self.take_back()?;
            if self.free.is_empty() && !self.transmit.queue.allow_interrupts() {
                return Ok(false);
            }
        }
    }

    fn take_back(&mut self) -> Result<bool, SocketError> {
        let mut has_taken = false;
        while let Some((piece, _)) = self.transmit.pop()? {
            self.free.push(piece);
            has_taken = true;
        }
        Ok(has_taken)
    }

    /// Send a packet, for which there is room.
    pub fn send(&mut self, header: &Header, data: &[u8]) -> Result<(), SocketError> {
        let piece = self.free.pop().ok_or(SocketError::Broken)?;
        let at = self.transmit.start(piece);
        let data = data.get(..DATA_MOST).unwrap_or(data);
        self.transmit.memory.write(at, &header.bytes());
        self.transmit.memory.write(at + HEADER, data);
        self.transmit.add(piece, HEADER + data.len(), false)
    }

    /// Take the next packet, and have `take` look at it and at its data. Returns whether there was one.
    pub fn receive(
        &mut self,
        take: impl FnOnce(&Header, &mut dyn Data),
    ) -> Result<bool, SocketError> {
        let Some((piece, written)) = self.receive.pop()? else {
            return Ok(false);
        };
        let at = self.receive.start(piece);
        let mut bytes = [0; HEADER];
        self.receive.memory.read(at, &mut bytes);
        let header = Header::parse(&bytes);
        let len = written.checked_sub(HEADER).ok_or(SocketError::Broken)?;
        if header.len as usize > len {
            return Err(SocketError::Broken);
        }
        let mut data = Came {
            memory: &self.receive.memory,
            at: at + HEADER,
            len: header.len as usize,
        };
        take(&header, &mut data);
        self.receive.add(piece, PIECE, true)?;
        Ok(true)
    }

    /// Take the next event, if there is one.
    pub fn event(&mut self) -> Result<Option<u32>, SocketError> {
        let Some((piece, written)) = self.event.pop()? else {
            return Ok(None);
        };
        if written != EVENT_BYTES {
            return Err(SocketError::Broken);
        }
        let mut bytes = [0; EVENT_BYTES];
        self.event.memory.read(self.event.start(piece), &mut bytes);
        self.event.add(piece, EVENT_BYTES, true)?;
        Ok(Some(u32::from_le_bytes(bytes)))
    }

    /// Let interrupts come again; `true` when something is there already.
    pub fn listen(&mut self) -> bool {
        let ways = [&mut self.receive, &mut self.event];
        ways.map(|way| way.queue.allow_interrupts()).contains(&true)
    }

    /// After an interrupt: take back what was sent. Returns whether there was anything.
    pub fn serve_sent(&mut self) -> Result<bool, SocketError> {
        let has_taken = self.take_back()?;
        if has_taken {
            self.transmit.queue.hold_interrupts();
        }
        Ok(has_taken)
    }

    /// Which queues' devices are to be notified.
    pub fn needs_kick(&mut self) -> [(u16, bool); 3] {
        let ways = [&mut self.receive, &mut self.transmit, &mut self.event];
        ways.map(|way| (way.index, way.queue.needs_kick()))
    }
}

/// The data of a packet that came.
struct Came<'a, D> {
    memory: &'a D,
    at: usize,
    len: usize,
}

impl<D: Dma> Data for Came<'_, D> {
    fn each(&self, look: &mut dyn FnMut(&[u8])) {
        let mut bytes = [0; LOOK];
        for skip in (0..self.len).step_by(LOOK) {
            let count = LOOK.min(self.len - skip);
            let part = bytes.get_mut(..count).unwrap_or_default();
            self.memory.read(self.at + skip, part);
            look(part);
        }
    }
}
