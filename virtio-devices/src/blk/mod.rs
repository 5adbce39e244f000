//! virtio-blk (virtio 1.2, 5.2): one queue of requests, over a [`Backend`].
//!
//! In walking order: this file is the device; `request` reads what the driver asks for; `file` is a raw image.
//! Payload is never copied here: the backend reads and writes guest memory.

mod file;
mod request;
#[cfg(test)]
mod tests;

use std::io;

use virtio_queue::Queue;
use vm_memory::{Bytes, GuestMemoryMmap};

use crate::chain::{Buffer, Chain};
use crate::device::{Device, DeviceError, Queues, check_activation};
use crate::{EVENT_IDX, INDIRECT_DESC, queue};

pub use file::{OpenError, RawFile};
use request::{Kind, Request};

/// The device's type.
const TYPE: u32 = 2;
const SIZES: &[u16] = &[256];
/// Bytes of a sector, by which requests count.
pub const SECTOR: u64 = 512;
/// Buffers in a request at most: the queue's size, less header and status.
const SEG_MAX: u32 = 254;
/// Sectors that one DISCARD or WRITE ZEROES may name.
const ZEROES_MAX: u32 = 1 << 22;

/// Features (5.2.3).
mod feature {
    pub const SEG_MAX: u64 = 1 << 2;
    pub const READ_ONLY: u64 = 1 << 5;
    pub const BLOCK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

/// What a request comes to (5.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Status {
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

/// Where a disk's sectors are. Offsets and lengths are in bytes; the device has checked that they are in the disk.
pub trait Backend: Send {
    /// The disk's size in bytes.
    fn len(&self) -> u64;
    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether nobody may write.
    fn is_read_only(&self) -> bool;
    /// What GET ID answers: 20 bytes at most.
    fn id(&self) -> &str;
    /// Read into guest memory.
    ///
    /// # Errors
    /// What the host says; the guest gets an I/O error.
    fn read(&mut self, at: u64, memory: &GuestMemoryMmap, into: &[Buffer]) -> io::Result<()>;
    /// Write from guest memory.
    ///
    /// # Errors
    /// As `read`.
    fn write(&mut self, at: u64, memory: &GuestMemoryMmap, from: &[Buffer]) -> io::Result<()>;
    /// Put what was written where it survives the host.
    ///
    /// # Errors
    /// As `read`.
    fn flush(&mut self) -> io::Result<()>;
    /// Have a range read as zeros; `unmap`: it may lose its room.
    ///
    /// # Errors
    /// As `read`.
    fn zero(&mut self, at: u64, len: u64, unmap: bool) -> io::Result<()>;
}

/// The device's configuration (5.2.4), without what no feature of ours uses at its end.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Configuration {
    capacity: [u8; 8],
    size_max: [u8; 4],
    seg_max: [u8; 4],
    geometry: [u8; 4],
    block_size: [u8; 4],
    topology: [u8; 8],
    writeback: u8,
    unused: u8,
    queues: [u8; 2],
    max_discard_sectors: [u8; 4],
    max_discard_seg: [u8; 4],
    discard_alignment: [u8; 4],
    max_write_zeroes_sectors: [u8; 4],
    max_write_zeroes_seg: [u8; 4],
    write_zeroes_may_unmap: u8,
    unused_1: [u8; 3],
}

/// A disk.
pub struct Blk {
    backend: Box<dyn Backend>,
    configuration: Vec<u8>,
    active: Option<(GuestMemoryMmap, Queue)>,
}

impl Blk {
    /// A disk whose sectors are in a backend.
    pub fn new(backend: Box<dyn Backend>) -> Self {
        let sectors = backend.len() / SECTOR;
        let configuration = Configuration {
            capacity: sectors.to_le_bytes(),
            seg_max: SEG_MAX.to_le_bytes(),
            block_size: (SECTOR as u32).to_le_bytes(),
            queues: 1_u16.to_le_bytes(),
            max_discard_sectors: ZEROES_MAX.to_le_bytes(),
            max_discard_seg: 1_u32.to_le_bytes(),
            discard_alignment: 1_u32.to_le_bytes(),
            max_write_zeroes_sectors: ZEROES_MAX.to_le_bytes(),
            max_write_zeroes_seg: 1_u32.to_le_bytes(),
            write_zeroes_may_unmap: 1,
            ..Configuration::default()
        };
        Self {
            backend,
            configuration: configuration.bytes(),
            active: None,
        }
    }
}

impl Configuration {
    fn bytes(&self) -> Vec<u8> {
        [
            self.capacity.as_slice(),
            &self.size_max,
            &self.seg_max,
            &self.geometry,
            &self.block_size,
            &self.topology,
            &[self.writeback, self.unused],
            &self.queues,
            &self.max_discard_sectors,
            &self.max_discard_seg,
            &self.discard_alignment,
            &self.max_write_zeroes_sectors,
            &self.max_write_zeroes_seg,
            &[self.write_zeroes_may_unmap],
            &self.unused_1,
        ]
        .concat()
    }
}

impl Device for Blk {
    fn device_type(&self) -> u32 {
        TYPE
    }

    fn features(&self) -> u64 {
        use feature::*;
        let always = SEG_MAX | BLOCK_SIZE | FLUSH | EVENT_IDX | INDIRECT_DESC;
        match self.backend.is_read_only() {
            true => always | READ_ONLY,
            false => always | DISCARD | WRITE_ZEROES,
        }
    }

    fn queue_sizes(&self) -> &[u16] {
        SIZES
    }

    fn read_config(&self, offset: u64, into: &mut [u8]) {
        let from = usize::try_from(offset).ok();
        let from = from.and_then(|offset| self.configuration.get(offset..));
        for (to, byte) in into.iter_mut().zip(from.unwrap_or_default()) {
            *to = *byte;
        }
    }

    fn activate(
        &mut self,
        memory: GuestMemoryMmap,
        features: u64,
        mut queues: Queues,
    ) -> Result<(), DeviceError> {
        check_activation(self, features, &queues)?;
        self.active = queues.pop().map(|queue| (memory, queue));
        Ok(())
    }

    fn notify(&mut self, number: usize) -> Result<bool, DeviceError> {
        let backend = self.backend.as_mut();
        let Some((memory, queue)) = &mut self.active else {
            return Ok(false);
        };
        queue::serve(number, queue, memory, |chain| one(backend, memory, chain))
    }

    fn reset(&mut self) {
        self.active = None;
    }
}

/// Do one request; how many bytes were written, the status included.
fn one(
    backend: &mut dyn Backend,
    memory: &GuestMemoryMmap,
    chain: &Chain,
) -> Result<u32, &'static str> {
    let request = Request::read(chain, memory)?;
    let (status, written) = match carry_out(backend, memory, &request) {
        Ok(written) => (Status::Ok, written),
        Err(status) => (status, 0),
    };
    memory
        .write_obj(status as u8, request.status)
        .map_err(|_| "a status cannot be written")?;
    Ok(written + 1)
}

fn carry_out(
    backend: &mut dyn Backend,
    memory: &GuestMemoryMmap,
    request: &Request,
) -> Result<u32, Status> {
    let failed = |_: io::Error| Status::IoError;
    match request.kind {
        Kind::Read => {
            let at = place(backend, request.sector, &request.into)?;
            backend.read(at, memory, &request.into).map_err(failed)?;
            Ok(crate::chain::len(&request.into) as u32)
        }
        Kind::Write => {
            writable(backend)?;
            let at = place(backend, request.sector, &request.from)?;
            backend.write(at, memory, &request.from).map_err(failed)?;
            Ok(0)
        }
        Kind::Flush => backend.flush().map(|()| 0).map_err(failed),
        Kind::GetId => get_id(backend, memory, &request.into),
        Kind::Discard | Kind::WriteZeroes => {
            writable(backend)?;
            zero(backend, memory, request)
        }
        Kind::Other => Err(Status::Unsupported),
    }
}

fn writable(backend: &dyn Backend) -> Result<(), Status> {
    match backend.is_read_only() {
        true => Err(Status::IoError),
        false => Ok(()),
    }
}

/// Where whole sectors are in the disk, from one on.
fn place(backend: &dyn Backend, sector: u64, buffers: &[Buffer]) -> Result<u64, Status> {
    place_of(backend, sector, crate::chain::len(buffers))
}

fn place_of(backend: &dyn Backend, sector: u64, len: u64) -> Result<u64, Status> {
    let at = sector.checked_mul(SECTOR).ok_or(Status::IoError)?;
    let end = at.checked_add(len).ok_or(Status::IoError)?;
    let is_inside = len.is_multiple_of(SECTOR) && end <= backend.len() / SECTOR * SECTOR;
    is_inside.then_some(at).ok_or(Status::IoError)
}

fn get_id(backend: &dyn Backend, memory: &GuestMemoryMmap, into: &[Buffer]) -> Result<u32, Status> {
    const LEN: usize = 20;
    let mut id = [0; LEN];
    for (to, byte) in id.iter_mut().zip(backend.id().bytes()) {
        *to = byte;
    }
    let into = crate::chain::take(into, LEN as u64).ok_or(Status::IoError)?;
    let mut rest = id.as_slice();
    for buffer in into {
        let (now, later) = rest.split_at(buffer.len.min(rest.len()));
        memory
            .write_slice(now, buffer.at)
            .map_err(|_| Status::IoError)?;
        rest = later;
    }
    Ok(LEN as u32)
}

/// DISCARD and WRITE ZEROES name one range (5.2.6): sector, how many, flags.
fn zero(
    backend: &mut dyn Backend,
    memory: &GuestMemoryMmap,
    request: &Request,
) -> Result<u32, Status> {
    const LEN: usize = 16;
    const UNMAP: u32 = 1;
    let mut bytes = [0; LEN];
    if crate::chain::len(&request.from) != LEN as u64 {
        return Err(Status::IoError);
    }
    request::gather(memory, &request.from, &mut bytes).map_err(|_| Status::IoError)?;
    let (sector, count, flags) = request::range(&bytes);
    let is_discard = request.kind == Kind::Discard;
    // DISCARD has no flag (5.2.6.1); reserved ones are refused.
    if flags & !UNMAP != 0 || is_discard && flags != 0 {
        return Err(Status::Unsupported);
    }
    if count > ZEROES_MAX {
        return Err(Status::IoError);
    }
    let len = u64::from(count) * SECTOR;
    let at = place_of(backend, sector, len)?;
    backend
        .zero(at, len, is_discard || flags & UNMAP != 0)
        .map_err(|_| Status::IoError)?;
    Ok(0)
}

// The configuration is bytes alone.
const _: () = assert!(size_of::<Configuration>() == 60);
