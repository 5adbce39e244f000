//! A request as the device sees it (5.2.6): a header, then data either way, then a status byte.

use driver_api::{BlockError, BlockInfo, Dma, ID_BYTES, Operation, Request, SECTOR_SIZE};
use virtio::Segment;

use crate::wire;

/// Bytes of the header.
pub const HEADER: usize = 16;
/// Offset of the range that a discard or a write of zeroes names.
const RANGE: usize = 16;
/// Offset of the status byte.
const STATUS: usize = 32;
/// Bytes between the places of two requests.
pub const PLACE: usize = 64;

/// No status that a device answers with: it wrote none.
const NO_STATUS: u8 = 0xff;

/// Whether a request makes sense for a disk. The device is asked only what it offers.
pub fn check<D: Dma>(request: &Request<D>, info: &BlockInfo) -> Result<(), BlockError> {
    let (is_write, most) = match request.operation {
        Operation::Read => (false, u32::MAX),
        Operation::Write => (true, u32::MAX),
        Operation::Discard if info.max_discard > 0 => (true, info.max_discard),
        Operation::WriteZeroes if info.max_write_zeroes > 0 => (true, info.max_write_zeroes),
        Operation::Discard | Operation::WriteZeroes => return Err(BlockError::Unsupported),
        Operation::Flush => return Ok(()),
        Operation::GetId => return check_buffer(request, ID_BYTES as u64),
    };
    if is_write && info.is_read_only {
        return Err(BlockError::ReadOnly);
    }
    if request.count == 0 || request.count > most {
        return Err(BlockError::BadRequest);
    }
    let end = request.sector.checked_add(request.count.into());
    if end.is_none_or(|end| end > info.sectors) {
        return Err(BlockError::OutOfRange);
    }
    check_buffer(request, data_len(request))
}

fn check_buffer<D: Dma>(request: &Request<D>, needed: u64) -> Result<(), BlockError> {
    let has = request.buffer.as_ref().map_or(0, Dma::len) as u64;
    // A segment's length has 32 bits.
    let is_good = needed <= has && needed < u64::from(u32::MAX);
    is_good.then_some(()).ok_or(BlockError::BadRequest)
}

/// Bytes of the buffer that move.
fn data_len<D>(request: &Request<D>) -> u64 {
    match request.operation {
        Operation::Read | Operation::Write => u64::from(request.count) * SECTOR_SIZE as u64,
        Operation::GetId => ID_BYTES as u64,
        Operation::Flush | Operation::Discard | Operation::WriteZeroes => 0,
    }
}

/// The segments of a request.
pub struct Segments {
    all: [Segment; 3],
    count: usize,
}

impl Segments {
    /// All of them.
    pub fn as_slice(&self) -> &[Segment] {
        self.all.get(..self.count).unwrap_or_default()
    }
}

/// Write a request's header to its place, and name its segments.
pub fn encode<D: Dma>(request: &Request<D>, places: &D, at: usize) -> Segments {
    let (kind, sector) = match request.operation {
        Operation::Read => (wire::T_IN, request.sector),
        Operation::Write => (wire::T_OUT, request.sector),
        // Of these the sector is 0 (5.2.6.1).
        Operation::Flush => (wire::T_FLUSH, 0),
        Operation::GetId => (wire::T_GET_ID, 0),
        Operation::Discard => (wire::T_DISCARD, 0),
        Operation::WriteZeroes => (wire::T_WRITE_ZEROES, 0),
    };
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    places.write(at, &header);
    places.write(at + STATUS, &[NO_STATUS]);
    let phys = places.phys() + at as u64;
    let segment = |phys, len, is_writable| Segment {
        phys,
        len,
        is_writable,
    };
    let header = segment(phys, HEADER as u32, false);
    let status = segment(phys + STATUS as u64, 1, true);
    let data = |is_writable| {
        let buffer = request.buffer.as_ref().map_or(0, Dma::phys);
        segment(buffer, data_len(request) as u32, is_writable)
    };
    let middle = match request.operation {
        Operation::Read | Operation::GetId => data(true),
        Operation::Write => data(false),
        Operation::Discard | Operation::WriteZeroes => {
            places.write(at + RANGE, &range(request.sector, request.count));
            segment(phys + RANGE as u64, 16, false)
        }
        Operation::Flush => {
            let all = [header, status, status];
            return Segments { all, count: 2 };
        }
    };
    Segments {
        all: [header, middle, status],
        count: 3,
    }
}

/// struct virtio_blk_discard_write_zeroes (5.2.6); its flags are 0.
fn range(sector: u64, count: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&sector.to_le_bytes());
    bytes[8..12].copy_from_slice(&count.to_le_bytes());
    bytes
}

/// What the device's status byte says, and whether it wrote as much as it should.
///
/// `Err` alone when the answer makes no sense.
pub fn decode<D: Dma>(
    request: &Request<D>,
    places: &D,
    at: usize,
    written: u32,
) -> Result<Result<(), BlockError>, BlockError> {
    let mut status = [0; 1];
    places.read(at + STATUS, &mut status);
    match status {
        [wire::S_OK] => {}
        [wire::S_IOERR] => return Ok(Err(BlockError::Io)),
        [wire::S_UNSUPP] => return Ok(Err(BlockError::Unsupported)),
        _ => return Err(BlockError::Broken),
    }
    // With data for the driver, all of it is there, or it is no success.
    let is_short = match request.operation {
        Operation::Read => u64::from(written) <= data_len(request),
        _ => false,
    };
    if is_short {
        return Err(BlockError::Broken);
    }
    Ok(Ok(()))
}
