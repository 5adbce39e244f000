//! The half of a network device that answers for it. Called by the transport.

use std::sync::Arc;

use virtio_bindings::{virtio_ids, virtio_net as net};

use super::backend::{Carrier, Offloads};
use super::path::NetPath;
use super::{HEADER_LEN, LONGEST};
use crate::device::{Activation, DataPath, Device, DeviceError, feature};

/// How many descriptors the queues have at most: receive, transmit, control (5.1.2).
const QUEUE_SIZES: [u16; 3] = [256, 256, 16];
/// The length of an Ethernet header.
const ETHERNET: usize = 14;
/// The MTU where nothing else was said.
const MTU: u16 = 1500;

const MERGED: u64 = 1 << net::VIRTIO_NET_F_MRG_RXBUF;
const GUEST_CSUM: u64 = 1 << net::VIRTIO_NET_F_GUEST_CSUM;
const GUEST_TSO4: u64 = 1 << net::VIRTIO_NET_F_GUEST_TSO4;
const GUEST_TSO6: u64 = 1 << net::VIRTIO_NET_F_GUEST_TSO6;
const GUEST_ECN: u64 = 1 << net::VIRTIO_NET_F_GUEST_ECN;
const ALWAYS: u64 = feature::QUEUE
    | MERGED
    | 1 << net::VIRTIO_NET_F_MAC
    | 1 << net::VIRTIO_NET_F_MTU
    | 1 << net::VIRTIO_NET_F_STATUS
    | 1 << net::VIRTIO_NET_F_CTRL_VQ
    | 1 << net::VIRTIO_NET_F_CTRL_RX;
const OFFLOADS: u64 = GUEST_CSUM
    | GUEST_TSO4
    | GUEST_TSO6
    | GUEST_ECN
    | 1 << net::VIRTIO_NET_F_CSUM
    | 1 << net::VIRTIO_NET_F_HOST_TSO4
    | 1 << net::VIRTIO_NET_F_HOST_TSO6
    | 1 << net::VIRTIO_NET_F_HOST_ECN;

/// What a driver is told.
#[derive(Clone, Copy, Debug)]
pub struct NetOptions {
    /// The device's address.
    pub mac: [u8; 6],
    /// The largest packet in a frame, in bytes: 68 or more (5.1.4.1), and what the carrier keeps to.
    /// Longer frames, without segmentation offload, may be cut.
    pub mtu: u16,
}

impl NetOptions {
    /// An address, and the MTU of Ethernet.
    #[must_use]
    pub fn new(mac: [u8; 6]) -> NetOptions {
        NetOptions { mac, mtu: MTU }
    }

    /// Address, status (the link is up), pairs of queues, MTU (5.1.4).
    pub(crate) fn config(&self) -> [u8; 12] {
        let [a, b, c, d, e, f] = self.mac;
        let [low, high] = self.mtu.to_le_bytes();
        let up = net::VIRTIO_NET_S_LINK_UP as u8;
        [a, b, c, d, e, f, up, 0, 1, 0, low, high]
    }
}

/// A network device.
pub struct Net {
    carrier: Arc<dyn Carrier>,
    options: NetOptions,
}

impl Net {
    /// A device whose frames are carried.
    #[must_use]
    pub fn new(carrier: Arc<dyn Carrier>, options: NetOptions) -> Net {
        Net { carrier, options }
    }

    /// How long a frame may be that the driver has to be ready for, with its header (5.1.6.3.1).
    fn longest(&self, features: u64) -> usize {
        if features & (GUEST_TSO4 | GUEST_TSO6) != 0 {
            return LONGEST;
        }
        HEADER_LEN + ETHERNET + usize::from(self.options.mtu.max(MTU))
    }
}

impl Device for Net {
    fn device_type(&self) -> u32 {
        virtio_ids::VIRTIO_ID_NET
    }

    fn features(&self) -> u64 {
        match self.carrier.has_offloads() {
            true => ALWAYS | OFFLOADS,
            false => ALWAYS,
        }
    }

    fn fills_buffers(&self) -> bool {
        false
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, into: &mut [u8]) {
        crate::memory::read_config(&self.options.config(), offset, into);
    }

    fn activate(&mut self, activation: Activation) -> Result<Box<dyn DataPath>, DeviceError> {
        let has = |feature| activation.features & feature != 0;
        let offloads = Offloads {
            checksum: has(GUEST_CSUM),
            tso4: has(GUEST_TSO4),
            tso6: has(GUEST_TSO6),
            ecn: has(GUEST_ECN),
        };
        let set = self.carrier.set_offloads(offloads);
        set.map_err(|source| DeviceError::Host {
            what: "what the driver leaves to the network",
            source,
        })?;
        let longest = self.longest(activation.features);
        let carrier = Arc::clone(&self.carrier);
        let is_merging = has(MERGED);
        Ok(Box::new(NetPath::new(
            activation.memory,
            activation.queues,
            carrier,
            longest,
            is_merging,
        )))
    }
}
