//! A packet's header (virtio 1.3, 5.10.6). Checks nothing.

/// Feature: streams (5.10.3).
pub const F_STREAM: u64 = 1 << 0;

/// Bytes of a header.
pub const HEADER: usize = 44;

/// VIRTIO_VSOCK_TYPE_STREAM.
pub const STREAM: u16 = 1;

/// Operations, VIRTIO_VSOCK_OP_.
pub mod op {
    #![allow(
        missing_docs,
        reason = "the names of the specification's section 5.10.6"
    )]
    pub const REQUEST: u16 = 1;
    pub const RESPONSE: u16 = 2;
    pub const RST: u16 = 3;
    pub const SHUTDOWN: u16 = 4;
    pub const RW: u16 = 5;
    pub const CREDIT_UPDATE: u16 = 6;
    pub const CREDIT_REQUEST: u16 = 7;
}

/// Flags of SHUTDOWN: the sender receives no more.
pub const NO_RECEIVE: u32 = 1;
/// Flags of SHUTDOWN: the sender sends no more.
pub const NO_SEND: u32 = 2;

/// A header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub from_cid: u64,
    pub to_cid: u64,
    pub from_port: u32,
    pub to_port: u32,
    /// How many bytes follow.
    pub len: u32,
    pub kind: u16,
    pub op: u16,
    pub flags: u32,
    /// How much the sender keeps of a stream, in bytes.
    pub room: u32,
    /// How much of what it got it has taken out of that, in bytes, modulo 2^32.
    pub taken: u32,
}

impl Header {
    /// Read a header.
    pub fn parse(bytes: &[u8; HEADER]) -> Self {
        let mut rest = &bytes[..];
        Self {
            from_cid: u64::from_le_bytes(take(&mut rest)),
            to_cid: u64::from_le_bytes(take(&mut rest)),
            from_port: u32::from_le_bytes(take(&mut rest)),
            to_port: u32::from_le_bytes(take(&mut rest)),
            len: u32::from_le_bytes(take(&mut rest)),
            kind: u16::from_le_bytes(take(&mut rest)),
            op: u16::from_le_bytes(take(&mut rest)),
            flags: u32::from_le_bytes(take(&mut rest)),
            room: u32::from_le_bytes(take(&mut rest)),
            taken: u32::from_le_bytes(take(&mut rest)),
        }
    }

    /// Write it.
    pub fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut rest = &mut bytes[..];
        put(&mut rest, &self.from_cid.to_le_bytes());
        put(&mut rest, &self.to_cid.to_le_bytes());
        put(&mut rest, &self.from_port.to_le_bytes());
        put(&mut rest, &self.to_port.to_le_bytes());
        put(&mut rest, &self.len.to_le_bytes());
        put(&mut rest, &self.kind.to_le_bytes());
        put(&mut rest, &self.op.to_le_bytes());
        put(&mut rest, &self.flags.to_le_bytes());
        put(&mut rest, &self.room.to_le_bytes());
        put(&mut rest, &self.taken.to_le_bytes());
        bytes
    }

    /// The answer that there is no such stream.
    pub fn reset(&self) -> Self {
        Self {
            from_cid: self.to_cid,
            to_cid: self.from_cid,
            from_port: self.to_port,
            to_port: self.from_port,
            kind: self.kind,
            op: op::RST,
            ..Self::default()
        }
    }
}

/// The next bytes; zeros beyond the end, where nobody reads.
fn take<const LEN: usize>(rest: &mut &[u8]) -> [u8; LEN] {
    let (part, left) = rest.split_first_chunk().unwrap_or((&[0; LEN], &[]));
    *rest = left;
    *part
}

/// Write at the front of what is left.
fn put(rest: &mut &mut [u8], from: &[u8]) {
    if let Some((part, left)) = core::mem::take(rest).split_at_mut_checked(from.len()) {
        part.copy_from_slice(from);
        *rest = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_header_is_laid_out_as_specified() {
        let bytes: Vec<u8> = (1..45).collect();
        let bytes: [u8; HEADER] = bytes.try_into().unwrap();
        let header = Header::parse(&bytes);
        assert_eq!(header.from_cid, 0x0807_0605_0403_0201);
        assert_eq!(header.to_cid, 0x100f_0e0d_0c0b_0a09);
        assert_eq!(
            (header.from_port, header.to_port),
            (0x1413_1211, 0x1817_1615)
        );
        assert_eq!(
            (header.len, header.kind, header.op),
            (0x1c1b_1a19, 0x1e1d, 0x201f)
        );
        assert_eq!(
            (header.flags, header.room, header.taken),
            (0x2423_2221, 0x2827_2625, 0x2c2b_2a29)
        );
        assert_eq!(header.bytes(), bytes);
    }
}
