//! The class of disks: requests that own their buffer until they are complete.
//!
//! Ownership is what makes this safe without a copy: while the device may use a buffer, nobody else
//! has it. It comes back with the request, in a call of [`Completion`], or at once, in [`Refused`].

use alloc::sync::Arc;
use core::fmt;

/// Bytes of a sector, the unit of every number here (virtio 1.3, 5.2.4).
pub const SECTOR_SIZE: usize = 512;

/// Bytes that [`Operation::GetId`] fills in (virtio 1.3, 5.2.6).
pub const ID_BYTES: usize = 20;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fill the buffer from the disk.
    Read,
    /// Write the buffer to the disk.
    Write,
    /// Make all completed writes last. No buffer, no sectors.
    Flush,
    /// The sectors' content is of no use any longer. No buffer.
    Discard,
    /// Let the sectors read as zeros. No buffer.
    WriteZeroes,
    /// Fill the buffer's first [`ID_BYTES`] bytes with the disk's name. No sectors.
    GetId,
}

/// A request. `D` is the environment's memory for devices.
#[derive(Debug)]
pub struct Request<D> {
    /// What to do.
    pub operation: Operation,
    /// The first sector.
    pub sector: u64,
    /// How many sectors.
    pub count: u32,
    /// The data, from its start on, for the operations that have data.
    pub buffer: Option<D>,
    /// Anything, for the client: it comes back unchanged.
    pub tag: u64,
}

/// What a disk can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// Sectors that the disk has.
    pub sectors: u64,
    /// Whether writes are refused.
    pub is_read_only: bool,
    /// Whether completed writes may be lost without [`Operation::Flush`].
    pub needs_flush: bool,
    /// The most sectors of one [`Operation::Discard`]; 0 when the disk has none.
    pub max_discard: u32,
    /// The most sectors of one [`Operation::WriteZeroes`]; 0 when the disk has none.
    pub max_write_zeroes: u32,
    /// How many requests may be under way at once.
    pub depth: usize,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// The disk could not do it.
    Io,
    /// The disk does not know the operation.
    Unsupported,
    /// The disk is read-only.
    ReadOnly,
    /// Not all sectors are on the disk.
    OutOfRange,
    /// The buffer is missing or too small, or there are no sectors, or too many.
    BadRequest,
    /// As many requests as can be are under way: try again after a completion.
    Busy,
    /// The device answered what it must not, and is no longer used.
    Broken,
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io => "input/output error",
            Self::Unsupported => "the disk cannot do this",
            Self::ReadOnly => "the disk is read-only",
            Self::OutOfRange => "not all of these sectors are on the disk",
            Self::BadRequest => "the request does not fit its buffer",
            Self::Busy => "too many requests are under way",
            Self::Broken => "the device broke the protocol, and is no longer used",
        })
    }
}

impl core::error::Error for BlockError {}

/// A request that was not begun, and why.
#[derive(Debug)]
pub struct Refused<D> {
    /// The request, as it was.
    pub request: Request<D>,
    /// Why.
    pub error: BlockError,
}

/// Who made a request.
pub trait Completion<D>: Send + Sync {
    /// A request is complete. Called in a bottom half: short, and it must not wait. It may submit.
    fn complete(&self, request: Request<D>, result: Result<(), BlockError>);
}

/// A disk. Requests may complete in any order; who needs one waits for it.
pub trait BlockDevice<D>: Send + Sync {
    /// What the disk can do.
    fn info(&self) -> BlockInfo;

    /// Begin a request. The disk may learn of it only at the next [`BlockDevice::kick`].
    ///
    /// # Errors
    /// [`Refused`], with the request.
    fn submit(
        &self,
        request: Request<D>,
        client: &Arc<dyn Completion<D>>,
    ) -> Result<(), Refused<D>>;

    /// Tell the disk of what was submitted, once for any number of requests.
    fn kick(&self);
}
