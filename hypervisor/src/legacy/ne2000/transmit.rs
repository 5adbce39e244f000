//! Frames to the wire.

use super::memory::{BYTES, PAGE};
use super::{Ne2000, Sent, Wire, cause, command};

/// Bits of the transmit status register: it is done, and nobody else spoke meanwhile.
const TRANSMITTED: u8 = 1 << 0;
/// Bits of the transmit control register: frames go back to the chip instead of out.
const LOOPBACK: u8 = 3 << 1;

impl Ne2000 {
    pub(super) fn is_looped_back(&self) -> bool {
        self.transmit_control & LOOPBACK != 0
    }

    /// Send the frame that the registers name.
    pub(super) fn transmit(&mut self, wire: &mut Wire<'_>) {
        let start = u16::from(self.transmit_page).wrapping_mul(PAGE as u16);
        // Longer than the memory makes no sense, and the chip has no limit of its own.
        let count = self.transmit_count.min(BYTES as u16);
        let frame = (0..count).map(|offset| self.memory.read(start.wrapping_add(offset)));
        self.waiting = Some(frame.collect());
        self.go_on_sending(wire);
    }

    /// Whether a frame waits for room on the wire.
    pub fn is_sending(&self) -> bool {
        self.waiting.is_some()
    }

    /// The wire may have room now.
    pub fn go_on_sending(&mut self, wire: &mut Wire<'_>) {
        let Some(frame) = self.waiting.take() else {
            return;
        };
        if !self.is_looped_back() && !frame.is_empty() && wire(&frame) == Sent::Later {
            self.waiting = Some(frame);
            return;
        }
        self.command &= !command::TRANSMIT;
        self.transmit_status = TRANSMITTED;
        self.status |= cause::TRANSMITTED;
    }
}
