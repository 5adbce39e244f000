//! The card's memory, and the port through which the processor reaches it: the chip's remote DMA.

use super::{Ne2000, cause, command};

/// The card's memory begins here, in its own addresses; what is below is the PROM.
pub const START: u16 = 0x4000;
/// Bytes of it.
pub const BYTES: usize = 0x4000;
/// Bytes of a page.
pub const PAGE: usize = 256;
/// The first page that is memory, and one past the last.
pub const FIRST_PAGE: u8 = (START as usize / PAGE) as u8;
pub const END_PAGE: u8 = ((START as usize + BYTES) / PAGE) as u8;

/// What the PROM has behind the address: a mark by which drivers know a card with 16 data lines.
const MARK: u8 = 0x57;

/// The memory and the PROM.
pub struct Memory {
    bytes: Box<[u8]>,
    prom: [u8; 32],
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory")
            .field("prom", &self.prom)
            .finish_non_exhaustive()
    }
}

impl Memory {
    /// Memory that is empty, and a PROM with an address. The PROM has 8 data lines of 16, so each byte is
    /// there twice.
    pub fn new(mac: [u8; 6]) -> Self {
        let mut prom = [0; 32];
        for (at, pair) in prom.chunks_exact_mut(2).enumerate() {
            pair.fill(match (mac.get(at), at) {
                (Some(byte), _) => *byte,
                (None, 14..) => MARK,
                _ => 0,
            });
        }
        let bytes = vec![0; BYTES].into_boxed_slice();
        Self { bytes, prom }
    }

    /// A byte; where no memory is, the bus floats.
    pub fn read(&self, at: u16) -> u8 {
        let found = match at.checked_sub(START) {
            Some(offset) => self.bytes.get(usize::from(offset)),
            None => self.prom.get(usize::from(at)),
        };
        found.copied().unwrap_or(0xff)
    }

    /// Write a byte; what is no memory stays.
    pub fn write(&mut self, at: u16, value: u8) {
        let offset = at.checked_sub(START).map(usize::from);
        if let Some(byte) = offset.and_then(|offset| self.bytes.get_mut(offset)) {
            *byte = value;
        }
    }
}

impl Ne2000 {
    /// The port is asked to read or write. Of nothing, it is done at once.
    pub(super) fn begin_remote(&mut self) {
        self.remote_next = None;
        if self.remote_count == 0 {
            self.end_remote();
        }
    }

    /// The port is asked for the packet at the ring's boundary: the header says how long it is.
    pub(super) fn send_packet(&mut self) {
        let at = u16::from(self.ring.boundary) << 8;
        let byte = |offset: u16| self.memory.read(at.wrapping_add(offset));
        let (next, count) = (byte(1), u16::from_le_bytes([byte(2), byte(3)]));
        self.set_remote_start(at);
        self.remote_count = count;
        self.remote_next = Some(next);
        self.command = self.command & !command::REMOTE | command::REMOTE_READ;
        if count == 0 {
            self.end_remote();
        }
    }

    pub(super) fn remote_read(&mut self) -> u8 {
        if self.command & command::REMOTE != command::REMOTE_READ {
            return 0xff;
        }
        let value = self.memory.read(self.remote_at);
        self.step_remote();
        value
    }

    pub(super) fn remote_write(&mut self, value: u8) {
        if self.command & command::REMOTE == command::REMOTE_WRITE {
            self.memory.write(self.remote_at, value);
            self.step_remote();
        }
    }

    /// At the ring's end the port goes on at its start, whichever way it goes.
    fn step_remote(&mut self) {
        self.remote_at = self.remote_at.wrapping_add(1);
        if self.remote_at == u16::from(self.ring.stop) << 8 {
            self.remote_at = u16::from(self.ring.start) << 8;
        }
        self.remote_count = self.remote_count.saturating_sub(1);
        if self.remote_count == 0 {
            self.end_remote();
        }
    }

    fn end_remote(&mut self) {
        self.command = self.command & !command::REMOTE | command::REMOTE_DONE;
        self.status |= cause::REMOTE_DONE;
        if let Some(next) = self.remote_next.take() {
            self.ring.boundary = next;
        }
    }
}
