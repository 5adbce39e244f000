//! Makes a plan from random numbers. Called by [`super::Virtio`]. A plan is a few lives of a driver: each
//! sets the device up, offers requests, rings doorbells, waits or does not, and ends in a reset.

use fastrand::Rng;
use virtio_bindings::virtio_mmio as register;
use virtio_devices::Device;
use virtio_devices::device::feature;

use super::driver::{INDIRECT, NEXT, WRITE};
use super::layout::{self, BUFFERS, HEADERS, Rings, SLOT, STATUSES};
use super::plan::{Awaited, Mark, Mood, Op, Plan, Store};
use super::{Subject, Weights};
use crate::random::Choose;

/// The most lives of a driver, rounds of a life, and requests of a round.
const LIVES: u32 = 4;
const ROUNDS: u32 = 5;
const REQUESTS: u32 = 8;
/// The most stores of the second thread.
const SCRIBBLES: usize = 40;
/// How much more often a wild driver does something wrong.
const WILDER: u32 = 3;

/// A piece of memory in a request.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Where.
    pub at: u64,
    /// How many bytes.
    pub len: u32,
    /// Whether the device may write it.
    pub is_writable: bool,
}

/// What a driver asks for.
#[derive(Default)]
pub struct Request {
    /// The pieces of memory, in order.
    pub pieces: Vec<Piece>,
    /// The byte that tells what became of it.
    pub mark: Option<Mark>,
}

impl Request {
    /// Add memory that the device may read.
    pub fn reads(&mut self, at: u64, len: u32) {
        self.pieces.push(Piece {
            at,
            len,
            is_writable: false,
        });
    }

    /// Add memory that the device may write.
    pub fn writes(&mut self, at: u64, len: u32) {
        self.pieces.push(Piece {
            at,
            len,
            is_writable: true,
        });
    }
}

/// A descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw {
    pub at: u64,
    pub len: u32,
    pub flags: u16,
    pub next: u16,
}

/// A queue, as the driver sees it.
pub(super) struct Lane {
    pub max: u16,
    pub rings: Rings,
    /// Whether its requests come back by themselves.
    finishes: bool,
    is_used: bool,
    /// The next descriptor that is free.
    free: u16,
    /// The available index.
    available: u16,
    /// Offered, and no doorbell rung since.
    is_waiting: bool,
}

/// See the module.
pub struct Maker<'a> {
    /// Where choices come from.
    pub rng: &'a mut Rng,
    /// How the driver behaves.
    pub mood: Mood,
    /// What driver and device agree on in this life, if all goes well.
    pub features: u64,
    pub(super) offered: u64,
    pub(super) ops: Vec<Op>,
    pub(super) lanes: Vec<Lane>,
    pub(super) is_messy: bool,
    weights: Weights,
    headers: u64,
    statuses: u64,
    indirect: u64,
}

impl<'a> Maker<'a> {
    /// A maker of plans for a device.
    pub fn new(rng: &'a mut Rng, device: &dyn Device, weights: Weights) -> Self {
        let mood = match rng.u32(..10) {
            0..2 => Mood::Legal,
            2..7 => Mood::Bent,
            _ => Mood::Wild,
        };
        let lane = |(queue, max): (usize, &u16)| Lane {
            max: *max,
            rings: Rings::usual(queue, *max),
            finishes: true,
            is_used: true,
            free: 0,
            available: 0,
            is_waiting: false,
        };
        Maker {
            lanes: device.queue_sizes().iter().enumerate().map(lane).collect(),
            offered: device.features(),
            features: device.features(),
            rng,
            mood,
            ops: Vec::new(),
            is_messy: false,
            weights,
            headers: HEADERS.start,
            statuses: STATUSES.start,
            indirect: layout::INDIRECT.start,
        }
    }

    /// Make a plan.
    pub fn plan(mut self, subject: &mut dyn Subject) -> Plan {
        for (queue, lane) in self.lanes.iter_mut().enumerate() {
            lane.finishes = subject.finishes(queue);
        }
        for _ in 0..1 + self.rng.u32(..LIVES) {
            self.life(subject);
        }
        let scribbles = self.scribbles();
        Plan {
            mood: self.mood,
            ops: self.ops,
            scribbles,
            is_messy: self.is_messy,
        }
    }

    /// Whether something wrong is done here: more often the wilder the driver is.
    pub(super) fn errs(&mut self, times: u32) -> bool {
        match self.mood {
            Mood::Legal => false,
            Mood::Bent => self.rng.once_in(times),
            Mood::Wild => self.rng.once_in((times / WILDER).max(2)),
        }
    }

    fn life(&mut self, subject: &mut dyn Subject) {
        self.choose_features();
        for queue in 0..self.lanes.len() {
            self.set_up_lane(queue);
        }
        self.start();
        for _ in 0..1 + self.rng.u32(..ROUNDS) {
            while self.rng.once_in(self.weights.registers) {
                self.noise();
            }
            for _ in 0..1 + self.rng.u32(..REQUESTS) {
                let queue = self.rng.usize(..self.lanes.len());
                self.request(subject, queue);
                if self.rng.once_in(4) {
                    self.ring_bells();
                }
            }
            self.round_ends();
        }
        if !self.rng.once_in(4) {
            self.settle();
        }
        let all = self.awaited();
        self.ops.push(Op::Count(all));
        if !self.errs(6) {
            self.register(register::VIRTIO_MMIO_STATUS, 0);
        }
    }

    /// All that is offered, or less.
    fn choose_features(&mut self) {
        self.features = self.offered;
        if self.rng.once_in(3) {
            let keep = self.rng.u64(..) | self.rng.u64(..);
            self.features &= keep | feature::VERSION_1;
        }
    }

    fn set_up_lane(&mut self, queue: usize) {
        let (is_at_end, is_used) = (self.rng.once_in(40), !self.rng.once_in(16));
        let shift = if self.rng.once_in(3) {
            self.rng.u32(..8)
        } else {
            0
        };
        let last = self.rng.usize(..3);
        if let Some(lane) = self.lanes.get_mut(queue) {
            let size = (lane.max >> shift).max(1);
            let end = Rings::at_the_end(queue, size, last).filter(|_| is_at_end);
            lane.rings = end.unwrap_or_else(|| Rings::usual(queue, size));
            (lane.is_used, lane.is_waiting) = (is_used, false);
            (lane.free, lane.available) = (0, 0);
        }
    }

    /// The queues that are set up in this life.
    pub(super) fn used_lanes(&self) -> impl Iterator<Item = (usize, &Lane)> {
        self.lanes
            .iter()
            .enumerate()
            .filter(|(_, lane)| lane.is_used)
    }

    fn awaited(&self) -> Vec<Awaited> {
        let awaited = self.used_lanes().map(|(queue, lane)| Awaited {
            queue,
            used: lane.rings.used,
            index: lane.available,
            is_certain: lane.finishes,
        });
        awaited.collect()
    }

    fn round_ends(&mut self) {
        let is_bell_rung = !self.errs(12);
        if is_bell_rung {
            self.ring_bells();
        }
        for _ in 0..self.rng.u32(..3) {
            let what = self.rng.u64(..);
            self.ops.push(Op::Outside(what));
        }
        if self.rng.once_in(3) {
            self.settle();
        }
    }

    fn ring_bells(&mut self) {
        for queue in 0..self.lanes.len() {
            let waits = self
                .lanes
                .get_mut(queue)
                .is_some_and(|lane| std::mem::take(&mut lane.is_waiting));
            if waits {
                self.register(register::VIRTIO_MMIO_QUEUE_NOTIFY, queue as u32);
            }
        }
    }

    /// Wait for the device. Afterwards all descriptors are free, but for those of queues that may keep
    /// requests for long.
    fn settle(&mut self) {
        if self.mood == Mood::Legal {
            self.ring_bells();
        }
        let queues = self.awaited();
        self.ops.push(Op::Settle(queues));
        for lane in self.lanes.iter_mut().filter(|lane| lane.finishes) {
            lane.free = 0;
        }
    }

    /// Offer a request.
    fn request(&mut self, subject: &mut dyn Subject, queue: usize) {
        let Some(lane) = self.lanes.get(queue).filter(|lane| lane.is_used) else {
            return;
        };
        let (size, finishes) = (lane.rings.size, lane.finishes);
        let Some(request) = subject.request(self, queue) else {
            return;
        };
        let count = request.pieces.len() as u16;
        let is_indirect = self.features & feature::INDIRECT_DESC != 0 && self.rng.once_in(3);
        let is_indirect = is_indirect || self.errs(60);
        let slots = if is_indirect { 1 } else { count };
        if count == 0 || count > size {
            return;
        }
        if self.free(queue) + slots > size {
            if !finishes && !self.errs(4) {
                return;
            }
            // Or else descriptors that are in flight change, and more are than there are.
            if !self.errs(9) {
                self.settle();
            }
            if let Some(lane) = self.lanes.get_mut(queue) {
                lane.free = 0;
            }
        }
        let first = self.free(queue);
        if let Some(lane) = self.lanes.get_mut(queue) {
            lane.free = first + slots;
        }
        match is_indirect {
            true => self.describe_indirectly(queue, first, &request.pieces),
            false => self.describe(self.table(queue), first, &request.pieces),
        }
        self.ops.extend(request.mark.map(Op::Mark));
        self.offer(queue, first);
    }

    fn free(&self, queue: usize) -> u16 {
        self.lanes.get(queue).map_or(0, |lane| lane.free)
    }

    fn table(&self, queue: usize) -> u64 {
        self.lanes
            .get(queue)
            .map_or(0, |lane| lane.rings.descriptors)
    }

    /// Write linked descriptors into a table, from one on.
    fn describe(&mut self, table: u64, first: u16, pieces: &[Piece]) {
        for (index, piece) in (first..).zip(pieces) {
            let is_last = usize::from(index - first) + 1 == pieces.len();
            let flags = if is_last { 0 } else { NEXT } | if piece.is_writable { WRITE } else { 0 };
            let (at, len, next) = (piece.at, piece.len, index + 1);
            let mut raw = Raw {
                at,
                len,
                flags,
                next,
            };
            if self.errs(100) {
                raw = self.bend(raw, first, index);
            }
            self.write_descriptor(table, index, raw);
        }
    }

    fn describe_indirectly(&mut self, queue: usize, first: u16, pieces: &[Piece]) {
        let len = SLOT * pieces.len() as u64;
        if self.indirect + len > layout::INDIRECT.end {
            self.indirect = layout::INDIRECT.start;
        }
        let at = self.indirect;
        self.indirect += len;
        self.describe(at, 0, pieces);
        // A few entries at most. WRITE is legal there, and means nothing.
        let flags = INDIRECT | if self.rng.once_in(4) { WRITE } else { 0 };
        let mut raw = Raw {
            at,
            len: len as u32,
            flags,
            next: 0,
        };
        if self.errs(24) {
            raw = self.bend_indirect(raw, first);
        }
        self.write_descriptor(self.table(queue), first, raw);
    }

    fn write_descriptor(&mut self, table: u64, index: u16, raw: Raw) {
        let at = table + SLOT * u64::from(index);
        // Nothing first: no address is ever seen with another's length.
        self.word(at + 8, 0);
        self.word(at, raw.at);
        self.word(
            at + 8,
            u64::from(raw.len) | u64::from(raw.flags) << 32 | u64::from(raw.next) << 48,
        );
    }

    /// Put a head into the available ring, and move its index on.
    fn offer(&mut self, queue: usize, head: u16) {
        let head = if self.errs(100) {
            self.other_head(queue, head)
        } else {
            head
        };
        let ahead = if self.errs(150) {
            self.other_step(queue)
        } else {
            1
        };
        let is_interrupt_wished = self.rng.bool();
        let Some(lane) = self.lanes.get_mut(queue) else {
            return;
        };
        let Rings {
            size,
            available: ring,
            ..
        } = lane.rings;
        let index = lane.available;
        lane.available = index.wrapping_add(ahead);
        lane.is_waiting = true;
        let now = lane.available;
        self.half(ring + 4 + 2 * u64::from(index % size), head);
        if is_interrupt_wished {
            self.half(ring + 4 + 2 * u64::from(size), index);
        }
        self.half(ring + 2, now);
        self.ops.push(Op::Offered);
    }

    /// What a second thread stores: to descriptors, headers, rings and buffers that the plan uses,
    /// mostly what is stored there at another time, or a bit of it changed.
    fn scribbles(&mut self) -> Vec<Store> {
        let stores: Vec<Store> = self
            .ops
            .iter()
            .filter_map(|op| match op {
                Op::Store(store) => Some(store.clone()),
                _ => None,
            })
            .collect();
        if self.mood != Mood::Wild || stores.is_empty() {
            return Vec::new();
        }
        let count = self.rng.usize(..SCRIBBLES);
        (0..count).map(|_| self.scribble(&stores)).collect()
    }

    fn scribble(&mut self, stores: &[Store]) -> Store {
        let (to, from) = (
            self.rng.usize(..stores.len()),
            self.rng.usize(..stores.len()),
        );
        match (stores[to].clone(), &stores[from]) {
            // An address with another's length, and the other way round: what does not belong together.
            (Store::Word { at, .. }, Store::Word { at: other, value })
                if at % SLOT == other % SLOT =>
            {
                Store::Word { at, value: *value }
            }
            (Store::Word { at, value }, _) => {
                let bit = 1 << self.rng.u32(..64);
                Store::Word {
                    at,
                    value: value ^ bit,
                }
            }
            (Store::Half { at, value }, _) => {
                let step = self.rng.u16(..4);
                Store::Half {
                    at,
                    value: value.wrapping_add(step),
                }
            }
            (same, _) => same,
        }
    }

    /// Store eight bytes.
    pub fn word(&mut self, at: u64, value: u64) {
        self.ops.push(Op::Store(Store::Word { at, value }));
    }

    pub(super) fn half(&mut self, at: u64, value: u16) {
        self.ops.push(Op::Store(Store::Half { at, value }));
    }

    /// Store the bytes of a buffer.
    pub fn put(&mut self, at: u64, bytes: Vec<u8>) {
        self.ops.push(Op::Store(Store::Bytes { at, bytes }));
    }

    pub(super) fn register(&mut self, register: u32, value: u32) {
        self.ops.push(Op::Write {
            offset: register.into(),
            bytes: value.to_le_bytes().into(),
        });
    }

    /// Words that mean something to a device, in a place of their own; returns it.
    pub fn header(&mut self, words: &[u64]) -> u64 {
        let len = (8 * words.len() as u64).next_multiple_of(SLOT);
        if self.headers + len > HEADERS.end {
            self.headers = HEADERS.start;
        }
        let at = self.headers;
        self.headers += len;
        for (place, word) in (at..).step_by(8).zip(words) {
            self.word(place, *word);
        }
        at
    }

    /// Leave a slot free behind the last header, so that none runs on into the next.
    pub fn header_gap(&mut self) {
        self.headers += SLOT;
    }

    /// A place for a status, with a value in it that no device writes.
    pub fn status(&mut self) -> u64 {
        if self.statuses == STATUSES.end {
            self.statuses = STATUSES.start;
        }
        let at = self.statuses;
        self.statuses += SLOT;
        self.put(at, vec![0xee]);
        at
    }

    /// A place for a buffer: anywhere, also where two mappings meet, or up to where buffers end.
    pub fn buffer(&mut self, len: u32) -> u64 {
        let area = BUFFERS[self.rng.usize(..2)].clone();
        let room = area.end - area.start - u64::from(len);
        match self.rng.u32(..16) {
            0 => area.end - u64::from(len),
            1 if len > 1 => layout::SEAM - self.rng.u64(1..u64::from(len)),
            2..9 => area.start + self.rng.u64(..=room) / 512 * 512,
            _ => area.start + self.rng.u64(..=room),
        }
    }

    /// Bytes that no header is made of: each has its top bit set.
    pub fn pattern(&mut self, len: u32) -> Vec<u8> {
        let first = self.rng.u8(..);
        (0..len)
            .map(|index| 0x80 | first.wrapping_add(index as u8))
            .collect()
    }

    /// A buffer in up to `most` pieces of memory, which may be next to each other or not. With `fill`,
    /// a pattern is stored there.
    pub fn pieces(&mut self, request: &mut Request, len: u32, most: u32, is_writable: bool) {
        let count = 1 + self.rng.u32(..most);
        let mut left = len;
        for piece in 0..count {
            let is_last = piece + 1 == count;
            let part = match (is_last, self.rng.bool()) {
                (true, _) => left,
                (_, true) => self.rng.u32(..=left),
                (_, false) => left / 2 / 512 * 512,
            };
            left -= part;
            let at = self.buffer(part.max(1));
            if !is_writable {
                let bytes = self.pattern(part);
                self.put(at, bytes);
            }
            request.pieces.push(Piece {
                at,
                len: part,
                is_writable,
            });
        }
    }
}
