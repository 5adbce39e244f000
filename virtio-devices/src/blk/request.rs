//! What a chain asks a disk for (virtio 1.2, 5.2.6). Called by the data path. Never does I/O.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::backend::{Command, Span};
use super::wire::{
    HEADER_LEN, Header, MAX_DISCARD, MAX_RANGES, MAX_ZEROES, RANGE_LEN, Range, SECTOR, status,
};
use crate::chain::{Chain, copy_from, drop_front, take_last_byte, total};

/// What a driver may ask of this disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// In bytes.
    pub capacity: u64,
    pub is_read_only: bool,
    /// Without FLUSH, a driver takes each write for durable (5.2.6.2).
    pub has_flush: bool,
    pub has_discard: bool,
    pub has_write_zeroes: bool,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Run a command.
    Run(Command),
    /// Write the disk's name to the buffers.
    Id,
    /// Say so, with this status.
    Refuse(u8),
}

/// Split a chain by what its bytes are, whatever the layout of its descriptors: the chain keeps the
/// payload alone. Returns where the status goes.
///
/// # Errors
/// A chain without a byte to write the status to, as a sentence fragment.
pub(super) fn parse(
    memory: &GuestMemoryMmap,
    chain: &mut Chain,
    limits: &Limits,
) -> Result<(GuestAddress, Ask), &'static str> {
    let at = take_last_byte(&mut chain.writable).ok_or("a request has no room for its status")?;
    let mut header = [0; HEADER_LEN];
    if copy_from(memory, &chain.readable, &mut header) != HEADER_LEN {
        return Ok((at, Ask::Refuse(status::IOERR)));
    }
    drop_front(&mut chain.readable, HEADER_LEN as u32);
    let ask = limits.ask(memory, &Header::parse(&header), chain);
    Ok((at, ask.unwrap_or_else(Ask::Refuse)))
}

impl Limits {
    fn ask(&self, memory: &GuestMemoryMmap, header: &Header, chain: &Chain) -> Result<Ask, u8> {
        let (given, room) = (total(&chain.readable), total(&chain.writable));
        let is_durable = !self.has_flush;
        let command = match header.kind {
            VIRTIO_BLK_T_IN if given == 0 => {
                let at = self.span(header.sector, room)?.at;
                Command::Read { at }
            }
            VIRTIO_BLK_T_OUT if room == 0 && !self.is_read_only => {
                let at = self.span(header.sector, given)?.at;
                Command::Write { at, is_durable }
            }
            VIRTIO_BLK_T_IN | VIRTIO_BLK_T_OUT => return Err(status::IOERR),
            VIRTIO_BLK_T_FLUSH => Command::Flush,
            VIRTIO_BLK_T_GET_ID => return Ok(Ask::Id),
            VIRTIO_BLK_T_DISCARD if self.has_discard => {
                let spans = self.ranges(memory, chain, MAX_DISCARD, 0)?;
                let spans = spans.into_iter().map(|(span, _)| span).collect();
                Command::Discard { spans, is_durable }
            }
            VIRTIO_BLK_T_WRITE_ZEROES if self.has_write_zeroes => {
                let unmap = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
                let spans = self.ranges(memory, chain, MAX_ZEROES, unmap)?;
                Command::WriteZeroes { spans, is_durable }
            }
            _ => return Err(status::UNSUPP),
        };
        Ok(Ask::Run(command))
    }

    /// The bytes from a sector on, if they are whole sectors of the disk.
    fn span(&self, sector: u64, len: u64) -> Result<Span, u8> {
        let at = sector.checked_mul(SECTOR).ok_or(status::IOERR)?;
        let end = at.checked_add(len).ok_or(status::IOERR)?;
        if len.is_multiple_of(SECTOR) && end <= self.capacity {
            Ok(Span { at, len })
        } else {
            Err(status::IOERR)
        }
    }

    /// The ranges of a discard or write-zeroes, with whether each may be unmapped. The payload is
    /// small: it is copied.
    fn ranges(
        &self,
        memory: &GuestMemoryMmap,
        chain: &Chain,
        most: u32,
        allowed_flags: u32,
    ) -> Result<Vec<(Span, bool)>, u8> {
        let mut bytes = [0; RANGE_LEN * MAX_RANGES as usize];
        let len = total(&chain.readable);
        let is_whole = len > 0 && len.is_multiple_of(RANGE_LEN as u64);
        if self.is_read_only || !is_whole || len > bytes.len() as u64 {
            return Err(status::IOERR);
        }
        let count = copy_from(memory, &chain.readable, &mut bytes) / RANGE_LEN;
        let (ranges, _) = bytes.as_chunks::<RANGE_LEN>();
        let ranges = ranges.iter().take(count).map(Range::parse);
        let ranges = ranges.map(|range| {
            // Of both commands: flags that are not theirs (5.2.6.2).
            if range.flags & !allowed_flags != 0 {
                return Err(status::UNSUPP);
            }
            if range.count > most {
                return Err(status::IOERR);
            }
            let span = self.span(range.sector, u64::from(range.count) * SECTOR)?;
            Ok((span, range.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0))
        });
        // Nothing to do for an empty range, and fallocate refuses one.
        let is_some =
            |range: &Result<(Span, bool), u8>| !matches!(range, Ok((span, _)) if span.len == 0);
        ranges.filter(is_some).collect()
    }
}
