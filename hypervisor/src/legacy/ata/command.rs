//! What the drive does for each command (ATA/ATAPI-6, 8).

use super::identify::identify;
use super::{Ata, LBA, MULTIPLE, SECTOR, Transfer, error, status};

/// The commands, by their codes.
mod code {
    pub const RECALIBRATE: u8 = 0x10;
    pub const READ: u8 = 0x20;
    pub const READ_ONCE: u8 = 0x21;
    pub const READ_EXT: u8 = 0x24;
    pub const READ_MAX_EXT: u8 = 0x27;
    pub const READ_MULTIPLE_EXT: u8 = 0x29;
    pub const WRITE: u8 = 0x30;
    pub const WRITE_ONCE: u8 = 0x31;
    pub const WRITE_EXT: u8 = 0x34;
    pub const WRITE_MULTIPLE_EXT: u8 = 0x39;
    pub const VERIFY: u8 = 0x40;
    pub const VERIFY_ONCE: u8 = 0x41;
    pub const VERIFY_EXT: u8 = 0x42;
    pub const SET_GEOMETRY: u8 = 0x91;
    pub const READ_MULTIPLE: u8 = 0xc4;
    pub const WRITE_MULTIPLE: u8 = 0xc5;
    pub const SET_MULTIPLE: u8 = 0xc6;
    pub const STANDBY_NOW: u8 = 0xe0;
    pub const IDLE_NOW: u8 = 0xe1;
    pub const STANDBY: u8 = 0xe2;
    pub const IDLE: u8 = 0xe3;
    pub const POWER_MODE: u8 = 0xe5;
    pub const SLEEP: u8 = 0xe6;
    pub const FLUSH: u8 = 0xe7;
    pub const FLUSH_EXT: u8 = 0xea;
    pub const IDENTIFY: u8 = 0xec;
    pub const SET_FEATURES: u8 = 0xef;
    pub const READ_MAX: u8 = 0xf8;
}

/// EXECUTE DEVICE DIAGNOSTIC.
pub const DIAGNOSE: u8 = 0x90;

/// What SET FEATURES may name.
mod feature {
    pub const WRITE_CACHE_ON: u8 = 0x02;
    pub const TRANSFER_MODE: u8 = 0x03;
    pub const LOOK_AHEAD_OFF: u8 = 0x55;
    pub const KEEP_SETTINGS: u8 = 0x66;
    pub const WRITE_CACHE_OFF: u8 = 0x82;
    pub const LOOK_AHEAD_ON: u8 = 0xaa;
    pub const REVERT_SETTINGS: u8 = 0xcc;
}

/// The drive's geometry, for who still asks for cylinders.
pub const HEADS: u64 = 16;
/// Sectors of a track.
pub const TRACK: u64 = 63;

impl Ata {
    /// Begin a command.
    pub(super) fn command(&mut self, which: u8) {
        if self.status & status::BUSY != 0 {
            return;
        }
        self.stop();
        self.error = 0;
        self.status = status::READY | status::SEEK;
        let multiple = self.multiple;
        match which {
            code::READ | code::READ_ONCE => self.read_sectors(false, 1),
            code::READ_EXT => self.read_sectors(true, 1),
            code::READ_MULTIPLE => self.read_sectors(false, multiple),
            code::READ_MULTIPLE_EXT => self.read_sectors(true, multiple),
            code::WRITE | code::WRITE_ONCE => self.write_sectors(false, 1),
            code::WRITE_EXT => self.write_sectors(true, 1),
            code::WRITE_MULTIPLE => self.write_sectors(false, multiple),
            code::WRITE_MULTIPLE_EXT => self.write_sectors(true, multiple),
            code::VERIFY | code::VERIFY_ONCE => self.verify(false),
            code::VERIFY_EXT => self.verify(true),
            code::IDENTIFY => {
                let is_cached = self.has_write_cache;
                self.block = identify(self.sectors.as_ref(), self.multiple, is_cached).to_vec();
                self.offer();
            }
            code::FLUSH | code::FLUSH_EXT => match self.sectors.flush() {
                Ok(()) => self.complete(),
                Err(_) => self.fault(),
            },
            code::SET_MULTIPLE => match usize::from(self.count.now) {
                count if count <= MULTIPLE && (count == 0 || count.is_power_of_two()) => {
                    self.multiple = count;
                    self.complete();
                }
                _ => self.fail(error::ABORT),
            },
            code::SET_FEATURES => self.set_feature(),
            code::READ_MAX | code::READ_MAX_EXT => {
                self.show(
                    which == code::READ_MAX_EXT,
                    self.sectors.count().saturating_sub(1),
                );
                self.complete();
            }
            code::POWER_MODE => {
                self.count.write(0xff);
                self.complete();
            }
            DIAGNOSE => {
                self.signature();
                // The first drive alone says that both are done.
                self.interrupt = !self.is_second;
            }
            // The geometry is what it is.
            code::SET_GEOMETRY
                if (u64::from(self.count.now), u64::from(self.device & 0xf) + 1)
                    != (TRACK, HEADS) =>
            {
                self.fail(error::ABORT);
            }
            // There is no motor to stop, so nothing sleeps.
            code::RECALIBRATE
            | code::SET_GEOMETRY
            | code::STANDBY_NOW
            | code::IDLE_NOW
            | code::STANDBY
            | code::IDLE
            | code::SLEEP => self.complete(),
            _ => self.fail(error::ABORT),
        }
    }

    fn set_feature(&mut self) {
        match self.features.now {
            feature::WRITE_CACHE_ON => self.has_write_cache = true,
            feature::WRITE_CACHE_OFF => {
                self.has_write_cache = false;
                // What is in the cache goes out.
                if self.sectors.flush().is_err() {
                    return self.fault();
                }
            }
            // PIO: the default mode, or one of 0 to 4 with flow control.
            feature::TRANSFER_MODE if matches!(self.count.now, 0 | 1 | 0x08..=0x0c) => {}
            feature::LOOK_AHEAD_OFF
            | feature::LOOK_AHEAD_ON
            | feature::KEEP_SETTINGS
            | feature::REVERT_SETTINGS => {}
            _ => return self.fail(error::ABORT),
        }
        self.complete();
    }

    /// The processor has taken a block.
    pub(super) fn block_taken(&mut self) {
        if self.left > 0 {
            return self.read_block();
        }
        self.transfer = Transfer::None;
        self.status &= !status::DATA;
    }

    /// The processor has given a block.
    pub(super) fn block_given(&mut self) {
        self.transfer = Transfer::None;
        self.status &= !status::DATA;
        let sectors = self.block.len() / SECTOR;
        match self.sectors.write(self.next, &self.block) {
            Ok(()) if self.left == sectors => {
                self.left = 0;
                match self.has_write_cache || self.sectors.flush().is_ok() {
                    true => self.complete(),
                    false => self.fault(),
                }
            }
            Ok(()) => {
                self.next += sectors as u64;
                self.left -= sectors;
                self.ask();
                self.interrupt = true;
            }
            Err(_) => self.fault(),
        }
    }

    fn read_sectors(&mut self, is_wide: bool, per_block: usize) {
        if self.locate(is_wide, per_block) {
            self.read_block();
        }
    }

    fn read_block(&mut self) {
        let sectors = self.left.min(self.per_block);
        self.block.resize(sectors * SECTOR, 0);
        if self.sectors.read(self.next, &mut self.block).is_err() {
            // The block's first sector stands for the one that is bad.
            self.show(self.is_wide, self.next);
            return self.fail(error::UNCORRECTABLE);
        }
        self.next += sectors as u64;
        self.left -= sectors;
        self.offer();
    }

    fn write_sectors(&mut self, is_wide: bool, per_block: usize) {
        if self.sectors.is_read_only() {
            return self.fail(error::ABORT);
        }
        if self.locate(is_wide, per_block) {
            // The first block is asked for without an interrupt.
            self.ask();
        }
    }

    /// The sectors are there; whether the host's medium can be read, the host checks itself.
    fn verify(&mut self, is_wide: bool) {
        if self.locate(is_wide, 1) {
            self.left = 0;
            self.complete();
        }
    }

    /// Where a command begins, and how many sectors it has. False when they are not all there.
    fn locate(&mut self, is_wide: bool, per_block: usize) -> bool {
        let (start, count) = match is_wide {
            true => (self.wide_address(), self.wide_count()),
            false => (self.address(), self.narrow_count()),
        };
        let Some(start) = start.filter(|_| per_block > 0) else {
            // A sector 0 of a track, 48 bits without LBA, or no SET MULTIPLE MODE.
            self.fail(error::ABORT);
            return false;
        };
        let all = self.sectors.count();
        if start.checked_add(count as u64).is_none_or(|end| end > all) {
            self.fail(error::NOT_FOUND);
            return false;
        }
        (self.next, self.left, self.per_block) = (start, count, per_block);
        self.is_wide = is_wide;
        true
    }

    fn address(&self) -> Option<u64> {
        let high = u32::from(self.device & 0xf);
        let bytes = [self.low.now, self.mid.now, self.high.now].map(u32::from);
        if self.device & LBA != 0 {
            return Some((high << 24 | bytes[2] << 16 | bytes[1] << 8 | bytes[0]).into());
        }
        let cylinder = u64::from(bytes[2] << 8 | bytes[1]);
        let sector = u64::from(bytes[0])
            .checked_sub(1)
            .filter(|sector| *sector < TRACK)?;
        Some((cylinder * HEADS + u64::from(high)) * TRACK + sector)
    }

    fn wide_address(&self) -> Option<u64> {
        let bytes = [
            self.low.now,
            self.mid.now,
            self.high.now,
            self.low.before,
            self.mid.before,
            self.high.before,
            0,
            0,
        ];
        (self.device & LBA != 0).then_some(u64::from_le_bytes(bytes))
    }

    /// 0 means 256.
    fn narrow_count(&self) -> usize {
        match self.count.now {
            0 => 256,
            count => usize::from(count),
        }
    }

    /// 0 means 65536.
    fn wide_count(&self) -> usize {
        match u16::from_le_bytes([self.count.now, self.count.before]) {
            0 => 1 << 16,
            count => usize::from(count),
        }
    }

    /// Show a sector's address in the registers.
    fn show(&mut self, is_wide: bool, sector: u64) {
        let bytes = if is_wide {
            sector
        } else {
            sector.min(0xfff_ffff)
        }
        .to_le_bytes();
        let [low, mid, high, low_before, mid_before, high_before, ..] = bytes;
        if !is_wide {
            self.device = self.device & 0xf0 | low_before & 0xf;
        }
        for (register, now, before) in [
            (&mut self.low, low, low_before),
            (&mut self.mid, mid, mid_before),
            (&mut self.high, high, high_before),
        ] {
            (register.now, register.before) = (now, before);
        }
    }

    /// A block waits for the processor.
    fn offer(&mut self) {
        self.done = 0;
        self.transfer = Transfer::In;
        self.status |= status::DATA;
        self.interrupt = true;
    }

    /// The drive waits for a block.
    fn ask(&mut self) {
        self.block.resize(self.left.min(self.per_block) * SECTOR, 0);
        self.done = 0;
        self.transfer = Transfer::Out;
        self.status |= status::DATA;
    }

    fn complete(&mut self) {
        self.interrupt = true;
    }

    fn fail(&mut self, why: u8) {
        self.stop();
        self.error = why;
        self.status = status::READY | status::SEEK | status::ERROR;
        self.interrupt = true;
    }

    /// The host could not write: a device fault.
    fn fault(&mut self) {
        self.fail(error::ABORT);
        self.status |= status::FAULT;
    }
}
