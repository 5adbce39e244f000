//! What a drive says of itself (IDENTIFY DEVICE; ATA/ATAPI-6, 8.15).

use driver_api::ID_BYTES;

use crate::wire::{NARROW_SECTORS, SECTOR_WORDS};

/// The most sectors that are moved between two interrupts: the driver's buffer.
pub const MULTIPLE_MOST: u8 = 16;

/// What is known of a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Sectors that it has.
    pub sectors: u64,
    /// Whether it has commands with addresses of 48 bits.
    pub is_wide: bool,
    /// Whether what was written may be lost without a flush.
    pub has_write_cache: bool,
    /// The most sectors a block of READ MULTIPLE; 0 when it has none of that.
    pub multiple: u8,
    /// Its serial number, with zeros behind it.
    pub serial: [u8; ID_BYTES],
    /// Its model, likewise.
    pub model: [u8; 40],
}

impl Identity {
    /// Read a description. `None` when it is none of a disk that can be used: one without LBA, without
    /// sectors, or with removable media.
    pub fn parse(words: &[u16; SECTOR_WORDS]) -> Option<Self> {
        let word = |at: usize| words.get(at).copied().unwrap_or(0);
        let has = |at, bit: u32| word(at) & 1 << bit != 0;
        // Words 82 and on mean something if bits 15 and 14 of word 83 say 01.
        let has_sets = word(83) >> 14 == 1;
        let is_wide = has_sets && has(86, 10);
        let narrow = u64::from(word(61)) << 16 | u64::from(word(60));
        let wide = (100..104)
            .rev()
            .fold(0, |all, at| all << 16 | u64::from(word(at)));
        let identity = Self {
            sectors: match is_wide {
                true => wide.min(1 << 48),
                false => narrow.min(NARROW_SECTORS),
            },
            is_wide,
            // Who does not say has one.
            has_write_cache: !has_sets || has(85, 5),
            multiple: multiple(word(47) as u8),
            serial: text(words, 10),
            model: text(words, 27),
        };
        let is_disk = !has(0, 15) && !has(0, 7) && has(49, 9);
        (is_disk && identity.sectors > 0).then_some(identity)
    }
}

/// A power of two that is not above what the drive or the driver can do.
fn multiple(most: u8) -> u8 {
    match most.min(MULTIPLE_MOST).checked_ilog2() {
        Some(log) => 1 << log,
        None => 0,
    }
}

/// Characters of words from one on: the first of a word is in its high byte. Spaces at the end become zeros.
fn text<const BYTES: usize>(words: &[u16], from: usize) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let words = words.iter().skip(from).flat_map(|word| word.to_be_bytes());
    for (to, byte) in bytes.iter_mut().zip(words) {
        *to = byte;
    }
    for byte in bytes.iter_mut().rev() {
        match *byte {
            b' ' | 0 => *byte = 0,
            _ => break,
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> [u16; SECTOR_WORDS] {
        let mut words = [0; SECTOR_WORDS];
        for (at, value) in [
            (0, 0x40),
            (47, 0x8080),
            (49, 1 << 9),
            (60, 0x5678),
            (61, 0x0234),
            (83, 1 << 14),
            (100, 1),
            (102, 2),
        ] {
            words[at] = value;
        }
        words
    }

    #[test]
    fn the_count_is_the_one_that_the_drive_can_reach() {
        let narrow = Identity::parse(&disk()).expect("a disk");
        assert_eq!((narrow.sectors, narrow.is_wide), (0x0234_5678, false));
        assert_eq!(narrow.multiple, 16);
        let mut words = disk();
        words[86] = 1 << 10;
        let wide = Identity::parse(&words).expect("a disk");
        assert_eq!((wide.sectors, wide.is_wide), (0x2_0000_0001, true));
        words[103] = 0xffff;
        assert_eq!(
            Identity::parse(&words).map(|found| found.sectors),
            Some(1 << 48)
        );
    }

    #[test]
    fn what_is_no_disk_is_none() {
        for (at, value) in [(0, 0x8000), (0, 0x80), (49, 0), (60, 0)] {
            let mut words = disk();
            words[at] = value;
            if at == 60 {
                words[61] = 0;
            }
            assert_eq!(Identity::parse(&words), None, "word {at}");
        }
        assert_eq!(
            Identity::parse(&[0xffff; SECTOR_WORDS]),
            None,
            "a bus that floats"
        );
    }

    #[test]
    fn the_write_cache_is_believed_in_until_it_is_denied() {
        let cached = |words: &_| Identity::parse(words).map(|found| found.has_write_cache);
        let mut words = disk();
        assert_eq!(cached(&words), Some(false));
        words[85] = 1 << 5;
        assert_eq!(cached(&words), Some(true));
        (words[83], words[85]) = (0, 0);
        assert_eq!(cached(&words), Some(true));
    }

    #[test]
    fn a_block_is_a_power_of_two_and_fits_the_buffer() {
        let found = [0, 1, 3, 8, 15, 16, 128].map(multiple);
        assert_eq!(found, [0, 1, 2, 8, 8, 16, 16]);
    }

    #[test]
    fn names_lose_their_spaces_at_the_end_alone() {
        let mut words = disk();
        (words[10], words[11]) = (u16::from_be_bytes(*b"my"), u16::from_be_bytes(*b" a"));
        words[12..20].fill(u16::from_be_bytes(*b"  "));
        let found = Identity::parse(&words).expect("a disk");
        assert_eq!(&found.serial[..5], b"my a\0");
        assert!(found.serial[4..].iter().all(|byte| *byte == 0));
    }
}
