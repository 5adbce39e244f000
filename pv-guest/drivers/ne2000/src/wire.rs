//! Numbers of the NE2000 and of its chip, the DP8390 (National Semiconductor, 1995).

/// How many ports a card has.
pub const PORTS: u16 = 0x20;

/// Offsets of ports.
pub mod port {
    pub const COMMAND: u16 = 0x00;
    pub const RING_START: u16 = 0x01;
    pub const RING_STOP: u16 = 0x02;
    pub const BOUNDARY: u16 = 0x03;
    pub const TRANSMIT_PAGE: u16 = 0x04;
    pub const TRANSMIT_COUNT: u16 = 0x05;
    pub const STATUS: u16 = 0x07;
    pub const REMOTE_START: u16 = 0x08;
    pub const REMOTE_COUNT: u16 = 0x0a;
    pub const RECEIVE_CONTROL: u16 = 0x0c;
    pub const TRANSMIT_CONTROL: u16 = 0x0d;
    pub const DATA_CONTROL: u16 = 0x0e;
    /// Written: which causes interrupt.
    pub const MASK: u16 = 0x0f;
    /// Read: how many frames were missed since the last time.
    pub const MISSED: u16 = 0x0f;
    /// The port to the card's memory.
    pub const DATA: u16 = 0x10;
    /// Reading it resets the card.
    pub const RESET: u16 = 0x1f;
}

/// Offsets of ports while page 1 is chosen.
pub mod page_1 {
    pub const ADDRESS: u16 = 0x01;
    pub const CURRENT: u16 = 0x07;
    pub const MULTICAST: u16 = 0x08;
}

/// Values of the command register.
pub mod command {
    pub const STOP: u8 = 0x21;
    pub const STOP_PAGE_1: u8 = 0x61;
    pub const START: u8 = 0x22;
    pub const START_PAGE_1: u8 = 0x62;
    pub const READ: u8 = 0x0a;
    pub const WRITE: u8 = 0x12;
    pub const TRANSMIT: u8 = 0x26;
}

/// Bits of the interrupt status register, and of its mask.
pub mod cause {
    pub const RECEIVED: u8 = 1 << 0;
    pub const TRANSMITTED: u8 = 1 << 1;
    pub const OVERWRITE: u8 = 1 << 4;
    pub const REMOTE_DONE: u8 = 1 << 6;
    /// The chip is stopped; no cause of an interrupt.
    pub const RESET: u8 = 1 << 7;
}

/// Words of 16 bits, FIFO of 8 bytes, no loopback by this register.
pub const WORDS: u8 = 0x49;
/// Receive: what is for everybody, and what passes the multicast filter.
pub const HEAR: u8 = 0x0c;
/// Receive: nothing, only count.
pub const MONITOR: u8 = 0x20;
/// Transmit: back into the chip, while the ring is worked on.
pub const LOOPBACK: u8 = 0x02;

/// A header's status: the frame came whole.
pub const INTACT: u8 = 1 << 0;

/// Bytes of a page.
pub const PAGE: usize = 256;
/// The first page of memory is 0x40, of 64. Two frames to send come first, of six pages each; the ring has
/// the rest.
pub const SLOTS: [u8; 2] = [0x40, 0x46];
pub const RING_START: u8 = 0x4c;
pub const RING_STOP: u8 = 0x80;

/// Bytes before each frame in the ring, and behind.
pub const HEADER: usize = 4;
pub const CHECK: usize = 4;
/// The shortest frame without its check sequence, and the longest, with a tag (IEEE 802.3, 3.2.7).
pub const SHORTEST: usize = 60;
pub const LONGEST: usize = 1518;
/// The largest packet in a frame.
pub const MTU: u16 = 1500;
