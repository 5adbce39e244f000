//! A request on its way: which command it is, and how its data moves, block by block.

use alloc::sync::Arc;

use driver_api::{BlockError, Completion, Dma, ID_BYTES, Operation, Ports, Request, SECTOR_SIZE};
use zerocopy::IntoBytes;

use crate::identify::{Identity, MULTIPLE_MOST};
use crate::registers::{Registers, Stuck};
use crate::wire::{NARROW_COUNT, NARROW_SECTORS, SECTOR_WORDS, WIDE_COUNT};
use crate::wire::{command, register, status};

/// Words of the largest block.
pub const BLOCK_WORDS: usize = MULTIPLE_MOST as usize * SECTOR_WORDS;

/// A request, the drive that it is for, and who wants to hear of its end.
pub struct Task<D> {
    pub request: Request<D>,
    pub client: Arc<dyn Completion<D>>,
    pub is_second: bool,
    /// Sectors that have moved.
    done: u32,
}

/// How it is with a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// An interrupt will come.
    Waits,
    /// It is over.
    Over(Result<(), BlockError>),
}

const BROKEN: Progress = Progress::Over(Err(BlockError::Broken));

impl From<Stuck> for Progress {
    fn from(_: Stuck) -> Self {
        BROKEN
    }
}

/// Whether a request makes sense for a drive, before anything is begun.
pub fn check<D: Dma>(request: &Request<D>, drive: &Identity) -> Result<(), BlockError> {
    let bytes = match request.operation {
        Operation::Flush => return Ok(()),
        Operation::Discard | Operation::WriteZeroes => return Err(BlockError::Unsupported),
        Operation::GetId => ID_BYTES as u64,
        Operation::Read | Operation::Write => {
            let most = if drive.is_wide {
                WIDE_COUNT
            } else {
                NARROW_COUNT
            };
            if request.count == 0 || request.count > most {
                return Err(BlockError::BadRequest);
            }
            let end = request.sector.checked_add(request.count.into());
            if end.is_none_or(|end| end > drive.sectors) {
                return Err(BlockError::OutOfRange);
            }
            u64::from(request.count) * SECTOR_SIZE as u64
        }
    };
    let has = request.buffer.as_ref().map_or(0, Dma::len) as u64;
    (has >= bytes).then_some(()).ok_or(BlockError::BadRequest)
}

impl<D: Dma> Task<D> {
    /// A request that was checked.
    pub fn new(request: Request<D>, client: Arc<dyn Completion<D>>, is_second: bool) -> Self {
        Self {
            request,
            client,
            is_second,
            done: 0,
        }
    }

    /// Which drive it is for.
    pub fn number(&self) -> usize {
        self.is_second.into()
    }

    /// Give the drive its command, and a write's first block.
    pub fn start<P: Ports>(
        &mut self,
        registers: &Registers<P>,
        drive: &Identity,
        words: &mut [u16],
    ) -> Progress {
        let (narrow, wide) = match (self.request.operation, drive.multiple > 0) {
            (Operation::Read, false) => (command::READ, command::READ_EXT),
            (Operation::Read, true) => (command::READ_MULTIPLE, command::READ_MULTIPLE_EXT),
            (Operation::Write, false) => (command::WRITE, command::WRITE_EXT),
            (Operation::Write, true) => (command::WRITE_MULTIPLE, command::WRITE_MULTIPLE_EXT),
            (Operation::GetId, _) => {
                if let Some(buffer) = &self.request.buffer {
                    buffer.write(0, &drive.serial);
                }
                return Progress::Over(Ok(()));
            }
            _ => (command::FLUSH, command::FLUSH_EXT),
        };
        let sent = match self.fits_narrow() {
            true => self.send_narrow(registers, narrow),
            false => self.send_wide(registers, wide),
        };
        if let Err(stuck) = sent {
            return stuck.into();
        }
        if self.request.operation != Operation::Write {
            return Progress::Waits;
        }
        // The first block of a write is asked for without an interrupt (9.6, PIO data-out).
        match registers.answer() {
            Ok(now) => self.go_on(registers, drive, words, now),
            Err(stuck) => stuck.into(),
        }
    }

    /// The drive has answered with this status: move a block, or end.
    pub fn go_on<P: Ports>(
        &mut self,
        registers: &Registers<P>,
        drive: &Identity,
        words: &mut [u16],
        now: u8,
    ) -> Progress {
        if now & status::BUSY != 0 {
            return Progress::Waits;
        }
        if now & (status::ERROR | status::FAULT) != 0 {
            return Progress::Over(Err(BlockError::Io));
        }
        let has_data = now & status::DATA != 0;
        let left = match self.request.operation {
            Operation::Read | Operation::Write => self.request.count - self.done,
            _ => 0,
        };
        match (has_data, left) {
            (false, 0) if now & status::READY != 0 => return Progress::Over(Ok(())),
            (true, 1..) => {}
            // Data that nobody asked for, or none where there should be some.
            _ => return BROKEN,
        }
        let sectors = left.min(drive.multiple.max(1).into());
        let (Some(words), Some(buffer)) = (
            words.get_mut(..sectors as usize * SECTOR_WORDS),
            &self.request.buffer,
        ) else {
            return BROKEN;
        };
        let at = self.done as usize * SECTOR_SIZE;
        self.done += sectors;
        if self.request.operation == Operation::Write {
            buffer.read(at, words.as_mut_bytes());
            registers.write_data(words);
            return Progress::Waits;
        }
        registers.read_data(words);
        buffer.write(at, words.as_bytes());
        match self.done == self.request.count {
            // The drive says nothing more (9.5, PIO data-in).
            true => Progress::Over(Ok(())),
            false => Progress::Waits,
        }
    }

    /// Whether 28 bits of address and 8 of count do: fewer registers.
    fn fits_narrow(&self) -> bool {
        match self.request.operation {
            Operation::Read | Operation::Write => {
                let end = self
                    .request
                    .sector
                    .saturating_add(self.request.count.into());
                end <= NARROW_SECTORS && self.request.count <= NARROW_COUNT
            }
            _ => true,
        }
    }

    fn send_narrow<P: Ports>(&self, registers: &Registers<P>, which: u8) -> Result<(), Stuck> {
        let [low, mid, high, top, ..] = self.request.sector.to_le_bytes();
        registers.select(self.is_second, top & 0xf)?;
        if self.request.operation != Operation::Flush {
            // 256 sectors are 0.
            registers.write(register::COUNT, self.request.count as u8);
            registers.write(register::LOW, low);
            registers.write(register::MID, mid);
            registers.write(register::HIGH, high);
        }
        registers.begin(which);
        Ok(())
    }

    /// Each register takes two bytes, the higher one first.
    fn send_wide<P: Ports>(&self, registers: &Registers<P>, which: u8) -> Result<(), Stuck> {
        let at = self.request.sector.to_le_bytes();
        let count = self.request.count.to_le_bytes();
        registers.select(self.is_second, 0)?;
        for (register, high, low) in [
            (register::COUNT, count[1], count[0]),
            (register::LOW, at[3], at[0]),
            (register::MID, at[4], at[1]),
            (register::HIGH, at[5], at[2]),
        ] {
            registers.write(register, high);
            registers.write(register, low);
        }
        registers.begin(which);
        Ok(())
    }
}
