//! A tap as a network device of `netstack`: what a guest has by virtio-net, without a guest. It offers the same
//! offloads.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use driver_api::{ETHERNET_HEADER, NetClient, NetCounts, NetDevice, NetError, NetInfo};
use driver_api::{NetOffloads, ReceivedFrame, SendOptions};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use virtio_devices::raw_io::{become_tap, set_tap_header, set_tap_offloads};

/// Bytes of the header before each frame: `virtio_net_hdr` with `num_buffers` (virtio 1.3, 5.1.6).
const HEADER: usize = 12;
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_TCPV4: u8 = 1;
const MTU: u16 = 1500;
/// The longest frame: a packet of IPv4 has 65535 bytes.
const LONGEST: usize = ETHERNET_HEADER + 65535;

/// A tap.
pub struct TapDevice {
    file: File,
    /// Frames sent, and received.
    frames: [AtomicU64; 2],
}

impl TapDevice {
    /// Open the tap of this name, or make it.
    ///
    /// # Errors
    /// The host's.
    pub fn open(name: &str) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true);
        let file = options
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")?;
        become_tap(&file, name)?;
        set_tap_header(&file, HEADER as libc::c_int)?;
        set_tap_offloads(&file, libc::TUN_F_CSUM | libc::TUN_F_TSO4)?;
        let frames = Default::default();
        Ok(Self { file, frames })
    }

    /// How many frames have passed, either way.
    pub fn frames(&self) -> u64 {
        let frames = self.frames.iter();
        frames.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Sleep until there is a frame, or room for one if that is wanted, or for so long.
    ///
    /// # Errors
    /// The host's.
    pub fn wait(&self, wants_room: bool, most: Duration) -> io::Result<bool> {
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, wants_room);
        let mut fds = [PollFd::new(&self.file, flags)];
        let most = Timespec::try_from(most).ok();
        match poll(&mut fds, most.as_ref()) {
            Ok(count) => Ok(count > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The header of a frame to send.
fn header(options: &SendOptions) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    if let Some(checksum) = options.checksum {
        header[0] = NEEDS_CSUM;
        header[6..8].copy_from_slice(&checksum.start.to_le_bytes());
        header[8..10].copy_from_slice(&checksum.offset.to_le_bytes());
    }
    if let Some(segments) = options.segments {
        header[1] = GSO_TCPV4;
        header[2..4].copy_from_slice(&segments.headers.to_le_bytes());
        header[4..6].copy_from_slice(&segments.size.to_le_bytes());
    }
    header
}

impl NetDevice for TapDevice {
    fn info(&self) -> NetInfo {
        NetInfo {
            // The guest's, so that the host's kernel sees no other neighbour.
            mac: [0x02, 0xfc, 0, 0, 0, 0],
            mtu: MTU,
            is_up: true,
            longest: LONGEST,
            offloads: NetOffloads {
                checksum: true,
                tcp4_most: LONGEST,
                tcp6_most: 0,
            },
        }
    }

    fn set_client(&self, _: Arc<dyn NetClient>) {}

    fn send(&self, frame: &[u8], options: &SendOptions) -> Result<(), NetError> {
        let header = header(options);
        let parts = [IoSlice::new(&header), IoSlice::new(frame)];
        match (&self.file).write_vectored(&parts) {
            Ok(_) => {
                self.frames[0].fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(NetError::Busy),
            Err(_) => Err(NetError::BadFrame),
        }
    }

    fn kick(&self) {}

    fn receive(&self, into: &mut [u8]) -> Option<ReceivedFrame> {
        let mut header = [0; HEADER];
        let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(into)];
        let count = (&self.file).read_vectored(&mut parts).ok()?;
        let len = count.checked_sub(HEADER)?;
        self.frames[1].fetch_add(1, Ordering::Relaxed);
        let is_checked = header[0] & (NEEDS_CSUM | DATA_VALID) != 0;
        Some(ReceivedFrame { len, is_checked })
    }

    fn listen(&self) -> bool {
        self.wait(false, Duration::ZERO).unwrap_or(false)
    }

    fn counts(&self) -> NetCounts {
        let [sent, received] = self
            .frames
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed));
        NetCounts {
            sent,
            received,
            ..NetCounts::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver_api::{PartialChecksum, Segments};

    #[test]
    fn a_header_says_what_is_left_to_the_tap() {
        assert_eq!(header(&SendOptions::default()), [0; HEADER]);
        let options = SendOptions {
            checksum: Some(PartialChecksum {
                start: 34,
                offset: 16,
            }),
            segments: Some(Segments {
                is_ipv6: false,
                headers: 54,
                size: 1460,
            }),
        };
        let expected = [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0];
        assert_eq!(header(&options), expected);
    }
}
