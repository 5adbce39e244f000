//! What is where in the card's memory: frames that wait to be sent, and the ring of those that came.

use alloc::vec;
use alloc::vec::Vec;

use driver_api::{Lock, NetError, Ports};
use zerocopy::IntoBytes;

use crate::chip::{Chip, Stuck};
use crate::wire::{
    self, CHECK, HEADER, LONGEST, PAGE, RING_START, RING_STOP, SHORTEST, SLOTS, cause,
};

/// What there is of frames that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// None.
    Nothing,
    /// One, of so many bytes.
    Frame(usize),
    /// One that does not fit.
    Dropped,
    /// One that makes no sense.
    Damaged,
}

/// See the module.
pub struct State {
    /// The page of the next frame to take, and the one where the next frame will come.
    next: u8,
    current: u8,
    /// Which slot the card sends, and which one it sends then, with the frame's length.
    sending: Option<usize>,
    queued: Option<(usize, usize)>,
    /// The card hears nothing until a frame was taken.
    is_recovering: bool,
    /// Frames that the card had no room for, until somebody has counted them.
    missed: u64,
    words: Vec<u16>,
}

impl State {
    /// A card that was just started.
    pub fn new() -> Self {
        Self {
            next: RING_START + 1,
            current: RING_START + 1,
            sending: None,
            queued: None,
            is_recovering: false,
            missed: 0,
            words: vec![0; LONGEST.div_ceil(2)],
        }
    }

    /// Whether there are frames to take, as far as is known.
    pub fn has_frames(&self) -> bool {
        self.next != self.current
    }

    /// Send a frame, or have it sent behind the one that is being sent.
    pub fn send<P: Ports>(&mut self, chip: &Chip<P>, frame: &[u8]) -> Result<(), NetError> {
        self.reap(chip);
        let slot = match (self.sending, self.queued) {
            (None, _) => 0,
            (Some(slot), None) => 1 - slot,
            (Some(_), Some(_)) => return Err(NetError::Busy),
        };
        // The wire wants no shorter frame, and the port moves words.
        let len = frame.len().max(SHORTEST);
        let words = self.words.get_mut(..len.div_ceil(2));
        let words = words.ok_or(NetError::BadFrame)?;
        let (start, rest) = words
            .as_mut_bytes()
            .split_at_mut_checked(frame.len())
            .ok_or(NetError::BadFrame)?;
        start.copy_from_slice(frame);
        rest.fill(0);
        let page = SLOTS.get(slot).copied().unwrap_or(SLOTS[0]);
        let written = chip.write_memory(u16::from(page) << 8, words);
        written.map_err(|Stuck| NetError::Broken)?;
        match self.sending {
            None => self.start(chip, slot, len),
            Some(_) => self.queued = Some((slot, len)),
        }
        Ok(())
    }

    fn start<P: Ports>(&mut self, chip: &Chip<P>, slot: usize, len: usize) {
        if let Some(page) = SLOTS.get(slot) {
            chip.transmit(*page, len);
            self.sending = Some(slot);
        }
    }

    /// How many frames were missed since the last call.
    pub fn take_missed(&mut self) -> u64 {
        core::mem::take(&mut self.missed)
    }

    /// Whether a frame waits for the one before it.
    pub fn is_queued(&self) -> bool {
        self.queued.is_some()
    }

    /// Look whether the frame is sent, and go on with the next one.
    pub fn reap<P: Ports>(&mut self, chip: &Chip<P>) {
        if self.sending.is_none() || chip.causes() & cause::TRANSMITTED == 0 {
            return;
        }
        chip.acknowledge(cause::TRANSMITTED);
        self.send_next(chip);
    }

    fn send_next<P: Ports>(&mut self, chip: &Chip<P>) {
        self.sending = None;
        if let Some((slot, len)) = self.queued.take() {
            self.start(chip, slot, len);
        }
    }

    /// Take the next frame.
    pub fn take<P: Ports, T: Send>(
        &mut self,
        chip: &Chip<P>,
        alone: &impl Lock<T>,
        into: &mut [u8],
    ) -> Result<Taken, Stuck> {
        if self.is_queued() {
            self.reap(chip);
        }
        if !self.has_frames() && !self.look(chip, alone)? {
            return Ok(Taken::Nothing);
        }
        let at = u16::from(self.next) << 8;
        let mut header = [0; HEADER / 2];
        chip.read_memory(at, &mut header);
        let [status, next] = header[0].to_le_bytes();
        let taken = match self.check(status, next, header[1].into()) {
            None => {
                // The ring cannot be followed any more: leave all that is in it.
                self.next = self.current;
                Taken::Damaged
            }
            Some(len) => {
                self.next = next;
                self.copy(chip, at + HEADER as u16, len, into)
            }
        };
        chip.set_next(self.next);
        if self.is_recovering {
            self.is_recovering = false;
            chip.end_recovery();
        }
        Ok(taken)
    }

    /// Look whether frames came.
    fn look<P: Ports, T: Send>(
        &mut self,
        chip: &Chip<P>,
        alone: &impl Lock<T>,
    ) -> Result<bool, Stuck> {
        let news = chip.causes() & (cause::RECEIVED | cause::OVERWRITE);
        if news == 0 {
            return Ok(false);
        }
        // Before the look at the ring: a frame that comes behind it leaves its mark again.
        chip.acknowledge(news);
        if news & cause::OVERWRITE != 0 {
            chip.begin_recovery()?;
            self.is_recovering = true;
            self.missed += u64::from(chip.take_missed());
            if self.sending.is_some() {
                self.send_next(chip);
            }
        }
        let current = chip.current(alone);
        if !(RING_START..RING_STOP).contains(&current) {
            return Err(Stuck);
        }
        self.current = current;
        if self.is_recovering && !self.has_frames() {
            self.is_recovering = false;
            chip.end_recovery();
        }
        Ok(self.has_frames())
    }

    /// The length of a frame, if its header makes sense.
    fn check(&self, status: u8, next: u8, len_with_check: usize) -> Option<usize> {
        let len = len_with_check.checked_sub(CHECK)?;
        let pages = (HEADER + len_with_check).div_ceil(PAGE);
        let size = usize::from(RING_STOP - RING_START);
        let behind = usize::from(self.next - RING_START) + pages;
        let is_sound = usize::from(next) == usize::from(RING_START) + behind % size
            && (SHORTEST..=LONGEST).contains(&len)
            && status & wire::INTACT != 0;
        is_sound.then_some(len)
    }

    /// Copy a frame out. Where the ring ends, the port goes on at its start.
    fn copy<P: Ports>(&mut self, chip: &Chip<P>, at: u16, len: usize, into: &mut [u8]) -> Taken {
        let (Some(words), Some(into)) =
            (self.words.get_mut(..len.div_ceil(2)), into.get_mut(..len))
        else {
            return Taken::Dropped;
        };
        chip.read_memory(at, words);
        let bytes = words.as_bytes();
        into.copy_from_slice(bytes.get(..len).unwrap_or_default());
        Taken::Frame(len)
    }
}
