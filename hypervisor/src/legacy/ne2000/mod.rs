//! An NE2000, the network card that every PC once had: a DP8390 (National Semiconductor, 1995), 16 KiB of
//! memory of its own, and a port through which the processor moves every byte of it. Each access is an exit:
//! what virtio is measured against.
//!
//! In walking order: this file has the registers, `memory` the card's memory and the port to it, `receive`
//! frames from the wire and the ring that they go to, `transmit` the way out; `card` gives it a wire, and a
//! thread for what comes from there. The model never knows its port or its pin, and raises no interrupt
//! itself: [`Ne2000::interrupt`] is the line.
//!
//! A frame is sent within the access that asks for it, unless the wire has no room: then the transmitter is
//! busy, as a real one always is for a while. There are no collisions, and nothing arrives damaged.

mod card;
mod memory;
mod receive;
#[cfg(test)]
mod tests;
mod transmit;

pub use card::Card;
use memory::Memory;
use receive::Ring;

/// How many ports a card has.
pub const PORTS: u16 = 0x20;

/// Offsets of what is behind the chip's sixteen registers: the card's memory, and the reset.
const DATA: u16 = 0x10;
const RESET: u16 = 0x18;

/// Bits of the command register.
mod command {
    pub const STOP: u8 = 1 << 0;
    pub const START: u8 = 1 << 1;
    pub const TRANSMIT: u8 = 1 << 2;
    /// What the port to the card's memory does.
    pub const REMOTE: u8 = 7 << 3;
    pub const REMOTE_READ: u8 = 1 << 3;
    pub const REMOTE_WRITE: u8 = 2 << 3;
    pub const SEND_PACKET: u8 = 3 << 3;
    pub const REMOTE_DONE: u8 = 4 << 3;
    /// Which registers are at the offsets 1 to 15.
    pub const PAGE: u8 = 3 << 6;
}

/// Bits of the interrupt status register, and of the mask.
mod cause {
    pub const RECEIVED: u8 = 1 << 0;
    pub const TRANSMITTED: u8 = 1 << 1;
    pub const OVERWRITE: u8 = 1 << 4;
    pub const COUNTER: u8 = 1 << 5;
    pub const REMOTE_DONE: u8 = 1 << 6;
    /// No cause of an interrupt: the chip is stopped, or its ring is full.
    pub const RESET: u8 = 1 << 7;
}

/// What a wire did with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It took it, or lost it.
    Gone,
    /// It has no room now.
    Later,
}

/// Where frames go: each from its Ethernet header on, without a check sequence.
pub type Wire<'a> = dyn FnMut(&[u8]) -> Sent + 'a;

/// The card.
#[derive(Debug)]
pub struct Ne2000 {
    memory: Memory,
    ring: Ring,
    command: u8,
    status: u8,
    mask: u8,
    /// Where the port to the card's memory is, and for how many bytes.
    remote_at: u16,
    remote_count: u16,
    remote_start: u16,
    /// What the ring's boundary becomes once the port has sent a packet.
    remote_next: Option<u8>,
    transmit_page: u8,
    transmit_count: u16,
    transmit_status: u8,
    /// A frame that the wire has no room for.
    waiting: Option<Vec<u8>>,
    receive_control: u8,
    transmit_control: u8,
    data_control: u8,
    receive_status: u8,
    /// The card's address as the chip compares it, and the multicast filter.
    address: [u8; 6],
    multicast: [u8; 8],
    /// Frames that were damaged, and frames that were missed.
    tally: [u8; 3],
}

impl Ne2000 {
    /// A card with this address in its PROM, just switched on.
    pub fn new(mac: [u8; 6]) -> Self {
        Self {
            memory: Memory::new(mac),
            ring: Ring::default(),
            command: command::STOP | command::REMOTE_DONE,
            status: cause::RESET,
            mask: 0,
            remote_at: 0,
            remote_count: 0,
            remote_start: 0,
            remote_next: None,
            transmit_page: 0,
            transmit_count: 0,
            transmit_status: 0,
            waiting: None,
            receive_control: 0,
            transmit_control: 0,
            data_control: 0,
            receive_status: 0,
            address: [0; 6],
            multicast: [0; 8],
            tally: [0; 3],
        }
    }

    /// Whether the interrupt line is raised.
    pub fn interrupt(&self) -> bool {
        self.status & self.mask & !cause::RESET != 0
    }

    /// Read a port; the card's memory by bytes or by words.
    pub fn read(&mut self, offset: u16, into: &mut [u8]) {
        match offset {
            DATA..RESET => into.fill_with(|| self.remote_read()),
            RESET.. => {
                self.reset();
                into.fill(0xff);
            }
            _ => into.fill(self.register(offset)),
        }
    }

    /// Write a port likewise.
    pub fn write(&mut self, offset: u16, from: &[u8], wire: &mut Wire<'_>) {
        match (offset, from) {
            (DATA..RESET, bytes) => bytes.iter().for_each(|byte| self.remote_write(*byte)),
            (RESET.., _) => self.reset(),
            (0, [value, ..]) => self.set_command(*value, wire),
            (_, [value, ..]) => self.set_register(offset, *value),
            (_, []) => {}
        }
    }

    fn is_running(&self) -> bool {
        self.command & (command::START | command::STOP) == command::START
    }

    /// As the reset port does: what is under way ends, and addresses stay.
    fn reset(&mut self) {
        self.command = command::STOP | command::REMOTE_DONE;
        self.status = cause::RESET;
        self.mask = 0;
        self.remote_count = 0;
        self.remote_next = None;
        self.waiting = None;
    }

    /// A register of the pages 0 to 2, read.
    fn register(&mut self, offset: u16) -> u8 {
        let at = usize::from(offset);
        match (self.command & command::PAGE, offset) {
            (_, 0) => self.command,
            (0x00, 0x01) => 0, // where the chip's own accesses to the memory are: done
            (0x00, 0x02) => self.ring.current,
            (0x00, 0x03) => self.ring.boundary,
            (0x00, 0x04) => self.transmit_status,
            (0x00, 0x05) => 0, // collisions
            (0x00, 0x07) => self.status,
            (0x00, 0x08) => self.remote_at.to_le_bytes()[0],
            (0x00, 0x09) => self.remote_at.to_le_bytes()[1],
            (0x00, 0x0c) => self.receive_status,
            // A counter is empty once it was read.
            (0x00, 0x0d..=0x0f) => self.tally.get_mut(at - 0x0d).map_or(0, std::mem::take),
            (0x40, 0x01..=0x06) => self.address.get(at - 1).copied().unwrap_or(0),
            (0x40, 0x07) => self.ring.current,
            (0x40, 0x08..) => self.multicast.get(at - 8).copied().unwrap_or(0),
            (0x80, 0x01) => self.ring.start,
            (0x80, 0x02) => self.ring.stop,
            (0x80, 0x04) => self.transmit_page,
            (0x80, 0x0c) => self.receive_control | 0xc0,
            (0x80, 0x0d) => self.transmit_control | 0xe0,
            (0x80, 0x0e) => self.data_control | 0x80,
            (0x80, 0x0f) => self.mask | 0x80,
            _ => 0xff,
        }
    }

    /// A register of the pages 0 and 1, written; page 2 is for looking alone.
    fn set_register(&mut self, offset: u16, value: u8) {
        let at = usize::from(offset);
        let low = |word: u16| word & 0xff00 | u16::from(value);
        let high = |word: u16| word & 0x00ff | u16::from(value) << 8;
        match (self.command & command::PAGE, offset) {
            (0x00, 0x01) => self.ring.start = value,
            (0x00, 0x02) => self.ring.stop = value,
            (0x00, 0x03) => {
                self.ring.boundary = value;
                if self.is_running() {
                    self.status &= !cause::RESET;
                }
            }
            (0x00, 0x04) => self.transmit_page = value,
            (0x00, 0x05) => self.transmit_count = low(self.transmit_count),
            (0x00, 0x06) => self.transmit_count = high(self.transmit_count),
            (0x00, 0x07) => self.status &= !value | cause::RESET,
            (0x00, 0x08) => self.set_remote_start(low(self.remote_start)),
            (0x00, 0x09) => self.set_remote_start(high(self.remote_start)),
            (0x00, 0x0a) => self.remote_count = low(self.remote_count),
            (0x00, 0x0b) => self.remote_count = high(self.remote_count),
            (0x00, 0x0c) => self.receive_control = value & 0x3f,
            (0x00, 0x0d) => self.transmit_control = value & 0x1f,
            (0x00, 0x0e) => self.data_control = value & 0x7f,
            (0x00, 0x0f) => self.mask = value & 0x7f,
            (0x40, 0x01..=0x06) => {
                if let Some(byte) = self.address.get_mut(at - 1) {
                    *byte = value;
                }
            }
            (0x40, 0x07) => self.ring.current = value,
            (0x40, 0x08..) => {
                if let Some(byte) = self.multicast.get_mut(at - 8) {
                    *byte = value;
                }
            }
            _ => {}
        }
    }

    fn set_remote_start(&mut self, at: u16) {
        (self.remote_start, self.remote_at) = (at, at);
    }

    fn set_command(&mut self, value: u8, wire: &mut Wire<'_>) {
        let busy = self.command & command::TRANSMIT;
        // TXP is cleared by the chip alone.
        self.command = value | busy;
        if value & command::STOP != 0 {
            self.status |= cause::RESET;
            self.waiting = None;
            self.command &= !command::TRANSMIT;
        } else if value & command::START != 0 {
            self.status &= !cause::RESET;
        }
        match value & command::REMOTE {
            0 => {}
            command::REMOTE_READ | command::REMOTE_WRITE => self.begin_remote(),
            command::SEND_PACKET => self.send_packet(),
            _ => self.remote_next = None,
        }
        if self.command & value & command::TRANSMIT != 0 && busy == 0 {
            match self.is_running() {
                true => self.transmit(wire),
                false => self.command &= !command::TRANSMIT,
            }
        }
    }

    /// A counter goes to 192 and stays; from half of its range on it asks to be read.
    fn count(&mut self, which: usize) {
        if let Some(counter) = self.tally.get_mut(which) {
            *counter = (*counter + 1).min(192);
            if *counter & 0x80 != 0 {
                self.status |= cause::COUNTER;
            }
        }
    }
}
