//! The queue of frames to send, and the ring of bytes that they wait in.

use alloc::collections::VecDeque;

use driver_api::{Dma, Env, Mmio, NetError, NetOffloads, SendOptions};
use virtio::{Queue, Segment, Transport, VirtioError};

use crate::header;
use crate::wire::{HEADER, QUEUE_TRANSMIT};

/// The most frames under way.
const FRAMES_MOST: u16 = 256;
/// Bytes of the ring.
const RING: usize = 256 << 10;
/// Frames begin at a cache line each.
const ALIGN: usize = 64;

/// A frame under way.
#[derive(Clone, Copy, Debug)]
struct Frame {
    token: u16,
    at: usize,
    is_done: bool,
}

/// Which bytes of the ring are in use: from `start` on to before `end`, around the end of memory.
#[derive(Debug)]
struct Space {
    size: usize,
    start: usize,
    end: usize,
}

impl Space {
    /// Where `len` adjacent bytes are free. They never fill the ring up, so equal ends mean empty.
    fn find(&self, len: usize) -> Option<usize> {
        if self.end < self.start {
            return (len < self.start - self.end).then_some(self.end);
        }
        if len <= self.size - self.end {
            return Some(self.end);
        }
        (len < self.start).then_some(0)
    }
}

/// The queue, and what is in it.
pub struct Transmit<D> {
    queue: Queue<D>,
    ring: D,
    space: Space,
    /// In the order of the ring.
    frames: VecDeque<Frame>,
    /// Somebody was refused for want of room, since the last [`Transmit::listen`].
    is_short: bool,
    /// An interrupt was asked for.
    is_awaited: bool,
    is_broken: bool,
}

impl<D: Dma> Transmit<D> {
    /// Set the queue up.
    pub fn new<E: Env<Dma = D>, M: Mmio>(
        env: &E,
        transport: &Transport<M>,
        features: u64,
    ) -> Result<Self, VirtioError> {
        let queue = Queue::new(env, transport, QUEUE_TRANSMIT, FRAMES_MOST, features)?;
        Ok(Self {
            frames: VecDeque::with_capacity(queue.size().into()),
            queue,
            ring: env.dma(RING)?,
            space: Space {
                size: RING,
                start: 0,
                end: 0,
            },
            is_short: false,
            is_awaited: false,
            is_broken: false,
        })
    }

    /// Put a frame into the queue.
    ///
    /// # Errors
    /// [`NetError`]; of [`NetError::Broken`] the device must be reset.
    pub fn send(
        &mut self,
        frame: &[u8],
        options: &SendOptions,
        offered: &NetOffloads,
    ) -> Result<(), NetError> {
        if self.is_broken {
            return Err(NetError::Broken);
        }
        let header = header::encode(frame.len(), options, offered).ok_or(NetError::BadFrame)?;
        let len = HEADER + frame.len();
        let size = len.next_multiple_of(ALIGN);
        let mut place = self.find(size);
        if place.is_none() {
            self.reclaim()?;
            place = self.find(size);
        }
        let Some(at) = place else {
            self.is_short = true;
            return Err(NetError::Busy);
        };
        self.ring.write(at, &header);
        self.ring.write(at + HEADER, frame);
        let segment = Segment {
            phys: self.ring.phys() + at as u64,
            len: len as u32,
            is_writable: false,
        };
        let token = self.queue.add(&[segment]).map_err(|_| NetError::Broken)?;
        self.space.end = at + size;
        let is_done = false;
        self.frames.push_back(Frame { token, at, is_done });
        Ok(())
    }

    /// Where a frame could go, if there is a descriptor for it as well.
    fn find(&self, size: usize) -> Option<usize> {
        let has_descriptor = self.queue.in_flight() < self.queue.size();
        self.space.find(size).filter(|_| has_descriptor)
    }

    /// Take back what the device has sent, in whatever order.
    fn reclaim(&mut self) -> Result<(), NetError> {
        while let Some(used) = self.queue.pop().map_err(|_| NetError::Broken)? {
            let mut frames = self.frames.iter_mut();
            let frame = frames.find(|frame| frame.token == used.token && !frame.is_done);
            frame.ok_or(NetError::Broken)?.is_done = true;
            while self.frames.front().is_some_and(|frame| frame.is_done) {
                self.frames.pop_front();
            }
        }
        match self.frames.front() {
            Some(first) => self.space.start = first.at,
            None => (self.space.start, self.space.end) = (0, 0),
        }
        Ok(())
    }

    /// Whether the device is to be told of new frames.
    pub fn needs_kick(&mut self) -> bool {
        !self.is_broken && self.queue.needs_kick()
    }

    /// Whether there is room that somebody waits for. Says so once for each [`Transmit::listen`].
    pub fn has_news(&mut self) -> bool {
        let has_news = self.is_awaited && !self.is_broken && self.queue.has_used();
        if has_news {
            self.is_awaited = false;
        }
        has_news
    }

    /// Ask for no interrupt until [`Transmit::listen`].
    pub fn hold_interrupts(&mut self) {
        self.queue.hold_interrupts();
    }

    /// Ask for an interrupt if somebody was refused: when half of what is under way was sent, so that
    /// there is work for more than one frame then. `true` when so much was sent already.
    pub fn listen(&mut self) -> bool {
        let is_short = core::mem::take(&mut self.is_short);
        self.is_awaited = is_short && !self.is_broken;
        self.is_awaited
            && self
                .queue
                .allow_interrupts_after(self.queue.in_flight() / 2)
    }

    /// Send nothing any longer.
    pub fn break_off(&mut self) {
        self.is_broken = true;
    }
}

#[cfg(test)]
mod tests {
    use super::Space;

    #[test]
    fn a_frame_gets_adjacent_bytes_and_the_ring_never_fills_up() {
        let space = |start, end| Space {
            size: 640,
            start,
            end,
        };
        for (start, end, len, at) in [
            (0, 0, 640, Some(0)),
            (0, 0, 704, None),
            (0, 128, 512, Some(128)),
            (0, 128, 576, None),
            (128, 640, 64, Some(0)),
            (128, 640, 128, None),
            (128, 576, 128, None),
            (192, 576, 128, Some(0)),
            (192, 64, 64, Some(64)),
            (192, 64, 128, None),
        ] {
            assert_eq!(space(start, end).find(len), at, "{start} {end} {len}");
        }
    }
}
