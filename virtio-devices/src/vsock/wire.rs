//! A packet's header, as it is in memory (virtio 1.2, 5.10.6). Called by all of the device. Checks
//! nothing but its length.

/// How long a header is, in bytes.
pub(super) const HEADER_LEN: usize = 44;
/// The host's context identifier (5.10.4).
pub(super) const HOST: u64 = 2;
/// VIRTIO_VSOCK_TYPE_STREAM.
pub(super) const STREAM: u16 = 1;

/// Operations: VIRTIO_VSOCK_OP_.
pub(super) mod op {
    pub const REQUEST: u16 = 1;
    pub const RESPONSE: u16 = 2;
    pub const RST: u16 = 3;
    pub const SHUTDOWN: u16 = 4;
    pub const RW: u16 = 5;
    pub const CREDIT_UPDATE: u16 = 6;
    pub const CREDIT_REQUEST: u16 = 7;
}

/// What a side that shuts down does no more: VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE, .._SEND.
pub(super) const NO_RECEIVE: u32 = 1;
pub(super) const NO_SEND: u32 = 2;

/// A connection's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub host: u32,
    pub guest: u32,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub from_cid: u64,
    pub to_cid: u64,
    pub from_port: u32,
    pub to_port: u32,
    /// How many bytes follow.
    pub len: u32,
    pub kind: u16,
    pub op: u16,
    pub flags: u32,
    /// How much the sender keeps for a connection, in bytes.
    pub room: u32,
    /// How much of what it got it keeps no more, in bytes, modulo 2^32.
    pub taken: u32,
}

impl Header {
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Header {
        let mut rest = &bytes[..];
        Header {
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

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend(self.from_cid.to_le_bytes());
        bytes.extend(self.to_cid.to_le_bytes());
        bytes.extend(self.from_port.to_le_bytes());
        bytes.extend(self.to_port.to_le_bytes());
        bytes.extend(self.len.to_le_bytes());
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.op.to_le_bytes());
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(self.room.to_le_bytes());
        bytes.extend(self.taken.to_le_bytes());
        bytes
    }

    /// Whose packet of the guest's it is.
    pub fn key(&self) -> Key {
        Key {
            host: self.to_port,
            guest: self.from_port,
        }
    }
}

/// The next bytes; zeros beyond the end, where nobody reads.
fn take<const LEN: usize>(rest: &mut &[u8]) -> [u8; LEN] {
    let (part, left) = rest.split_first_chunk().unwrap_or((&[0; LEN], &[]));
    *rest = left;
    *part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_laid_out_as_specified() {
        let bytes: Vec<u8> = (1..45).collect();
        let header = Header::parse(bytes[..].try_into().expect("44 bytes"));
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
