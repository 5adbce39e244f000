//! ATA disks in PIO mode (ATA/ATAPI-6, T13 1410D). Every register access and every word of data is the
//! processor's own, so each is an exit: what virtio is measured against.
//!
//! In walking order: `channel` leads accesses to one of two drives; this file has a drive's registers and
//! the way of a data block; `command` says what each command does; `identify` is the drive's description;
//! `file` has the sectors in a file. Called by `legacy`, which knows ports and lines. It never raises an
//! interrupt itself: [`Channel::interrupt`] is the line.
//!
//! A command that needs the host's file is done before the access that gave it ends, so BSY is seen during
//! a reset alone. PACKET, DMA, security and the like are not there, and IDENTIFY DEVICE says so.

mod channel;
mod command;
mod file;
mod identify;
#[cfg(test)]
mod tests;

use std::io;

pub use channel::Channel;
pub use file::FileSectors;

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// Sectors that READ MULTIPLE and WRITE MULTIPLE move between two interrupts, at most.
pub const MULTIPLE: usize = 16;

/// Where the sectors are.
///
/// The model asks for what is there alone: a range that it passes ends at [`Sectors::count`] at the latest.
pub trait Sectors: Send {
    /// How many there are.
    fn count(&self) -> u64;
    /// Whether they may not be written.
    fn is_read_only(&self) -> bool;
    /// The drive's serial number: what of it fits into 20 printable characters.
    fn serial(&self) -> &str;
    /// Read whole sectors from the one with this number on.
    ///
    /// # Errors
    /// What the host says; the drive reports UNC.
    fn read(&mut self, sector: u64, into: &mut [u8]) -> io::Result<()>;
    /// Write whole sectors likewise.
    ///
    /// # Errors
    /// What the host says; the drive reports a fault.
    fn write(&mut self, sector: u64, from: &[u8]) -> io::Result<()>;
    /// Put all that was written onto the medium.
    ///
    /// # Errors
    /// As `write`.
    fn flush(&mut self) -> io::Result<()>;
}

/// Offsets in the command block: ATA/ATAPI-6, 7.
mod register {
    pub const DATA: u16 = 0;
    pub const ERROR: u16 = 1;
    pub const COUNT: u16 = 2;
    pub const LOW: u16 = 3;
    pub const MID: u16 = 4;
    pub const HIGH: u16 = 5;
    pub const DEVICE: u16 = 6;
    pub const STATUS: u16 = 7;
}

/// Bits of the status register.
mod status {
    pub const ERROR: u8 = 1 << 0;
    pub const DATA: u8 = 1 << 3;
    pub const SEEK: u8 = 1 << 4;
    pub const FAULT: u8 = 1 << 5;
    pub const READY: u8 = 1 << 6;
    pub const BUSY: u8 = 1 << 7;
}

/// Bits of the error register.
mod error {
    pub const ABORT: u8 = 1 << 2;
    pub const NOT_FOUND: u8 = 1 << 4;
    pub const UNCORRECTABLE: u8 = 1 << 6;
}

/// Bits of the device control register.
mod control {
    pub const NO_INTERRUPT: u8 = 1 << 1;
    pub const RESET: u8 = 1 << 2;
    pub const HIGH_ORDER: u8 = 1 << 7;
}

/// In the device register: the second drive, and LBA instead of cylinders and heads.
const SECOND: u8 = 1 << 4;
const LBA: u8 = 1 << 6;

/// A register of the command block that 48-bit commands write twice.
#[derive(Clone, Copy, Debug, Default)]
struct Twice {
    now: u8,
    before: u8,
}

impl Twice {
    fn write(&mut self, value: u8) {
        self.before = self.now;
        self.now = value;
    }

    fn read(self, high_order: bool) -> u8 {
        if high_order { self.before } else { self.now }
    }
}

/// What the data register gives or takes.
#[derive(Debug, Default)]
enum Transfer {
    /// Nothing.
    #[default]
    None,
    /// A block to the processor.
    In,
    /// A block from the processor.
    Out,
}

/// A drive.
pub struct Ata {
    sectors: Box<dyn Sectors>,
    /// Whether it is the channel's second.
    is_second: bool,
    features: Twice,
    count: Twice,
    low: Twice,
    mid: Twice,
    high: Twice,
    device: u8,
    status: u8,
    error: u8,
    control: u8,
    /// Sectors in a block of READ MULTIPLE and WRITE MULTIPLE; 0 until the driver says.
    multiple: usize,
    /// Whether what was written may wait for a flush.
    has_write_cache: bool,
    transfer: Transfer,
    /// The block that is on its way, and how much of it has gone.
    block: Vec<u8>,
    done: usize,
    /// What comes after the block: the next sector, how many more, and how many a block.
    next: u64,
    left: usize,
    per_block: usize,
    /// Whether the command's addresses have 48 bits.
    is_wide: bool,
    /// The line: set by the drive, cleared by reading the status.
    interrupt: bool,
}

impl std::fmt::Debug for Ata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Ata");
        debug
            .field("status", &self.status)
            .field("error", &self.error);
        debug
            .field("transfer", &self.transfer)
            .finish_non_exhaustive()
    }
}

impl Ata {
    /// A drive that was just switched on.
    fn new(sectors: Box<dyn Sectors>, is_second: bool) -> Self {
        let mut drive = Self {
            sectors,
            is_second,
            features: Twice::default(),
            count: Twice::default(),
            low: Twice::default(),
            mid: Twice::default(),
            high: Twice::default(),
            device: 0,
            status: 0,
            error: 0,
            control: 0,
            multiple: 0,
            has_write_cache: true,
            transfer: Transfer::None,
            block: Vec::new(),
            done: 0,
            next: 0,
            left: 0,
            per_block: 1,
            is_wide: false,
            interrupt: false,
        };
        drive.signature();
        drive
    }

    /// Whether it raises the channel's line: the other drive is not asked.
    fn interrupt(&self) -> bool {
        self.interrupt && self.control & control::NO_INTERRUPT == 0 && self.is_selected()
    }

    /// Read a register of the command block, 0 to 7; the data register by words or double words.
    fn read(&mut self, offset: u16, into: &mut [u8]) {
        if offset == register::DATA {
            return self.read_data(into);
        }
        let high_order = self.control & control::HIGH_ORDER != 0;
        let value = match offset {
            register::ERROR => self.error,
            register::COUNT => self.count.read(high_order),
            register::LOW => self.low.read(high_order),
            register::MID => self.mid.read(high_order),
            register::HIGH => self.high.read(high_order),
            register::DEVICE => self.device | 0xa0,
            _ => {
                self.interrupt = false;
                self.status
            }
        };
        into.fill(value);
    }

    /// Write a register of the command block: also where the other drive is selected, but for data and
    /// commands (9.16).
    fn write(&mut self, offset: u16, from: &[u8]) {
        if offset == register::DATA {
            if self.is_selected() {
                self.write_data(from);
            }
            return;
        }
        let Some(value) = from.first().copied() else {
            return;
        };
        // A write to the command block shows the low order again (48-bit address feature set).
        self.control &= !control::HIGH_ORDER;
        match offset {
            register::ERROR => self.features.write(value),
            register::COUNT => self.count.write(value),
            register::LOW => self.low.write(value),
            register::MID => self.mid.write(value),
            register::HIGH => self.high.write(value),
            register::DEVICE => self.device = value,
            // Both drives diagnose themselves.
            _ if self.is_selected() || value == command::DIAGNOSE => self.command(value),
            _ => {}
        }
    }

    /// Read the alternate status: as the status, and the line stays.
    fn read_control(&self, into: &mut [u8]) {
        into.fill(self.status);
    }

    /// Write the device control register.
    fn write_control(&mut self, from: &[u8]) {
        let Some(value) = from.first().copied() else {
            return;
        };
        let was_reset = self.control & control::RESET != 0;
        self.control = value;
        match (was_reset, value & control::RESET != 0) {
            (_, true) => {
                self.stop();
                self.status = status::BUSY;
            }
            // The reset ends with the bit (9.2, Software reset).
            (true, false) => self.signature(),
            (false, false) => {}
        }
    }

    fn is_selected(&self) -> bool {
        (self.device & SECOND != 0) == self.is_second
    }

    /// Nothing is under way any more.
    fn stop(&mut self) {
        self.transfer = Transfer::None;
        self.block.clear();
        (self.done, self.left) = (0, 0);
        self.interrupt = false;
    }

    /// What a drive shows after a reset (9.12, Signature and persistence).
    fn signature(&mut self) {
        self.stop();
        self.multiple = 0;
        self.has_write_cache = true;
        self.device = 0;
        for (register, value) in [
            (&mut self.count, 1),
            (&mut self.low, 1),
            (&mut self.mid, 0),
            (&mut self.high, 0),
        ] {
            *register = Twice {
                now: value,
                before: 0,
            };
        }
        // Diagnostics: no error.
        self.error = 1;
        self.status = status::READY | status::SEEK;
    }

    /// The data register, to the processor. `rep insw` arrives as one access of many words.
    fn read_data(&mut self, into: &mut [u8]) {
        let mut rest = into;
        while !rest.is_empty() {
            let from = self.block.get(self.done..).unwrap_or_default();
            let count = from.len().min(rest.len());
            if count == 0 || !matches!(self.transfer, Transfer::In) {
                // The bus floats.
                return rest.fill(0xff);
            }
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(from.get(..count).unwrap_or_default());
            rest = later;
            self.done += count;
            if self.done == self.block.len() {
                self.block_taken();
            }
        }
    }

    /// The data register, from the processor; what is more than was asked for is lost.
    fn write_data(&mut self, from: &[u8]) {
        let mut rest = from;
        while !rest.is_empty() && matches!(self.transfer, Transfer::Out) {
            let Some(to) = self.block.get_mut(self.done..) else {
                return;
            };
            let count = to.len().min(rest.len());
            let (now, later) = rest.split_at(count);
            if let Some(to) = to.get_mut(..count) {
                to.copy_from_slice(now);
            }
            rest = later;
            self.done += count;
            if self.done == self.block.len() {
                self.block_given();
            }
        }
    }
}
