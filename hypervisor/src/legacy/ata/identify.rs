//! What IDENTIFY DEVICE says (ATA/ATAPI-6, 8.15, table 26).

use super::command::{HEADS, TRACK};
use super::{MULTIPLE, SECTOR, Sectors};

/// The most sectors that 28 bits of address reach.
const NARROW: u64 = (1 << 28) - 1;

/// The drive's description.
pub fn identify(sectors: &dyn Sectors, multiple: usize, is_cached: bool) -> [u8; SECTOR] {
    let count = sectors.count();
    let narrow = count.min(NARROW);
    let cylinders = (narrow / (HEADS * TRACK)).min(16383);
    let mut words = [0_u16; 256];
    let mut set = |word: usize, value: u64| {
        if let Some(to) = words.get_mut(word) {
            *to = value as u16;
        }
    };
    set(0, 1 << 6); // a fixed disk
    set(1, cylinders);
    set(3, HEADS);
    set(6, TRACK);
    set(47, 0x8000 | MULTIPLE as u64);
    set(49, 1 << 11 | 1 << 9); // IORDY, LBA
    set(50, 1 << 14);
    set(53, 1 << 1); // words 64 to 70 are valid
    if multiple > 0 {
        set(59, 1 << 8 | multiple as u64);
    }
    set(60, narrow);
    set(61, narrow >> 16);
    set(64, 3); // PIO modes 3 and 4
    for word in 65..=68 {
        set(word, 120); // nanoseconds a cycle
    }
    set(80, 0x7e); // ATA-1 to ATA/ATAPI-6
    set(82, 1 << 5 | 1 << 3); // write cache, power management
    set(83, 1 << 14 | 1 << 13 | 1 << 12 | 1 << 10); // FLUSH CACHE (EXT), 48-bit addresses
    set(84, 1 << 14);
    set(85, u64::from(is_cached) << 5 | 1 << 3);
    set(86, 1 << 13 | 1 << 12 | 1 << 10);
    set(87, 1 << 14);
    for (word, shift) in (100..104).zip([0, 16, 32, 48]) {
        set(word, count >> shift);
    }
    for (first, last, text) in [
        (10, 19, sectors.serial()),
        (23, 26, env!("CARGO_PKG_VERSION")),
        (27, 46, "Paravane ATA disk"),
    ] {
        // Printable ASCII alone, a word's first character in its high byte.
        let printable = text.chars().map(|one| match one {
            ' '..='~' => one as u8,
            _ => b'?',
        });
        let mut bytes = printable.chain(std::iter::repeat(b' '));
        for word in first..=last {
            let [a, b] = [bytes.next(), bytes.next()].map(|byte| u64::from(byte.unwrap_or(b' ')));
            set(word, a << 8 | b);
        }
    }
    let mut block = [0; SECTOR];
    for (to, word) in block.chunks_exact_mut(2).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    block
}
