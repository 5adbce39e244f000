//! The chip's registers, and the way to the card's memory.

use driver_api::{Lock, Ports};

use crate::wire::{self, cause, command, page_1, port};

/// How often a status is looked at before the card counts as stuck: each look costs an exit.
const LOOKS: u32 = 10_000;

/// The card did not do what it should in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck;

/// The registers.
pub struct Chip<P>(P);

impl<P: Ports> Chip<P> {
    pub fn new(ports: P) -> Self {
        Self(ports)
    }

    /// Stop the card, and have it move words, hear nothing, and interrupt nobody.
    pub fn reset(&self) -> Result<(), Stuck> {
        let value = self.0.read(port::RESET);
        self.0.write(port::RESET, value);
        self.wait_for(cause::RESET)?;
        for (port, value) in [
            (port::COMMAND, command::STOP),
            (port::DATA_CONTROL, wire::WORDS),
            (port::RECEIVE_CONTROL, wire::MONITOR),
            (port::TRANSMIT_CONTROL, wire::LOOPBACK),
            (port::MASK, 0),
            (port::STATUS, 0xff),
        ] {
            self.0.write(port, value);
        }
        Ok(())
    }

    /// The address in the PROM; `None` when this is no card of the kind.
    pub fn address(&self) -> Option<[u8; 6]> {
        let mut prom = [0; 16];
        self.read_memory(0, &mut prom);
        // Each byte is there twice, and the last two are a mark.
        let bytes = prom.map(|word| word.to_le_bytes());
        let is_doubled = bytes.iter().take(6).all(|[low, high]| low == high);
        let address: [u8; 6] = core::array::from_fn(|at| bytes[at][0]);
        // IEEE 802.3, 3.2.3: the first bit says that an address is a group's.
        let is_own = address[0] & 1 == 0 && address != [0; 6];
        (is_doubled && is_own && prom[14..] == [0x5757; 2]).then_some(address)
    }

    /// Set the ring up, with its first page read, and hear what is for this address, for all, and for groups.
    pub fn start(&self, address: [u8; 6]) {
        for (port, value) in [
            (port::COMMAND, command::STOP),
            (port::RING_START, wire::RING_START),
            (port::RING_STOP, wire::RING_STOP),
            (port::BOUNDARY, wire::RING_START),
            (port::STATUS, 0xff),
            (port::COMMAND, command::STOP_PAGE_1),
            (page_1::CURRENT, wire::RING_START + 1),
        ] {
            self.0.write(port, value);
        }
        for (at, byte) in (page_1::ADDRESS..).zip(address) {
            self.0.write(at, byte);
        }
        for at in 0..8 {
            self.0.write(page_1::MULTICAST + at, 0xff);
        }
        self.0.write(port::COMMAND, command::START);
        self.0.write(port::TRANSMIT_CONTROL, 0);
        self.0.write(port::RECEIVE_CONTROL, wire::HEAR);
    }

    /// Stop the card.
    pub fn stop(&self) {
        self.0.write(port::COMMAND, command::STOP);
        self.0.write(port::MASK, 0);
    }

    /// What has happened.
    pub fn causes(&self) -> u8 {
        self.0.read(port::STATUS)
    }

    /// Let causes be over.
    pub fn acknowledge(&self, causes: u8) {
        self.0.write(port::STATUS, causes);
    }

    /// Let these causes interrupt, and no others.
    pub fn set_mask(&self, causes: u8) {
        self.0.write(port::MASK, causes);
    }

    /// How many frames were missed since the last call.
    pub fn take_missed(&self) -> u8 {
        self.0.read(port::MISSED)
    }

    /// The page of the next frame that will come. Page 1 is chosen meanwhile: `alone` has to keep off who
    /// else uses registers, the top half.
    pub fn current<T: Send>(&self, alone: &impl Lock<T>) -> u8 {
        alone.with(|_| {
            self.0.write(port::COMMAND, command::START_PAGE_1);
            let current = self.0.read(page_1::CURRENT);
            self.0.write(port::COMMAND, command::START);
            current
        })
    }

    /// Say that all pages before this one are read.
    pub fn set_next(&self, page: u8) {
        let last = if page == wire::RING_START {
            wire::RING_STOP
        } else {
            page
        } - 1;
        self.0.write(port::BOUNDARY, last);
    }

    /// Read from the card's memory.
    pub fn read_memory(&self, at: u16, into: &mut [u16]) {
        self.begin(at, into.len(), command::READ);
        self.0.read_words(port::DATA, into);
    }

    /// Write to it, and wait until it has all.
    pub fn write_memory(&self, at: u16, from: &[u16]) -> Result<(), Stuck> {
        self.acknowledge(cause::REMOTE_DONE);
        self.begin(at, from.len(), command::WRITE);
        self.0.write_words(port::DATA, from);
        self.wait_for(cause::REMOTE_DONE)
    }

    fn begin(&self, at: u16, words: usize, how: u8) {
        let [low, high] = at.to_le_bytes();
        let [few, many] = ((words * 2) as u16).to_le_bytes();
        self.0.write(port::REMOTE_START, low);
        self.0.write(port::REMOTE_START + 1, high);
        self.0.write(port::REMOTE_COUNT, few);
        self.0.write(port::REMOTE_COUNT + 1, many);
        self.0.write(port::COMMAND, how);
    }

    /// Send what is in the memory from a page on.
    pub fn transmit(&self, page: u8, len: usize) {
        let [low, high] = (len as u16).to_le_bytes();
        self.0.write(port::TRANSMIT_PAGE, page);
        self.0.write(port::TRANSMIT_COUNT, low);
        self.0.write(port::TRANSMIT_COUNT + 1, high);
        self.0.write(port::COMMAND, command::TRANSMIT);
    }

    /// After the ring was full: stop the card, and start it so that it hears nothing yet. What was being
    /// sent is lost (DP8390, "Overwrite warning").
    pub fn begin_recovery(&self) -> Result<(), Stuck> {
        self.0.write(port::COMMAND, command::STOP);
        self.wait_for(cause::RESET)?;
        self.0.write(port::REMOTE_COUNT, 0);
        self.0.write(port::REMOTE_COUNT + 1, 0);
        self.0.write(port::TRANSMIT_CONTROL, wire::LOOPBACK);
        self.0.write(port::COMMAND, command::START);
        Ok(())
    }

    /// There is room in the ring again.
    pub fn end_recovery(&self) {
        self.0.write(port::TRANSMIT_CONTROL, 0);
    }

    fn wait_for(&self, wanted: u8) -> Result<(), Stuck> {
        let mut looks = (0..LOOKS).map(|_| self.causes());
        match looks.any(|now| now & wanted != 0) {
            true => Ok(()),
            false => Err(Stuck),
        }
    }
}
