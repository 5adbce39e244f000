//! What a driver asks a disk for (virtio 1.2, 5.2.6): 16 bytes, payload, and a byte for the status, in as many
//! descriptors as it likes.

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::chain::{self, Buffer, Chain};

/// Bytes before the payload: type, reserved, sector.
const HEADER: usize = 16;

/// The type of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
    Flush,
    GetId,
    Discard,
    WriteZeroes,
    Other,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub kind: Kind,
    pub sector: u64,
    /// Payload from the driver.
    pub from: Vec<Buffer>,
    /// Room for payload to the driver.
    pub into: Vec<Buffer>,
    /// Where the status goes.
    pub status: GuestAddress,
}

impl Request {
    /// Read one from a chain.
    ///
    /// # Errors
    /// What is wrong with the chain; without a place for the status nothing can be answered.
    pub fn read(chain: &Chain, memory: &GuestMemoryMmap) -> Result<Self, &'static str> {
        let mut header = [0; HEADER];
        let first = chain::take(&chain.readable, HEADER as u64);
        let first = first.ok_or("a request has no whole header")?;
        gather(memory, &first, &mut header)?;
        let from = chain::skip(&chain.readable, HEADER as u64).unwrap_or_default();
        let room = chain::len(&chain.writable);
        let payload = room.checked_sub(1);
        let payload = payload.ok_or("a request has no place for its status")?;
        let status = chain::skip(&chain.writable, payload).unwrap_or_default();
        let status = status
            .first()
            .ok_or("a request has no place for its status")?;
        let word = |at: usize| {
            let bytes = header
                .get(at..at + 4)
                .and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_le_bytes)
        };
        Ok(Self {
            kind: match word(0) {
                0 => Kind::Read,
                1 => Kind::Write,
                4 => Kind::Flush,
                8 => Kind::GetId,
                11 => Kind::Discard,
                13 => Kind::WriteZeroes,
                _ => Kind::Other,
            },
            sector: u64::from(word(12)) << 32 | u64::from(word(8)),
            from,
            into: chain::take(&chain.writable, payload).unwrap_or_default(),
            status: status.at,
        })
    }
}

/// Copy buffers, which are as long as `into`, out of guest memory: headers, never payload.
///
/// # Errors
/// They are not in memory any more.
pub fn gather(
    memory: &GuestMemoryMmap,
    buffers: &[Buffer],
    into: &mut [u8],
) -> Result<(), &'static str> {
    let mut rest = into;
    for buffer in buffers {
        let (now, later) = rest.split_at_mut(buffer.len.min(rest.len()));
        memory
            .read_slice(now, buffer.at)
            .map_err(|_| "a header cannot be read")?;
        rest = later;
    }
    Ok(())
}

/// Sector, number of sectors and flags of a DISCARD or WRITE ZEROES.
pub fn range(bytes: &[u8; 16]) -> (u64, u32, u32) {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *bytes;
    let [i, j, k, l, m, n, o, p] = rest;
    let sector = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let count = u32::from_le_bytes([i, j, k, l]);
    (sector, count, u32::from_le_bytes([m, n, o, p]))
}
