//! Frames between a network device and smoltcp. What the device has no room for waits here, so that
//! smoltcp's answers to what it receives are not lost.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroUsize;

use driver_api::{ETHERNET_HEADER, NetDevice, NetError, NetInfo, Segments, SendOptions};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::time::Instant;

use crate::checks;
use crate::error::NetFail;
use crate::neighbours::Neighbours;

/// The most frames that wait for the device. Only answers to frames that came can make them so many.
const WAITING_MOST: usize = 64;
/// The longest frame that is given to a device to be cut, in bytes: as much as pays.
const CUT_MOST: usize = 64 << 10;
/// Bytes at a frame's beginning that may be left as they were by whoever fills it.
const HEADERS: usize = 256;

/// What did not pass a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounts {
    /// Frames that came with a wrong checksum.
    pub bad_checksums: u64,
    /// Frames that the device did not take.
    pub refused: u64,
}

/// A device, as smoltcp sees it.
pub struct Port {
    incoming: Vec<u8>,
    out: Outgoing,
}

/// The sending half.
struct Outgoing {
    device: Arc<dyn NetDevice>,
    info: NetInfo,
    scratch: Vec<u8>,
    waiting: VecDeque<(Vec<u8>, SendOptions)>,
    neighbours: Neighbours,
    counts: PortCounts,
}

impl Port {
    /// A port of a device.
    ///
    /// # Errors
    /// [`NetFail::NoMemory`].
    pub fn new(device: Arc<dyn NetDevice>) -> Result<Self, NetFail> {
        let info = device.info();
        let longest_out = longest_out(&info);
        Ok(Self {
            incoming: zeros(info.longest)?,
            out: Outgoing {
                device,
                info,
                scratch: zeros(longest_out)?,
                waiting: VecDeque::new(),
                neighbours: Neighbours::default(),
                counts: PortCounts::default(),
            },
        })
    }

    /// The device.
    pub fn device(&self) -> &Arc<dyn NetDevice> {
        &self.out.device
    }

    /// Who does not answer.
    pub fn neighbours(&mut self) -> &mut Neighbours {
        &mut self.out.neighbours
    }

    /// What did not pass.
    pub fn counts(&self) -> PortCounts {
        self.out.counts
    }

    /// Give the device what waits, as far as it has room.
    pub fn retry(&mut self) {
        self.out.retry();
    }

    /// Whether frames wait for the device.
    pub fn is_short(&self) -> bool {
        !self.out.waiting.is_empty()
    }

    /// Tell the device of what it was given.
    pub fn kick(&self) {
        self.out.device.kick();
    }
}

/// Memory, or an error where an allocation would end the kernel.
pub fn zeros(len: usize) -> Result<Vec<u8>, NetFail> {
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(len)
        .map_err(|_| NetFail::NoMemory)?;
    bytes.resize(len, 0);
    Ok(bytes)
}

fn longest_out(info: &NetInfo) -> usize {
    let plain = ETHERNET_HEADER + usize::from(info.mtu);
    plain.max(cut_most(info))
}

/// The longest frame that the device is given to cut; 0 when it cuts none.
fn cut_most(info: &NetInfo) -> usize {
    let is_able = info.offloads.checksum;
    let most = info.offloads.tcp4_most.min(CUT_MOST);
    if is_able { most } else { 0 }
}

impl Outgoing {
    fn retry(&mut self) {
        while let Some((frame, options)) = self.waiting.front() {
            match self.device.send(frame, options) {
                Err(NetError::Busy) => return,
                Ok(()) => {}
                Err(_) => self.counts.refused += 1,
            }
            self.waiting.pop_front();
        }
    }

    fn send(&mut self, len: usize, segment: Option<u16>) {
        let Some(frame) = self.scratch.get_mut(..len) else {
            self.counts.refused += 1;
            return;
        };
        self.neighbours.sent(frame);
        let mut options = SendOptions::default();
        if self.info.offloads.checksum
            && let Some((checksum, headers)) = checks::leave_to_device(frame)
        {
            options.checksum = Some(checksum);
            options.segments = segment.map(|size| Segments {
                is_ipv6: false,
                headers: headers as u16,
                size,
            });
        }
        // Frames keep their order.
        let sent = match self.waiting.is_empty() {
            true => self.device.send(frame, &options),
            false => Err(NetError::Busy),
        };
        match sent {
            Ok(()) => {}
            Err(NetError::Busy) if self.waiting.len() < WAITING_MOST => {
                // Without memory the frame is lost, as on a wire.
                let mut copy = Vec::new();
                if copy.try_reserve_exact(len).is_ok() {
                    copy.extend_from_slice(frame);
                    self.waiting.push_back((copy, options));
                }
            }
            Err(_) => self.counts.refused += 1,
        }
    }
}

impl Device for Port {
    type RxToken<'a> = Incoming<'a>;
    type TxToken<'a> = Slot<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Slot<'_>)> {
        let len = loop {
            let frame = self.out.device.receive(&mut self.incoming)?;
            let bytes = self.incoming.get(..frame.len).unwrap_or_default();
            if frame.is_checked || checks::is_right(bytes) {
                break frame.len;
            }
            self.out.counts.bad_checksums += 1;
        };
        let frame = self.incoming.get(..len).unwrap_or_default();
        self.out.neighbours.received(frame);
        Some((Incoming(frame), Slot::of(&mut self.out)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Slot<'_>> {
        self.out.waiting.is_empty().then(|| Slot::of(&mut self.out))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let info = &self.out.info;
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = ETHERNET_HEADER + usize::from(info.mtu);
        // What comes was checked: by the device, or by `receive`.
        capabilities.checksum.udp = Checksum::Tx;
        capabilities.checksum.tcp = match info.offloads.checksum {
            true => Checksum::None,
            false => Checksum::Tx,
        };
        capabilities.segmentation.tcpv4 = NonZeroUsize::new(cut_most(info));
        capabilities
    }
}

/// A frame that came.
pub struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        work(self.0)
    }
}

/// The right to send a frame.
pub struct Slot<'a> {
    out: &'a mut Outgoing,
    segment: Option<u16>,
}

impl<'a> Slot<'a> {
    fn of(out: &'a mut Outgoing) -> Self {
        let segment = None;
        Self { out, segment }
    }
}

impl TxToken for Slot<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, work: F) -> R {
        let scratch = &mut self.out.scratch;
        // smoltcp keeps to what `capabilities` says; a longer frame is made, and then refused.
        if len > scratch.len() {
            let mut frame = alloc::vec![0; len];
            let result = work(&mut frame);
            self.out.counts.refused += 1;
            return result;
        }
        let frame = scratch.get_mut(..len).unwrap_or_default();
        // Bytes that nobody writes must not be those of another frame.
        if let Some(headers) = frame.get_mut(..len.min(HEADERS)) {
            headers.fill(0);
        }
        let result = work(frame);
        self.out.send(len, self.segment);
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment = meta.segmentation_offload_size.map(|size| size.get());
    }
}
