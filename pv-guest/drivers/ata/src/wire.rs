//! Numbers of the ATA interface (ATA/ATAPI-6, T13 1410D).

/// How many ports the command block has.
pub const COMMAND_PORTS: u16 = 8;
/// How many the control block has that is used.
pub const CONTROL_PORTS: u16 = 1;

/// Offsets in the command block.
pub mod register {
    pub const DATA: u16 = 0;
    pub const COUNT: u16 = 2;
    pub const LOW: u16 = 3;
    pub const MID: u16 = 4;
    pub const HIGH: u16 = 5;
    pub const DEVICE: u16 = 6;
    /// Read: the status, and the interrupt is acknowledged. Written: a command.
    pub const STATUS: u16 = 7;
}

/// Bits of the status register.
pub mod status {
    pub const ERROR: u8 = 1 << 0;
    pub const DATA: u8 = 1 << 3;
    pub const FAULT: u8 = 1 << 5;
    pub const READY: u8 = 1 << 6;
    pub const BUSY: u8 = 1 << 7;
}

/// Bits of the device control register.
pub mod control {
    pub const NO_INTERRUPT: u8 = 1 << 1;
    pub const RESET: u8 = 1 << 2;
}

/// Bits of the device register: addresses are sectors, and the second drive is meant.
pub mod device {
    pub const LBA: u8 = 1 << 6;
    pub const SECOND: u8 = 1 << 4;
}

/// Commands. `EXT` have addresses of 48 bits.
pub mod command {
    pub const READ: u8 = 0x20;
    pub const READ_EXT: u8 = 0x24;
    pub const READ_MULTIPLE_EXT: u8 = 0x29;
    pub const WRITE: u8 = 0x30;
    pub const WRITE_EXT: u8 = 0x34;
    pub const WRITE_MULTIPLE_EXT: u8 = 0x39;
    pub const READ_MULTIPLE: u8 = 0xc4;
    pub const WRITE_MULTIPLE: u8 = 0xc5;
    pub const SET_MULTIPLE: u8 = 0xc6;
    pub const FLUSH: u8 = 0xe7;
    pub const FLUSH_EXT: u8 = 0xea;
    pub const IDENTIFY: u8 = 0xec;
}

/// Words of a sector.
pub const SECTOR_WORDS: usize = 256;
/// Sectors that 28 bits of address reach.
pub const NARROW_SECTORS: u64 = 1 << 28;
/// The most sectors of a command with 28 bits of address, and with 48.
pub const NARROW_COUNT: u32 = 256;
pub const WIDE_COUNT: u32 = 65536;
