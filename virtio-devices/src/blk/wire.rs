//! What crosses the wall, as bytes: the configuration (virtio 1.2, 5.2.4) and the header of a request
//! (5.2.6). Never decides anything.

use virtio_bindings::virtio_blk;

/// A sector, the unit of addresses and sizes, whatever the block size (5.2.6).
pub const SECTOR: u64 = 512;
/// The length of a request's header.
pub const HEADER_LEN: usize = 16;
/// The length of one range of a discard or write-zeroes.
pub const RANGE_LEN: usize = 16;
/// The length of the answer to GET_ID.
pub const ID_LEN: usize = virtio_blk::VIRTIO_BLK_ID_BYTES as usize;

/// The most ranges in one discard or write-zeroes.
pub const MAX_RANGES: u32 = 8;
/// The most sectors in one range of a discard.
pub const MAX_DISCARD: u32 = 1 << 22;
/// The most sectors in one range of a write-zeroes: 64 MiB, which a host without support for it
/// writes out.
pub const MAX_ZEROES: u32 = 1 << 17;

/// Statuses of a request, as they are written.
pub mod status {
    use super::virtio_blk;

    /// VIRTIO_BLK_S_OK.
    pub const OK: u8 = virtio_blk::VIRTIO_BLK_S_OK as u8;
    /// VIRTIO_BLK_S_IOERR.
    pub const IOERR: u8 = virtio_blk::VIRTIO_BLK_S_IOERR as u8;
    /// VIRTIO_BLK_S_UNSUPP.
    pub const UNSUPP: u8 = virtio_blk::VIRTIO_BLK_S_UNSUPP as u8;
}

/// What a device says in its configuration.
pub struct Config {
    /// In sectors.
    pub capacity: u64,
    /// The most segments of a request.
    pub segments: u32,
    /// How many queues take requests.
    pub queues: u16,
    /// The host's block size, as a power of two of sectors.
    pub physical_exponent: u8,
}

impl Config {
    /// The configuration space.
    pub fn bytes(&self) -> [u8; 60] {
        let mut bytes = [0; 60];
        let mut put = |at: usize, value: &[u8]| {
            for (byte, value) in bytes.iter_mut().skip(at).zip(value) {
                *byte = *value;
            }
        };
        let one_physical_block = 1u16 << self.physical_exponent.min(15);
        put(0, &self.capacity.to_le_bytes());
        put(12, &self.segments.to_le_bytes());
        put(20, &(SECTOR as u32).to_le_bytes());
        put(24, &[self.physical_exponent]);
        put(26, &one_physical_block.to_le_bytes());
        put(34, &self.queues.to_le_bytes());
        put(36, &MAX_DISCARD.to_le_bytes());
        put(40, &MAX_RANGES.to_le_bytes());
        put(44, &u32::from(one_physical_block).to_le_bytes());
        put(48, &MAX_ZEROES.to_le_bytes());
        put(52, &MAX_RANGES.to_le_bytes());
        // write_zeroes_may_unmap.
        put(56, &[1]);
        bytes
    }
}

/// A request's header.
pub struct Header {
    /// VIRTIO_BLK_T_.
    pub kind: u32,
    /// Where, in sectors.
    pub sector: u64,
}

impl Header {
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Header {
        let [a, b, c, d, _, _, _, _, sector @ ..] = *bytes;
        Header {
            kind: u32::from_le_bytes([a, b, c, d]),
            sector: u64::from_le_bytes(sector),
        }
    }
}

/// One range of a discard or write-zeroes.
pub struct Range {
    pub sector: u64,
    pub count: u32,
    pub flags: u32,
}

impl Range {
    pub fn parse(bytes: &[u8; RANGE_LEN]) -> Range {
        let [s0, s1, s2, s3, s4, s5, s6, s7, c0, c1, c2, c3, flags @ ..] = *bytes;
        Range {
            sector: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            count: u32::from_le_bytes([c0, c1, c2, c3]),
            flags: u32::from_le_bytes(flags),
        }
    }
}
