//! Frames from the wire: which the card takes, and the ring of pages that they go to.

use super::memory::{END_PAGE, FIRST_PAGE, Memory, PAGE};
use super::{Ne2000, cause};

/// Bytes before each frame in the ring: status, the page of the next, and the length with the check sequence.
const HEADER: usize = 4;
/// Bytes behind each: the check sequence.
const CHECK: usize = 4;
/// The shortest frame on a wire, without its check sequence; and the longest, with a tag (IEEE 802.3, 3.2.7).
pub const SHORTEST: usize = 60;
pub const LONGEST: usize = 1518;

/// Bits of the receive control register.
mod control {
    pub const BROADCAST: u8 = 1 << 2;
    pub const MULTICAST: u8 = 1 << 3;
    pub const ALL: u8 = 1 << 4;
    pub const MONITOR: u8 = 1 << 5;
}

/// Bits of the receive status register, and of the ring's headers.
mod status {
    pub const INTACT: u8 = 1 << 0;
    pub const MISSED: u8 = 1 << 4;
    pub const GROUP: u8 = 1 << 5;
    pub const DISABLED: u8 = 1 << 6;
}

/// The ring, by its pages.
#[derive(Debug, Default)]
pub struct Ring {
    /// The first page.
    pub start: u8,
    /// One past the last.
    pub stop: u8,
    /// The page that the driver has not read yet: the chip does not go past it.
    pub boundary: u8,
    /// The page of the next frame.
    pub current: u8,
}

impl Ring {
    /// Whether all of it is the card's memory, and its pointers are in it.
    fn is_sound(&self) -> bool {
        let pages = self.start..self.stop;
        self.start >= FIRST_PAGE
            && self.stop <= END_PAGE
            && pages.contains(&self.boundary)
            && pages.contains(&self.current)
    }

    /// Pages that may be written. The boundary is not reached, so that full and empty differ; where it is
    /// the current page, all is read.
    fn room(&self) -> usize {
        if !self.is_sound() {
            return 0;
        }
        let (size, current) = (self.stop - self.start, self.current);
        let used = match current >= self.boundary {
            true => current - self.boundary,
            false => size - (self.boundary - current),
        };
        usize::from(size - used).saturating_sub(1)
    }

    /// The page so many behind the current one; fewer than there are.
    fn page_behind(&self, pages: usize) -> u8 {
        let at = usize::from(self.current) + pages;
        let stop = usize::from(self.stop);
        let at = if at >= stop {
            at - stop + usize::from(self.start)
        } else {
            at
        };
        at as u8
    }

    /// Write bytes from the current page on.
    fn put(&self, memory: &mut Memory, bytes: impl Iterator<Item = u8>) {
        let mut at = u16::from(self.current) << 8;
        for byte in bytes {
            memory.write(at, byte);
            at = at.wrapping_add(1);
            if at == u16::from(self.stop) << 8 {
                at = u16::from(self.start) << 8;
            }
        }
    }
}

impl Ne2000 {
    /// A frame comes from the wire, from its Ethernet header on, without a check sequence.
    pub fn receive(&mut self, frame: &[u8]) {
        let is_heard = self.is_running() && !self.is_looped_back();
        if !is_heard || frame.len() > LONGEST || !self.is_for_us(frame) {
            return;
        }
        if self.receive_control & control::MONITOR != 0 {
            self.receive_status = status::DISABLED;
            return self.count(2);
        }
        // Whoever put it on a wire would have made it this long.
        let len = frame.len().max(SHORTEST);
        let pages = (HEADER + len + CHECK).div_ceil(PAGE);
        if pages > self.ring.room() {
            // The chip stops here, and starts again as soon as the driver has made room.
            self.status |= cause::OVERWRITE | cause::RESET;
            self.receive_status = status::MISSED;
            return self.count(2);
        }
        let is_group = frame.first().is_some_and(|byte| byte & 1 != 0);
        self.receive_status = status::INTACT | if is_group { status::GROUP } else { 0 };
        let next = self.ring.page_behind(pages);
        let [low, high] = ((len + CHECK) as u16).to_le_bytes();
        let header = [self.receive_status, next, low, high];
        let padded = || frame.iter().copied().chain(std::iter::repeat(0)).take(len);
        let check = (!crc(padded())).to_le_bytes();
        let all = header.into_iter().chain(padded()).chain(check);
        self.ring.put(&mut self.memory, all);
        self.ring.current = next;
        self.status |= cause::RECEIVED;
    }

    /// Whether the chip would take a frame to this address.
    fn is_for_us(&self, frame: &[u8]) -> bool {
        let Some(to) = frame.first_chunk::<6>() else {
            return false;
        };
        let accepts = |bit| self.receive_control & bit != 0;
        if accepts(control::ALL) || *to == self.address {
            return true;
        }
        match to {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => accepts(control::BROADCAST),
            [first, ..] if first & 1 != 0 => accepts(control::MULTICAST) && self.passes_filter(to),
            _ => false,
        }
    }

    /// The filter has a bit for each value of six bits of the address's check sequence, as they leave the
    /// shift register: the highest first.
    fn passes_filter(&self, to: &[u8; 6]) -> bool {
        let bit = crc(to.iter().copied()).reverse_bits() >> 26;
        let byte = self.multicast.get(bit as usize / 8).copied().unwrap_or(0);
        byte >> (bit % 8) & 1 != 0
    }
}

/// The check sequence of Ethernet before its last inversion (IEEE 802.3, 3.2.9), bit by bit.
pub fn crc(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
