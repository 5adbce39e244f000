//! What carries frames: a tap interface, or a socket that keeps frames apart. Called by the data
//! path. Never knows queues.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::HEADER_LEN;
use crate::raw_io::{
    IoVecs, become_tap, read_frame, set_tap_header, set_tap_offloads, write_frame,
};

/// What a driver accepts in frames that it receives (5.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Checksums that are still to be made.
    pub checksum: bool,
    /// TCP segments over IPv4 above the MTU.
    pub tso4: bool,
    /// The same over IPv6.
    pub tso6: bool,
    /// Of those, with explicit congestion notification.
    pub ecn: bool,
}

/// Carries frames, each behind a `virtio_net_hdr` of 12 bytes; never waits.
pub trait Carrier: Send + Sync {
    /// Readable when there is a frame, writable when there is room for one.
    fn fd(&self) -> RawFd;

    /// Whether it takes frames with checksums to make, and segments to cut.
    fn has_offloads(&self) -> bool;

    /// What frames to the driver may leave to it.
    ///
    /// # Errors
    /// The host's.
    fn set_offloads(&self, offloads: Offloads) -> io::Result<()>;

    /// Take a frame into guest memory; returns its length.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    fn receive(&self, into: &IoVecs) -> io::Result<usize>;

    /// Take a frame into a buffer of the host's, which has room for any.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    fn receive_here(&self, into: &mut [u8]) -> io::Result<usize>;

    /// Put a frame out.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room now; by any other the frame is lost, as on a wire.
    fn send(&self, from: &IoVecs) -> io::Result<()>;
}

/// A tap interface of the host's.
pub struct Tap(FrameSocket);

impl Tap {
    /// Open the interface `name`, which is made if it is not there; that needs CAP_NET_ADMIN.
    ///
    /// # Errors
    /// The host's.
    pub fn open(name: &str) -> io::Result<Tap> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")?;
        become_tap(&file, name)?;
        Tap::of(file)
    }

    /// Use a tap that was opened elsewhere, with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR.
    ///
    /// # Errors
    /// The host's, if the descriptor is none of a tap.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Tap> {
        Tap::of(fd.into())
    }

    fn of(file: File) -> io::Result<Tap> {
        set_tap_header(&file, HEADER_LEN as libc::c_int)?;
        FrameSocket::new(file.into()).map(Tap)
    }
}

impl Carrier for Tap {
    fn fd(&self) -> RawFd {
        self.0.fd()
    }

    fn has_offloads(&self) -> bool {
        true
    }

    fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        let flags = [
            (offloads.checksum, libc::TUN_F_CSUM),
            (offloads.tso4, libc::TUN_F_TSO4),
            (offloads.tso6, libc::TUN_F_TSO6),
            (offloads.ecn, libc::TUN_F_TSO_ECN),
        ];
        let chosen = flags.into_iter().filter(|(is_on, _)| *is_on);
        set_tap_offloads(&self.0.0, chosen.fold(0, |all, (_, flag)| all | flag))
    }

    fn receive(&self, into: &IoVecs) -> io::Result<usize> {
        self.0.receive(into)
    }

    fn receive_here(&self, into: &mut [u8]) -> io::Result<usize> {
        self.0.receive_here(into)
    }

    fn send(&self, from: &IoVecs) -> io::Result<()> {
        self.0.send(from)
    }
}

/// A datagram or SOCK_SEQPACKET socket whose messages are headers with frames. Its other end is a
/// switch, another machine or a test, and does no offloads.
pub struct FrameSocket(File);

impl FrameSocket {
    /// Use a socket; it will not wait any more, in no process that has it.
    ///
    /// # Errors
    /// The host's.
    pub fn new(fd: OwnedFd) -> io::Result<FrameSocket> {
        let flags = fcntl_getfl(&fd)?;
        fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        Ok(FrameSocket(fd.into()))
    }
}

impl Carrier for FrameSocket {
    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn has_offloads(&self) -> bool {
        false
    }

    fn set_offloads(&self, _: Offloads) -> io::Result<()> {
        Ok(())
    }

    fn receive(&self, into: &IoVecs) -> io::Result<usize> {
        read_frame(&self.0, into)
    }

    fn receive_here(&self, into: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(into)
    }

    fn send(&self, from: &IoVecs) -> io::Result<()> {
        write_frame(&self.0, from).map(|_| ())
    }
}
