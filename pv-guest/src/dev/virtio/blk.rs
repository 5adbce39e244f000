//! A disk. Requests sleep until the device's interrupt says that something is done.
//!
//! On the data path no register is read: the used ring says what is done. InterruptStatus, an exit, is read only when
//! an interrupt came and nothing was: then the device may be unable to go on.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use virtio_drivers::device::blk::{BlkReq, BlkResp, SECTOR_SIZE, VirtIOBlk};
use virtio_drivers::transport::InterruptStatus;

use super::Registers;
use super::hal::KernelHal;
use crate::dev::line::Line;
use crate::dev::{self, Class, Device};
use crate::mm::dma::DmaBuffer;
use crate::sync::SpinLock;

static DISKS: SpinLock<Vec<Arc<Disk>>> = SpinLock::new(Vec::new());

/// All disks, in the order in which they were found.
pub fn disks() -> Vec<Arc<Disk>> {
    DISKS.lock().clone()
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// The sectors are not all there.
    OutOfRange,
    /// It may not be written.
    ReadOnly,
    /// The device says that it could not.
    Io,
    /// The device cannot go on.
    Dead,
    /// There is no memory for a buffer.
    NoMemory,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfRange => "the disk ends before that",
            Self::ReadOnly => "the disk is read-only",
            Self::Io => "input/output error",
            Self::Dead => "the disk does not answer any more",
            Self::NoMemory => "no memory for a buffer",
        })
    }
}

/// A disk.
pub struct Disk {
    /// `vda`, `vdb` and so on.
    pub name: String,
    /// Its size, in sectors of 512 bytes.
    pub sectors: u64,
    /// Whether it may not be written.
    pub is_read_only: bool,
    line: &'static Line,
    device: SpinLock<Driven>,
}

struct Driven {
    blk: VirtIOBlk<KernelHal, Registers>,
    is_dead: bool,
}

/// A request's header and answer, which the device reads and writes.
#[derive(Default)]
struct Slip {
    request: BlkReq,
    response: BlkResp,
}

pub(super) fn drive(
    registers: Registers,
    line: &'static Line,
    bus: &str,
) -> Result<(), virtio_drivers::Error> {
    let mut blk = VirtIOBlk::<KernelHal, _>::new(registers)?;
    blk.enable_interrupts();
    let mut all = DISKS.lock();
    let letter = char::from(b'a' + (all.len() % 26) as u8);
    let disk = Disk {
        name: format!("vd{letter}"),
        sectors: blk.capacity(),
        is_read_only: blk.readonly(),
        line,
        device: SpinLock::new(Driven {
            blk,
            is_dead: false,
        }),
    };
    let rights = if disk.is_read_only {
        "read-only"
    } else {
        "read-write"
    };
    dev::add(Device {
        name: disk.name.clone(),
        bus: "virtio-mmio",
        class: Class::Block,
        parent: Some(bus.to_string()),
        driver: Some("virtio-blk"),
        vector: None,
        about: format!("{} KiB, {rights}", disk.sectors / 2),
    });
    all.push(Arc::new(disk));
    Ok(())
}

impl Disk {
    /// Interrupts so far.
    pub fn interrupts(&self) -> u64 {
        self.line.count()
    }

    /// Read sectors into the first `len` bytes of a buffer, a multiple of 512.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn read(&self, sector: u64, buffer: &mut DmaBuffer, len: usize) -> Result<(), DiskError> {
        let buffer = self.part(sector, buffer, len)?;
        let mut slip = Box::<Slip>::default();
        let Slip { request, response } = &mut *slip;
        let begun = {
            let blk = &mut self.device.lock().blk;
            // SAFETY: request, response and buffer stay where they are and untouched until `wait` has seen the
            // request used; a device that does not answer keeps them for ever, see `wait`.
            unsafe { blk.read_blocks_nb(sector as usize, request, buffer, response) }
        };
        let token = begun.map_err(|_| DiskError::Io)?;
        if self.wait(token).is_err() {
            return Err(self.abandon(slip));
        }
        let blk = &mut self.device.lock().blk;
        // SAFETY: they are those that the request was made with.
        unsafe { blk.complete_read_blocks(token, request, buffer, response) }
            .map_err(|_| DiskError::Io)
    }

    /// Write sectors from the first `len` bytes of a buffer.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn write(&self, sector: u64, buffer: &mut DmaBuffer, len: usize) -> Result<(), DiskError> {
        if self.is_read_only {
            return Err(DiskError::ReadOnly);
        }
        let buffer = self.part(sector, buffer, len)?;
        let mut slip = Box::<Slip>::default();
        let Slip { request, response } = &mut *slip;
        let begun = {
            let blk = &mut self.device.lock().blk;
            // SAFETY: as in `read`.
            unsafe { blk.write_blocks_nb(sector as usize, request, buffer, response) }
        };
        let token = begun.map_err(|_| DiskError::Io)?;
        if self.wait(token).is_err() {
            return Err(self.abandon(slip));
        }
        let blk = &mut self.device.lock().blk;
        // SAFETY: as in `read`.
        unsafe { blk.complete_write_blocks(token, request, buffer, response) }
            .map_err(|_| DiskError::Io)
    }

    /// Have what was written survive the host. Polls.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn flush(&self) -> Result<(), DiskError> {
        let mut device = self.device.lock();
        match device.is_dead {
            true => Err(DiskError::Dead),
            false => device.blk.flush().map_err(|_| DiskError::Io),
        }
    }

    fn part<'a>(
        &self,
        sector: u64,
        buffer: &'a mut DmaBuffer,
        len: usize,
    ) -> Result<&'a mut [u8], DiskError> {
        let end = sector.checked_add((len / SECTOR_SIZE) as u64);
        let is_inside = end.is_some_and(|end| end <= self.sectors);
        if !is_inside || len == 0 || !len.is_multiple_of(SECTOR_SIZE) {
            return Err(DiskError::OutOfRange);
        }
        if self.device.lock().is_dead {
            return Err(DiskError::Dead);
        }
        buffer.get_mut(..len).ok_or(DiskError::OutOfRange)
    }

    /// Sleep until a request is the next one that was used.
    fn wait(&self, token: u16) -> Result<(), DiskError> {
        let mut asked = self.line.count();
        self.line.wait_until(|| {
            let mut device = self.device.lock();
            match device.blk.peek_used() {
                Some(used) if used == token => return Some(Ok(())),
                // Another thread's, which wakes this one when it has taken it.
                Some(_) => return None,
                None => {}
            }
            let now = self.line.count();
            if device.is_dead || core::mem::replace(&mut asked, now) == now {
                return device.is_dead.then_some(Err(DiskError::Dead));
            }
            let status = device.blk.ack_interrupt();
            // The one change that a disk of ours announces is that it cannot go on.
            device.is_dead |= status.contains(InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT);
            device.is_dead.then_some(Err(DiskError::Dead))
        })
    }

    /// A device that does not answer may still write: what it was given is never used again.
    fn abandon(&self, slip: Box<Slip>) -> DiskError {
        Box::leak(slip);
        DiskError::Dead
    }
}
