//! The class of network devices: Ethernet frames, copied in and out.
//!
//! The client polls: a device announces that there is something ([`NetClient::notify`]), and then
//! keeps quiet while its client takes frames, however many come. Before the client sleeps it lets
//! announcements in again, with [`NetDevice::listen`]. So a burst costs one interrupt.

use alloc::sync::Arc;
use core::fmt;

/// Bytes of an Ethernet header: two addresses and a type (IEEE 802.3, 3.1.1).
pub const ETHERNET_HEADER: usize = 14;

/// What a network device is, and can do. All of it is fixed but `is_up`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetInfo {
    /// Its address.
    pub mac: [u8; 6],
    /// The largest packet in a frame, in bytes, without the frame's header.
    pub mtu: u16,
    /// Whether the link is up.
    pub is_up: bool,
    /// The longest frame that [`NetDevice::receive`] may return, in bytes: more than the MTU where
    /// the device joins segments.
    pub longest: usize,
    /// What the device does to frames that it is given.
    pub offloads: NetOffloads,
}

/// What a device does to frames that it is given. A plain one does nothing: the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetOffloads {
    /// It makes the checksum that [`SendOptions::checksum`] names.
    pub checksum: bool,
    /// The longest frame of TCP over IPv4 that it cuts into segments, in bytes; 0 when it cuts none.
    pub tcp4_most: usize,
    /// The same over IPv6.
    pub tcp6_most: usize,
}

/// What is left to the device in a frame. It must have been offered in [`NetOffloads`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendOptions {
    /// A checksum to make.
    pub checksum: Option<PartialChecksum>,
    /// Segments to cut the frame into; with a checksum to make in each.
    pub segments: Option<Segments>,
}

/// An Internet checksum that is still to be made. Its place holds that of the pseudo header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Where the bytes that it covers begin, in the frame; they end with the frame.
    pub start: u16,
    /// Where it is stored, behind `start`.
    pub offset: u16,
}

/// How a frame of TCP is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// Whether it is over IPv6.
    pub is_ipv6: bool,
    /// Bytes of all headers, Ethernet's to TCP's, which each segment gets.
    pub headers: u16,
    /// Bytes of data in each segment but the last; at least 1.
    pub size: u16,
}

/// A frame that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedFrame {
    /// Bytes of it.
    pub len: usize,
    /// Whether its TCP or UDP checksum needs no check. It may then be incomplete, if the frame never
    /// was on a wire.
    pub is_checked: bool,
}

/// How much has passed a device, or did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounts {
    /// Frames sent.
    pub sent: u64,
    /// Bytes of those.
    pub sent_bytes: u64,
    /// Frames received.
    pub received: u64,
    /// Bytes of those.
    pub received_bytes: u64,
    /// Frames that the device had, and the driver could not give to the client.
    pub dropped: u64,
    /// Frames that came damaged.
    pub errors: u64,
}

/// Why a frame was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetError {
    /// There is no room now: the client is notified when there is.
    Busy,
    /// The frame has no header, or is longer than the device takes, or wants what it does not do.
    BadFrame,
    /// The device answered what it must not, and is no longer used.
    Broken,
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "the device has no room for a frame",
            Self::BadFrame => "the frame does not suit the device",
            Self::Broken => "the device broke the protocol, and is no longer used",
        })
    }
}

impl core::error::Error for NetError {}

/// Who uses a network device.
pub trait NetClient: Send + Sync {
    /// There is a frame, or room again, or the link changed. Called in a bottom half: short, and it
    /// must not wait. At most once for each [`NetDevice::listen`].
    fn notify(&self);
}

/// A network device. It has one client, which uses it from one thread at a time.
pub trait NetDevice: Send + Sync {
    /// What it is, and can do.
    fn info(&self) -> NetInfo;

    /// Name the client, once. It is notified from its first [`NetDevice::listen`] on.
    fn set_client(&self, client: Arc<dyn NetClient>);

    /// Send a frame, from its Ethernet header on, without a frame check sequence. The frame is
    /// copied. A short one is padded if the wire needs that. The device may learn of it only at the
    /// next [`NetDevice::kick`].
    ///
    /// # Errors
    /// [`NetError`]; then nothing was sent.
    fn send(&self, frame: &[u8], options: &SendOptions) -> Result<(), NetError>;

    /// Tell the device of what was sent, once for any number of frames.
    fn kick(&self);

    /// Take the next frame that came, into a buffer of at least [`NetInfo::longest`] bytes; `None`
    /// when there is none. A frame that does not fit is dropped, and counted.
    fn receive(&self, into: &mut [u8]) -> Option<ReceivedFrame>;

    /// Let the device notify of the next frame, and of room, if [`NetError::Busy`] was the last
    /// answer. Returns `true` when there is something already: then it may not notify, and the client
    /// goes on before it sleeps.
    #[must_use = "for what is there already nobody is notified"]
    fn listen(&self) -> bool;

    /// How much has passed.
    fn counts(&self) -> NetCounts;
}
