//! The header before each frame, `virtio_net_hdr` (virtio 1.3, 5.1.6), either way.

use driver_api::{NetOffloads, SendOptions};

use crate::wire::{self, HEADER};

/// The header of a frame to send; `None` when what is asked for makes no sense, or was not offered.
pub fn encode(len: usize, options: &SendOptions, offered: &NetOffloads) -> Option<[u8; HEADER]> {
    let mut header = [0; HEADER];
    if let Some(checksum) = options.checksum {
        let end = usize::from(checksum.start) + usize::from(checksum.offset) + 2;
        if !offered.checksum || end > len {
            return None;
        }
        header[0] = wire::HDR_NEEDS_CSUM;
        header[6..8].copy_from_slice(&checksum.start.to_le_bytes());
        header[8..10].copy_from_slice(&checksum.offset.to_le_bytes());
    }
    if let Some(segments) = options.segments {
        let (kind, most) = match segments.is_ipv6 {
            false => (wire::GSO_TCPV4, offered.tcp4_most),
            true => (wire::GSO_TCPV6, offered.tcp6_most),
        };
        // 5.1.6.2.1: such a frame has a checksum to make.
        let has_data = segments.size > 0 && usize::from(segments.headers) < len;
        if options.checksum.is_none() || !has_data || len > most {
            return None;
        }
        header[1] = kind;
        header[2..4].copy_from_slice(&segments.headers.to_le_bytes());
        header[4..6].copy_from_slice(&segments.size.to_le_bytes());
    }
    Some(header)
}

/// What the header of a received frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Whether the checksum needs no check.
    pub is_checked: bool,
    /// How many buffers the frame fills.
    pub buffers: u16,
}

/// Read the header of a received frame.
pub fn decode(header: &[u8; HEADER]) -> Decoded {
    let [flags, .., low, high] = *header;
    Decoded {
        is_checked: flags & (wire::HDR_NEEDS_CSUM | wire::HDR_DATA_VALID) != 0,
        buffers: u16::from_le_bytes([low, high]),
    }
}
