//! Both queues of a console, each with a page that is cut into pieces. Never waits.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use driver_api::{ConsoleError, Dma, Env, Mmio};
use virtio::{Queue, Segment, Transport, VirtioError};

/// The queues (5.3.2).
pub const RECEIVE: u16 = 0;
pub const TRANSMIT: u16 = 1;

/// Pieces of each queue's page.
const PIECES: u16 = 8;
/// Bytes of a piece.
const PIECE: usize = 512;

/// A queue, and the memory of its requests.
struct Way<D> {
    queue: Queue<D>,
    memory: D,
    /// The piece of each of the queue's tokens.
    owners: Vec<u16>,
}

impl<D: Dma> Way<D> {
    fn new<E: Env<Dma = D>, M: Mmio>(
        env: &E,
        transport: &Transport<M>,
        index: u16,
        features: u64,
    ) -> Result<Self, VirtioError> {
        let queue = Queue::new(env, transport, index, PIECES, features)?;
        Ok(Self {
            memory: env.dma(usize::from(queue.size()) * PIECE)?,
            owners: alloc::vec![0; queue.size().into()],
            queue,
        })
    }

    /// Hand bytes of a piece to the device.
    fn add(&mut self, piece: u16, len: usize, is_writable: bool) -> Result<(), ConsoleError> {
        let segment = Segment {
            phys: self.memory.phys() + start(piece) as u64,
            len: len as u32,
            is_writable,
        };
        // There is a descriptor for each piece.
        let token = self.queue.add(&[segment]);
        let token = token.map_err(|_| ConsoleError::Broken)?;
        if let Some(owner) = self.owners.get_mut(usize::from(token)) {
            *owner = piece;
        }
        Ok(())
    }

    /// The next piece that the device is done with, and how much it wrote.
    fn pop(&mut self) -> Result<Option<(u16, usize)>, ConsoleError> {
        let used = self.queue.pop().map_err(|_| ConsoleError::Broken)?;
        let Some(used) = used else { return Ok(None) };
        let owner = self.owners.get(usize::from(used.token)).copied();
        let piece = owner.ok_or(ConsoleError::Broken)?;
        Ok(Some((piece, used.written as usize)))
    }
}

fn start(piece: u16) -> usize {
    usize::from(piece) * PIECE
}

/// Bytes that were typed, in a piece.
#[derive(Clone, Copy, Debug)]
struct Typed {
    piece: u16,
    at: usize,
    end: usize,
}

/// Both queues.
pub struct Queues<D> {
    receive: Way<D>,
    transmit: Way<D>,
    typed: VecDeque<Typed>,
    /// Pieces for output that nobody uses.
    free: Vec<u16>,
    is_broken: bool,
}

impl<D: Dma> Queues<D> {
    /// Set both up: the one full of buffers, the other empty.
    pub fn new<E: Env<Dma = D>, M: Mmio>(
        env: &E,
        transport: &Transport<M>,
        features: u64,
    ) -> Result<Self, VirtioError> {
        let mut receive = Way::new(env, transport, RECEIVE, features)?;
        let mut transmit = Way::new(env, transport, TRANSMIT, features)?;
        for piece in 0..receive.queue.size() {
            let added = receive.add(piece, PIECE, true);
            added.map_err(|_| VirtioError::NoQueue(RECEIVE))?;
        }
        // Nothing can be there yet.
        let _ = receive.queue.allow_interrupts();
        transmit.queue.hold_interrupts();
        Ok(Self {
            free: (0..transmit.queue.size()).rev().collect(),
            typed: VecDeque::with_capacity(receive.queue.size().into()),
            receive,
            transmit,
            is_broken: false,
        })
    }

    /// Hand some of these bytes to the device; returns how many. None when it holds too much: then
    /// there is an interrupt as soon as it does not.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        if self.is_broken {
            return Err(ConsoleError::Broken);
        }
        let mut written = 0;
        loop {
            let rest = bytes.get(written..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(written);
            }
            let Some(piece) = self.take_free()? else {
                return Ok(written);
            };
            let now = rest.get(..PIECE).unwrap_or(rest);
            self.transmit.memory.write(start(piece), now);
            self.transmit.add(piece, now.len(), false)?;
            written += now.len();
        }
    }

    fn take_free(&mut self) -> Result<Option<u16>, ConsoleError> {
        loop {
            if let Some(piece) = self.free.pop() {
                return Ok(Some(piece));
            }
            self.take_back()?;
            if self.free.is_empty() && !self.transmit.queue.allow_interrupts() {
                return Ok(None);
            }
        }
    }

    fn take_back(&mut self) -> Result<(), ConsoleError> {
        while let Some((piece, _)) = self.transmit.pop()? {
            self.free.push(piece);
        }
        Ok(())
    }

    /// Take what was typed; returns how many bytes, which may be none.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, ConsoleError> {
        let mut count = 0;
        while let Some(rest) = into.get_mut(count..).filter(|rest| !rest.is_empty()) {
            let Some(typed) = self.typed.front_mut() else {
                break;
            };
            let len = rest.len().min(typed.end - typed.at);
            if let Some(place) = rest.get_mut(..len) {
                let at = start(typed.piece) + typed.at;
                self.receive.memory.read(at, place);
            }
            typed.at += len;
            count += len;
            if typed.at == typed.end {
                let piece = typed.piece;
                self.typed.pop_front();
                if !self.is_broken {
                    self.receive.add(piece, PIECE, true)?;
                }
            }
        }
        match (count, self.is_broken) {
            (0, true) => Err(ConsoleError::Broken),
            _ => Ok(count),
        }
    }

    /// Take what the device is done with. Returns whether there was anything.
    ///
    /// # Errors
    /// [`ConsoleError::Broken`] when the device breaks the protocol: it must be reset.
    pub fn serve(&mut self) -> Result<bool, ConsoleError> {
        let mut has_served = false;
        while !self.is_broken {
            while let Some((piece, end)) = self.receive.pop()? {
                has_served = true;
                let typed = Typed { piece, at: 0, end };
                match end {
                    // A buffer without text goes back at once.
                    0 => self.receive.add(piece, PIECE, true)?,
                    _ => self.typed.push_back(typed),
                }
            }
            if !self.receive.queue.allow_interrupts() {
                break;
            }
        }
        if !self.is_broken && self.transmit.queue.has_used() {
            has_served = true;
            self.transmit.queue.hold_interrupts();
            self.take_back()?;
        }
        Ok(has_served)
    }

    /// Which queues' devices are to be notified.
    pub fn needs_kick(&mut self) -> [(u16, bool); 2] {
        let ways = [(RECEIVE, &mut self.receive), (TRANSMIT, &mut self.transmit)];
        let is_broken = self.is_broken;
        ways.map(|(index, way)| (index, !is_broken && way.queue.needs_kick()))
    }

    /// Use the device no longer. What was typed before can still be read.
    pub fn break_off(&mut self) {
        self.is_broken = true;
    }

    /// Whether the device is no longer used.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }
}
