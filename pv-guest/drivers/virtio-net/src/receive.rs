//! The queue of received frames: buffers that the device fills, one after the other.

use alloc::vec::Vec;

use driver_api::{Dma, ETHERNET_HEADER, Env, Mmio, NetError, ReceivedFrame};
use virtio::{Queue, Segment, Transport, Used, VirtioError};

use crate::header;
use crate::wire::{self, HEADER, QUEUE_RECEIVE};

/// The most buffers: enough for several frames of joined segments.
const BUFFERS_MOST: u16 = 128;
/// The most bytes of all buffers, unless a single frame needs more.
const BYTES_MOST: usize = 512 << 10;
/// Buffers are handed back so many at once, while more frames wait.
const BATCH: usize = 32;

/// How the buffers are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a buffer.
    pub buffer: usize,
    /// The longest frame, without the device's header.
    pub longest: usize,
    /// Whether a frame may fill several buffers.
    pub is_merging: bool,
    /// Whether what the device says of checksums counts.
    pub has_checks: bool,
}

impl Shape {
    /// The shape for some features.
    pub fn of(features: u64, mtu: u16) -> Self {
        let has = |feature| features & feature != 0;
        let is_joining = has(wire::F_GUEST_TSO4 | wire::F_GUEST_TSO6);
        let longest = match is_joining {
            true => wire::LONGEST_JOINED,
            false => ETHERNET_HEADER + usize::from(mtu.max(wire::MTU_PLAIN)),
        };
        let is_merging = has(wire::F_MRG_RXBUF);
        let buffer = match (is_merging, is_joining) {
            (true, true) => 4096,
            (true, false) => 2048,
            // 5.1.6.3.1: then each buffer must hold any frame.
            (false, _) => (HEADER + longest).next_multiple_of(64),
        };
        Self {
            buffer,
            longest,
            is_merging,
            has_checks: has(wire::F_GUEST_CSUM),
        }
    }
}

/// What came of a look at the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing was there.
    Nothing,
    /// A frame, in the client's buffer.
    Frame(ReceivedFrame),
    /// A frame that was too long for the client.
    Dropped,
    /// A frame without a header of Ethernet's.
    Damaged,
}

/// The queue, and its buffers.
pub struct Receive<D> {
    queue: Queue<D>,
    buffers: D,
    shape: Shape,
    /// The buffer of each of the queue's tokens.
    owners: Vec<u16>,
    /// Buffers that were handed back since the device was told.
    untold: usize,
    is_broken: bool,
}

impl<D: Dma> Receive<D> {
    /// Set the queue up, full of buffers.
    pub fn new<E: Env<Dma = D>, M: Mmio>(
        env: &E,
        transport: &Transport<M>,
        features: u64,
        shape: Shape,
    ) -> Result<Self, VirtioError> {
        let queue = Queue::new(env, transport, QUEUE_RECEIVE, BUFFERS_MOST, features)?;
        let most = (BYTES_MOST / shape.buffer).max(1);
        let count = most.min(queue.size().into());
        // Without so much room the device could deliver no frame at all.
        if count * shape.buffer < HEADER + shape.longest {
            return Err(VirtioError::NoQueue(QUEUE_RECEIVE));
        }
        let mut receive = Self {
            buffers: env.dma(count * shape.buffer)?,
            owners: alloc::vec![0; queue.size().into()],
            queue,
            shape,
            untold: 0,
            is_broken: false,
        };
        for buffer in 0..count as u16 {
            // There is a descriptor for each.
            let _ = receive.hand_back(buffer);
        }
        Ok(receive)
    }

    fn hand_back(&mut self, buffer: u16) -> Result<(), NetError> {
        let segment = Segment {
            phys: self.buffers.phys() + self.start(buffer) as u64,
            len: self.shape.buffer as u32,
            is_writable: true,
        };
        let token = self.queue.add(&[segment]);
        let token = token.map_err(|_| NetError::Broken)?;
        if let Some(owner) = self.owners.get_mut(usize::from(token)) {
            *owner = buffer;
        }
        self.untold += 1;
        Ok(())
    }

    fn start(&self, buffer: u16) -> usize {
        usize::from(buffer) * self.shape.buffer
    }

    /// Whether the device has something to say. After a wrong answer it has not.
    pub fn has_news(&self) -> bool {
        !self.is_broken && self.queue.has_used()
    }

    /// Ask for no interrupt until [`Receive::listen`].
    pub fn hold_interrupts(&mut self) {
        self.queue.hold_interrupts();
    }

    /// Ask for an interrupt at the next frame; `true` when one is there already.
    pub fn listen(&mut self) -> bool {
        !self.is_broken && self.queue.allow_interrupts()
    }

    /// Take nothing any longer.
    pub fn break_off(&mut self) {
        self.is_broken = true;
    }

    /// Whether the device is to be told of buffers: if there are many, or if all are to be told.
    pub fn needs_kick(&mut self, is_last: bool) -> bool {
        let is_due = self.untold >= BATCH || is_last && self.untold > 0;
        if self.is_broken || !is_due {
            return false;
        }
        self.untold = 0;
        self.queue.needs_kick()
    }

    /// Take the next frame.
    ///
    /// # Errors
    /// [`NetError::Broken`] when the device breaks the protocol: it must be reset.
    pub fn take(&mut self, into: &mut [u8]) -> Result<Taken, NetError> {
        if self.is_broken {
            return Ok(Taken::Nothing);
        }
        let Some(first) = self.pop()? else {
            return Ok(Taken::Nothing);
        };
        let first_len = first.1.checked_sub(HEADER).ok_or(NetError::Broken)?;
        let mut bytes = [0; HEADER];
        self.buffers.read(self.start(first.0), &mut bytes);
        let header = header::decode(&bytes);
        let mut len = 0;
        let mut fits = self.append(first.0, HEADER, first_len, into, &mut len);
        if self.shape.is_merging {
            // The device makes all buffers of a frame visible at once (5.1.6.4.1).
            for _ in 1..header.buffers {
                let (buffer, more) = self.pop()?.ok_or(NetError::Broken)?;
                fits &= self.append(buffer, 0, more, into, &mut len);
                self.hand_back(buffer)?;
            }
        }
        self.hand_back(first.0)?;
        Ok(match (fits, len >= ETHERNET_HEADER) {
            (false, _) => Taken::Dropped,
            (true, false) => Taken::Damaged,
            (true, true) => Taken::Frame(ReceivedFrame {
                len,
                is_checked: self.shape.has_checks && header.is_checked,
            }),
        })
    }

    /// The next buffer that the device has filled, and how many bytes of it.
    fn pop(&mut self) -> Result<Option<(u16, usize)>, NetError> {
        let used = self.queue.pop().map_err(|_| NetError::Broken)?;
        let Some(Used { token, written }) = used else {
            return Ok(None);
        };
        let owner = self.owners.get(usize::from(token)).copied();
        let buffer = owner.ok_or(NetError::Broken)?;
        // The queue has checked that the device wrote no more than the buffer holds.
        Ok(Some((buffer, written as usize)))
    }

    /// Copy a part of a frame behind what is there. `false` when there is no room for it.
    fn append(
        &self,
        buffer: u16,
        skip: usize,
        count: usize,
        into: &mut [u8],
        len: &mut usize,
    ) -> bool {
        let start = *len;
        *len = start.saturating_add(count);
        let Some(place) = into.get_mut(start..*len) else {
            return false;
        };
        self.buffers.read(self.start(buffer) + skip, place);
        true
    }
}
