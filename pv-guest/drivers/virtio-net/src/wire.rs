//! The numbers of virtio 1.3, 5.1. A test compares them with `virtio-bindings`.

/// Feature: the device makes checksums in frames that it sends.
pub const F_CSUM: u64 = 1 << 0;
/// Feature: received frames may have checksums that are incomplete, or checked.
pub const F_GUEST_CSUM: u64 = 1 << 1;
/// Feature: the device says how long packets may be.
pub const F_MTU: u64 = 1 << 3;
/// Feature: the device has an address.
pub const F_MAC: u64 = 1 << 5;
/// Feature: received frames may be joined segments of TCP over IPv4.
pub const F_GUEST_TSO4: u64 = 1 << 7;
/// Feature: the same over IPv6.
pub const F_GUEST_TSO6: u64 = 1 << 8;
/// Feature: the device cuts frames of TCP over IPv4.
pub const F_HOST_TSO4: u64 = 1 << 11;
/// Feature: the same over IPv6.
pub const F_HOST_TSO6: u64 = 1 << 12;
/// Feature: a received frame may fill several buffers.
pub const F_MRG_RXBUF: u64 = 1 << 15;
/// Feature: the device says whether the link is up.
pub const F_STATUS: u64 = 1 << 16;

/// The names of these features, for people.
pub const FEATURES: &[(u64, &str)] = &[
    (F_CSUM, "csum"),
    (F_GUEST_CSUM, "guest-csum"),
    (F_MTU, "mtu"),
    (F_MAC, "mac"),
    (F_GUEST_TSO4, "guest-tso4"),
    (F_GUEST_TSO6, "guest-tso6"),
    (F_HOST_TSO4, "host-tso4"),
    (F_HOST_TSO6, "host-tso6"),
    (F_MRG_RXBUF, "mrg-rxbuf"),
    (F_STATUS, "status"),
];

/// The queue of received frames (5.1.2).
pub const QUEUE_RECEIVE: u16 = 0;
/// The queue of frames to send.
pub const QUEUE_TRANSMIT: u16 = 1;

/// Offset in the configuration: the address, of 6 bytes, and in the same words the status.
pub const CONFIG_MAC: u64 = 0;
/// Offset in the configuration: the word whose upper half is the MTU.
pub const CONFIG_MTU: u64 = 8;
/// Bits of the status: the link is up.
pub const S_LINK_UP: u16 = 1;

/// Bytes of the header before each frame (5.1.6): flags, gso_type, and 16 bits each of hdr_len,
/// gso_size, csum_start, csum_offset and num_buffers.
pub const HEADER: usize = 12;
/// Header flags: a checksum is to be made.
pub const HDR_NEEDS_CSUM: u8 = 1;
/// Header flags: the checksum was checked.
pub const HDR_DATA_VALID: u8 = 2;
/// Header gso_type: TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// Header gso_type: TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;

/// The longest frame of joined segments (5.1.6.3.1): 65550 bytes.
pub const LONGEST_JOINED: usize = 65550;
/// The smallest MTU (5.1.4.1).
pub const MTU_LEAST: u16 = 68;
/// The MTU of a device that says none.
pub const MTU_PLAIN: u16 = 1500;
