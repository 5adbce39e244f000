//! One queue and the requests in it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use driver_api::{BlockError, Completion, Dma, Env, Mmio, Refused, Request};
use virtio::{Queue, Transport, VirtioError};

use crate::request::{PLACE, decode, encode};

/// The largest queue: what is beyond helps nobody, and costs memory.
const QUEUE_MOST: u16 = 256;
/// Segments of a request: header, data, status.
pub const SEGMENTS: usize = 3;

/// A request under way, and who wants to hear of its end.
struct Pending<D> {
    request: Request<D>,
    client: Arc<dyn Completion<D>>,
    /// Which place in `places` it uses.
    place: usize,
}

/// A request that is over.
pub struct Done<D> {
    request: Request<D>,
    client: Arc<dyn Completion<D>>,
    result: Result<(), BlockError>,
}

impl<D> Done<D> {
    /// Give it back. No lock may be held: the client may submit the next one.
    pub fn deliver(self) {
        self.client.complete(self.request, self.result);
    }
}

/// A queue, and what is in it.
pub struct Lane<D> {
    queue: Queue<D>,
    /// By the queue's token.
    pending: Vec<Option<Pending<D>>>,
    /// Header and status of each request. Tokens come and go as the queue likes, so places are
    /// handed out here.
    places: D,
    free: Vec<usize>,
    is_broken: bool,
}

impl<D: Dma> Lane<D> {
    /// Set a queue up.
    pub fn new<E: Env<Dma = D>, M: Mmio>(
        env: &E,
        transport: &Transport<M>,
        index: u16,
        features: u64,
    ) -> Result<Self, VirtioError> {
        let queue = Queue::new(env, transport, index, QUEUE_MOST, features)?;
        let depth = queue.depth(SEGMENTS);
        if depth == 0 {
            return Err(VirtioError::NoQueue(index));
        }
        // Requests of two segments take less room, so there may be more than `depth`; they are
        // refused, and nobody needs a place that is not there.
        Ok(Self {
            pending: (0..queue.size()).map(|_| None).collect(),
            places: env.dma(depth * PLACE)?,
            free: (0..depth).rev().collect(),
            queue,
            is_broken: false,
        })
    }

    /// How many requests may be under way at once.
    pub fn depth(&self) -> usize {
        self.queue.depth(SEGMENTS)
    }

    /// Begin a request that was checked.
    pub fn submit(
        &mut self,
        request: Request<D>,
        client: &Arc<dyn Completion<D>>,
    ) -> Result<(), Refused<D>> {
        let refuse = |request, error| Err(Refused { request, error });
        if self.is_broken {
            return refuse(request, BlockError::Broken);
        }
        let Some(place) = self.free.pop() else {
            return refuse(request, BlockError::Busy);
        };
        let segments = encode(&request, &self.places, place * PLACE);
        let token = self.queue.add(segments.as_slice());
        let slot = token.ok().map(usize::from);
        let Some(slot) = slot.and_then(|token| self.pending.get_mut(token)) else {
            self.free.push(place);
            return refuse(request, BlockError::Busy);
        };
        *slot = Some(Pending {
            request,
            client: client.clone(),
            place,
        });
        Ok(())
    }

    /// Whether the device wants to be notified.
    pub fn needs_kick(&mut self) -> bool {
        !self.is_broken && self.queue.needs_kick()
    }

    /// Take a request that the device is done with. `Err` when it broke the protocol: then the
    /// device is to be reset, and [`Lane::give_up`] called until nothing is left.
    pub fn pop(&mut self) -> Result<Option<Done<D>>, BlockError> {
        if self.is_broken {
            return Ok(None);
        }
        let Some(used) = self.queue.pop().map_err(|_| BlockError::Broken)? else {
            return Ok(None);
        };
        let slot = self.pending.get_mut(usize::from(used.token));
        let pending = slot.and_then(Option::take).ok_or(BlockError::Broken)?;
        let at = pending.place * PLACE;
        self.free.push(pending.place);
        let result = decode(&pending.request, &self.places, at, used.written);
        if result.is_err() {
            self.is_broken = true;
        }
        Ok(Some(Done {
            request: pending.request,
            client: pending.client,
            result: result.unwrap_or_else(Err),
        }))
    }

    /// Whether the device broke the protocol.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Take nothing on any longer.
    pub fn break_off(&mut self) {
        self.is_broken = true;
    }

    /// Take a request that will not be answered. Unless the device was reset, and so uses no buffer
    /// any longer, the buffer is nobody's from here on.
    pub fn give_up(&mut self, is_reset: bool) -> Option<Done<D>> {
        let mut pending = self.pending.iter_mut().find_map(Option::take)?;
        if !is_reset {
            core::mem::forget(pending.request.buffer.take());
        }
        Some(Done {
            request: pending.request,
            client: pending.client,
            result: Err(BlockError::Broken),
        })
    }

    /// Ask for no interrupts for now.
    pub fn hold_interrupts(&mut self) {
        self.queue.hold_interrupts();
    }

    /// Ask for interrupts; `true` when something is there already.
    #[must_use = "for what is there already no interrupt comes"]
    pub fn allow_interrupts(&mut self) -> bool {
        !self.is_broken && self.queue.allow_interrupts()
    }
}
