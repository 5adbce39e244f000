//! Bits of an entry, and arithmetic on levels (SDM vol. 3, 4.5). Level 4 is the root's, and level 1
//! maps small pages.

/// The entry leads somewhere. In one that does not, no other bit means anything.
pub const PRESENT: u64 = 1;
/// Stores are allowed.
pub const WRITE: u64 = 1 << 1;
/// CPL 3 is allowed.
pub const USER: u64 = 1 << 2;
/// The cache writes through.
pub const WRITE_THROUGH: u64 = 1 << 3;
/// The page is not cached.
pub const UNCACHED: u64 = 1 << 4;
/// The processor has used the entry.
pub const ACCESSED: u64 = 1 << 5;
/// The processor has stored to the page.
pub const DIRTY: u64 = 1 << 6;
/// At level 2 or 3: the entry maps a page, and leads to no table.
pub const LARGE: u64 = 1 << 7;
/// The translation may survive a load of CR3.
pub const GLOBAL: u64 = 1 << 8;
/// Instruction fetches are forbidden.
pub const NO_EXECUTE: u64 = 1 << 63;
/// The bits of an address.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Entries of a table.
pub const ENTRIES: usize = 512;
/// Bytes of a small page, and of a table.
pub const PAGE: u64 = 4096;

/// The entry of a level that an address goes through.
pub fn index(at: u64, level: u32) -> usize {
    (at / span(level) % ENTRIES as u64) as usize
}

/// The bytes that an entry of a level maps.
pub const fn span(level: u32) -> u64 {
    1 << (12 + 9 * (level.saturating_sub(1) & 3))
}

/// Whether an entry of a level, which is present, maps a page.
pub fn is_leaf(level: u32, value: u64) -> bool {
    level <= 1 || (level <= 3 && value & LARGE != 0)
}

/// Where the page of an entry begins, which is a leaf of its level.
pub fn frame(level: u32, value: u64) -> u64 {
    value & ADDRESS & !(span(level) - 1)
}
