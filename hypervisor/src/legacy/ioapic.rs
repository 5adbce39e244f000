//! The I/O APIC (Intel 82093AA, with the EOI register of later ones): 24 pins, each of which becomes a message
//! to a local APIC. KVM has the local APICs alone (a split interrupt controller), so this one is ours.
//!
//! Called by `lines`. It sends nothing itself: each change returns the messages that are due. Pins carry
//! interrupts alone: what asks for SMI, NMI, INIT or ExtINT sends nothing.

use std::ops::Range;

/// How many pins there are.
pub const PINS: usize = 24;
/// Guest-physical: where the registers are.
pub const REGISTERS: Range<u64> = 0xfec0_0000..0xfec0_1000;

/// Offsets of the three registers that are not behind the index.
const INDEX: u64 = 0x00;
const WINDOW: u64 = 0x10;
const END: u64 = 0x40;

/// Registers behind the index.
const ID: u8 = 0x00;
const VERSION: u8 = 0x01;
const ARBITRATION: u8 = 0x02;
const TABLE: Range<u8> = 0x10..0x10 + 2 * PINS as u8;

/// Bits of an entry (82093AA, 3.2.4).
const VECTOR: u64 = 0xff;
const DELIVERY_MODE: u64 = 7 << 8;
const LOGICAL: u64 = 1 << 11;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// What a driver may write: all but delivery status and remote IRR.
const WRITABLE: u64 = 0xff << 56 | 0x1_afff;
/// The delivery modes of interrupts: fixed, and lowest priority.
const INTERRUPTS: [u64; 2] = [0, 1 << 8];

/// A message to a local APIC (SDM vol. 3, 11.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its address: who.
    pub address: u32,
    /// Its data: vector, delivery mode, trigger.
    pub data: u32,
}

/// The I/O APIC.
#[derive(Debug)]
pub struct IoApic {
    index: u8,
    id: u32,
    entries: [u64; PINS],
    /// The lines of the pins.
    lines: [bool; PINS],
}

impl Default for IoApic {
    fn default() -> Self {
        Self {
            index: 0,
            id: 0,
            entries: [MASKED; PINS],
            lines: [false; PINS],
        }
    }
}

impl IoApic {
    /// Read a register at an offset from the first. Registers are of 32 bits; what is read otherwise is 0.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        into.fill(0);
        let value = match (offset, into.len()) {
            (INDEX, 4) => u32::from(self.index),
            (WINDOW, 4) => self.indexed(),
            _ => return,
        };
        for (to, byte) in into.iter_mut().zip(value.to_le_bytes()) {
            *to = byte;
        }
    }

    /// Write a register likewise; what is to be sent now.
    pub fn write(&mut self, offset: u64, from: &[u8]) -> Vec<Message> {
        let Ok(value) = from.try_into().map(u32::from_le_bytes) else {
            return Vec::new();
        };
        match offset {
            INDEX => self.index = value as u8,
            WINDOW => return self.write_indexed(value).into_iter().collect(),
            END => return self.end(value as u8),
            _ => {}
        }
        Vec::new()
    }

    /// Raise or lower a pin's line; what is to be sent now.
    pub fn set_line(&mut self, pin: usize, is_raised: bool) -> Option<Message> {
        let was_raised = std::mem::replace(self.lines.get_mut(pin)?, is_raised);
        let is_edge = self.entries.get(pin)? & LEVEL == 0;
        match is_edge {
            true if is_raised && !was_raised => self.send(pin),
            true => None,
            false => self.send_level(pin),
        }
    }

    /// A local APIC has ended an interrupt of this vector; what is to be sent now, for lines that are still
    /// raised.
    pub fn end(&mut self, vector: u8) -> Vec<Message> {
        let mut messages = Vec::new();
        for pin in 0..PINS {
            let Some(entry) = self.entries.get_mut(pin) else {
                continue;
            };
            if *entry & (REMOTE_IRR | LEVEL) == REMOTE_IRR | LEVEL
                && *entry & VECTOR == u64::from(vector)
            {
                *entry &= !REMOTE_IRR;
                messages.extend(self.send_level(pin));
            }
        }
        messages
    }

    /// What each level-triggered pin sends, masked or not: KVM has to know, to leave at their EOI.
    pub fn level_pins(&self) -> impl Iterator<Item = (usize, Message)> {
        let level = |(_, entry): &(usize, &u64)| **entry & LEVEL != 0 && is_interrupt(**entry);
        let entries = self.entries.iter().enumerate().filter(level);
        entries.map(|(pin, entry)| (pin, message(*entry)))
    }

    fn indexed(&self) -> u32 {
        match self.index {
            ID => self.id,
            // 24 entries, with an EOI register.
            VERSION => (PINS as u32 - 1) << 16 | 0x20,
            ARBITRATION => self.id,
            index => self.entry_of(index).map_or(0, |(pin, shift)| {
                let entry = self.entries.get(pin).copied().unwrap_or(MASKED);
                (entry >> shift) as u32
            }),
        }
    }

    /// The pin and the half that a register behind the index is.
    fn entry_of(&self, index: u8) -> Option<(usize, u32)> {
        let offset = TABLE.contains(&index).then(|| index - TABLE.start)?;
        Some((usize::from(offset / 2), u32::from(offset % 2) * 32))
    }

    fn write_indexed(&mut self, value: u32) -> Option<Message> {
        if self.index == ID {
            self.id = value & 0x0f00_0000;
            return None;
        }
        let (pin, shift) = self.entry_of(self.index)?;
        let entry = self.entries.get_mut(pin)?;
        let half = 0xffff_ffff << shift & WRITABLE;
        *entry = *entry & !half | u64::from(value) << shift & half;
        if *entry & LEVEL == 0 {
            // An edge is not remembered.
            *entry &= !REMOTE_IRR;
            return None;
        }
        self.send_level(pin)
    }

    fn send(&self, pin: usize) -> Option<Message> {
        let entry = *self.entries.get(pin)?;
        (entry & MASKED == 0 && is_interrupt(entry)).then(|| message(entry))
    }

    /// A level-triggered pin sends once, until its interrupt is ended.
    fn send_level(&mut self, pin: usize) -> Option<Message> {
        let (line, entry) = (*self.lines.get(pin)?, *self.entries.get(pin)?);
        if !line || entry & REMOTE_IRR != 0 {
            return None;
        }
        let message = self.send(pin)?;
        *self.entries.get_mut(pin)? |= REMOTE_IRR;
        Some(message)
    }
}

/// Vectors below 16 are illegal, and nothing is sent (SDM vol. 3, 11.5.3).
fn is_interrupt(entry: u64) -> bool {
    INTERRUPTS.contains(&(entry & DELIVERY_MODE)) && entry & VECTOR >= 16
}

fn message(entry: u64) -> Message {
    let destination = (entry >> 56) as u32;
    let logical = if entry & LOGICAL != 0 { 1 << 2 } else { 0 };
    // Vector and delivery mode are in the same places; a level-triggered message is one of assertion.
    let trigger = if entry & LEVEL != 0 { 3 << 14 } else { 0 };
    Message {
        address: 0xfee0_0000 | destination << 12 | logical,
        data: (entry & (VECTOR | DELIVERY_MODE)) as u32 | trigger,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(apic: &mut IoApic, index: u8, value: u32) -> Vec<Message> {
        assert!(
            apic.write(INDEX, &u32::from(index).to_le_bytes())
                .is_empty()
        );
        apic.write(WINDOW, &value.to_le_bytes())
    }

    fn get(apic: &mut IoApic, index: u8) -> u32 {
        let _ = apic.write(INDEX, &u32::from(index).to_le_bytes());
        let mut bytes = [0; 4];
        apic.read(WINDOW, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn a_driver_finds_24_masked_pins() {
        let mut apic = IoApic::default();
        assert_eq!(get(&mut apic, VERSION), 0x0017_0020);
        for pin in 0..PINS as u8 {
            assert_eq!(get(&mut apic, 0x10 + 2 * pin), MASKED as u32);
        }
        assert_eq!(get(&mut apic, 0x40), 0);
        assert_eq!(apic.set_line(3, true), None);
        assert_eq!(apic.set_line(PINS, true), None);
        assert_eq!(apic.level_pins().count(), 0);
    }

    #[test]
    fn an_edge_sends_once_each_time_it_rises() {
        let mut apic = IoApic::default();
        set(&mut apic, 0x10 + 2 * 14 + 1, 3 << 24);
        assert!(set(&mut apic, 0x10 + 2 * 14, 0x31).is_empty());
        let sent = Message {
            address: 0xfee0_3000,
            data: 0x31,
        };
        assert_eq!(apic.set_line(14, true), Some(sent));
        assert_eq!(apic.set_line(14, true), None);
        assert_eq!(apic.set_line(14, false), None);
        assert_eq!(apic.set_line(14, true), Some(sent));
        assert!(apic.end(0x31).is_empty());
    }

    #[test]
    fn a_level_sends_again_at_the_end_of_interrupt_while_it_is_raised() {
        let mut apic = IoApic::default();
        assert!(set(&mut apic, 0x10 + 2 * 9, LEVEL as u32 | MASKED as u32 | 0x40).is_empty());
        assert_eq!(apic.set_line(9, true), None, "it is masked");
        // Unmasked, what waits is sent.
        let sent = set(&mut apic, 0x10 + 2 * 9, LEVEL as u32 | 0x40);
        assert_eq!(
            sent[..],
            [Message {
                address: 0xfee0_0000,
                data: 0xc040
            }]
        );
        assert_eq!(
            get(&mut apic, 0x10 + 2 * 9) & REMOTE_IRR as u32,
            REMOTE_IRR as u32
        );
        assert_eq!(apic.set_line(9, true), None, "it is in service");
        assert!(apic.end(0x41).is_empty());
        assert_eq!(apic.write(END, &0x40_u32.to_le_bytes()), sent);
        assert_eq!(apic.set_line(9, false), None);
        assert!(apic.end(0x40).is_empty());
        assert_eq!(apic.level_pins().collect::<Vec<_>>(), [(9, sent[0])]);
    }

    #[test]
    fn illegal_vectors_and_odd_accesses_send_nothing() {
        let mut apic = IoApic::default();
        // A vector below 16, and an NMI.
        for (pin, entry) in [(0, 0x0f), (1, 0x430)] {
            set(&mut apic, 0x10 + 2 * pin, entry);
            assert_eq!(apic.set_line(pin.into(), true), None);
        }
        let mut bytes = [0xff; 8];
        for width in 0..=8 {
            apic.read(0x13, &mut bytes[..width]);
            assert!(apic.write(0x13, &bytes[..width]).is_empty());
        }
        // Remote IRR and delivery status are not the driver's.
        set(&mut apic, 0x12, u32::MAX);
        assert_eq!(get(&mut apic, 0x12), 0x1_afff);
    }
}
