//! The half of a vhost-user device that answers for it. Called by the transport.

use std::path::Path;
use std::sync::Arc;

use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::{virtio_blk as blk, virtio_ids, virtio_net as net};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::link::{Link, VhostUserError};
use super::path::VhostUserPath;
use crate::device::{Activation, DataPath, Device, DeviceError, feature};
use crate::net::NetOptions;
use crate::queue::VirtQueue;

/// How many descriptors a queue has at most.
const QUEUE_SIZE: u16 = 256;
/// The queues of a network device: receive, transmit.
const NET_QUEUES: u16 = 2;
/// The length of a disk's configuration up to WRITE_ZEROES' fields (virtio 1.2, 5.2.4), in bytes.
const BLK_CONFIG: u32 = 60;
/// Where `num_queues` is there.
const BLK_NUM_QUEUES: std::ops::Range<usize> = 34..36;

const BLK_MQ: u64 = 1 << blk::VIRTIO_BLK_F_MQ;
/// What a disk may offer: all that is the driver's and the other process' affair alone, and has its
/// configuration in the first [`BLK_CONFIG`] bytes, which the driver only reads.
const BLK_FEATURES: u64 = feature::QUEUE
    | BLK_MQ
    | 1 << blk::VIRTIO_BLK_F_SIZE_MAX
    | 1 << blk::VIRTIO_BLK_F_SEG_MAX
    | 1 << blk::VIRTIO_BLK_F_GEOMETRY
    | 1 << blk::VIRTIO_BLK_F_RO
    | 1 << blk::VIRTIO_BLK_F_BLK_SIZE
    | 1 << blk::VIRTIO_BLK_F_FLUSH
    | 1 << blk::VIRTIO_BLK_F_TOPOLOGY
    | 1 << blk::VIRTIO_BLK_F_DISCARD
    | 1 << blk::VIRTIO_BLK_F_WRITE_ZEROES;
/// What a network may offer: as for a disk, without a control queue.
const NET_FEATURES: u64 = feature::QUEUE
    | 1 << net::VIRTIO_NET_F_CSUM
    | 1 << net::VIRTIO_NET_F_GUEST_CSUM
    | 1 << net::VIRTIO_NET_F_GUEST_TSO4
    | 1 << net::VIRTIO_NET_F_GUEST_TSO6
    | 1 << net::VIRTIO_NET_F_GUEST_ECN
    | 1 << net::VIRTIO_NET_F_GUEST_UFO
    | 1 << net::VIRTIO_NET_F_HOST_TSO4
    | 1 << net::VIRTIO_NET_F_HOST_TSO6
    | 1 << net::VIRTIO_NET_F_HOST_ECN
    | 1 << net::VIRTIO_NET_F_HOST_UFO
    | 1 << net::VIRTIO_NET_F_MRG_RXBUF;
/// What is answered here, without the other process.
const NET_OWN: u64 =
    1 << net::VIRTIO_NET_F_MAC | 1 << net::VIRTIO_NET_F_MTU | 1 << net::VIRTIO_NET_F_STATUS;

/// A device that another process serves.
pub struct VhostUser {
    link: Arc<Link>,
    device_type: u32,
    /// What the other process offers.
    theirs: u64,
    /// What the driver is offered.
    offered: u64,
    queue_sizes: Vec<u16>,
    config: Vec<u8>,
}

/// What a connection begins with.
struct Greeting {
    link: Link,
    theirs: u64,
}

impl VhostUser {
    /// The disk that the process at a socket serves, with this many queues; all else about it is what
    /// that process says.
    ///
    /// # Errors
    /// [`VhostUserError`], with the mend.
    pub fn disk(path: &Path, queues: u16) -> Result<VhostUser, VhostUserError> {
        let Greeting { link, theirs } = greet(path, queues, VhostUserProtocolFeatures::CONFIG)?;
        let blank = vec![0; BLK_CONFIG as usize];
        let flags = VhostUserConfigFlags::empty();
        let answer = link.exchange(|front| front.get_config(0, BLK_CONFIG, flags, &blank))?;
        let mut config = answer.1;
        if let Some(field) = config.get_mut(BLK_NUM_QUEUES) {
            field.copy_from_slice(&queues.to_le_bytes());
        }
        let several = match queues {
            1 => 0,
            _ => BLK_MQ,
        };
        Ok(VhostUser {
            link: Arc::new(link),
            device_type: virtio_ids::VIRTIO_ID_BLOCK,
            theirs,
            offered: theirs & (BLK_FEATURES & !BLK_MQ | several),
            queue_sizes: vec![QUEUE_SIZE; queues.into()],
            config,
        })
    }

    /// The network that the process at a socket serves; the address and the MTU are what is said here.
    ///
    /// # Errors
    /// [`VhostUserError`], with the mend.
    pub fn net(path: &Path, options: NetOptions) -> Result<VhostUser, VhostUserError> {
        let none = VhostUserProtocolFeatures::empty();
        let Greeting { link, theirs } = greet(path, NET_QUEUES, none)?;
        Ok(VhostUser {
            link: Arc::new(link),
            device_type: virtio_ids::VIRTIO_ID_NET,
            theirs,
            offered: theirs & NET_FEATURES | NET_OWN,
            queue_sizes: vec![QUEUE_SIZE; NET_QUEUES.into()],
            config: options.config().to_vec(),
        })
    }
}

/// Connect, and agree on how to talk. `needs`: what the device needs of the protocol beyond
/// acknowledgements, without which a refusal would pass unseen.
fn greet(
    path: &Path,
    queues: u16,
    needs: VhostUserProtocolFeatures,
) -> Result<Greeting, VhostUserError> {
    let link = Link::connect(path, queues)?;
    let theirs = link.exchange(|front| {
        front.set_owner()?;
        front.get_features()
    })?;
    let lacks = |what| VhostUserError::Lacks {
        path: path.to_owned(),
        what,
    };
    if theirs & feature::VERSION_1 == 0 {
        return Err(lacks("VIRTIO_F_VERSION_1"));
    }
    if theirs & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
        return Err(lacks("VHOST_USER_F_PROTOCOL_FEATURES"));
    }
    let has = link.exchange(|front| front.get_protocol_features())?;
    if !has.contains(VhostUserProtocolFeatures::REPLY_ACK) {
        return Err(lacks("VHOST_USER_PROTOCOL_F_REPLY_ACK"));
    }
    if !has.contains(needs) {
        return Err(lacks("VHOST_USER_PROTOCOL_F_CONFIG"));
    }
    let wanted = VhostUserProtocolFeatures::REPLY_ACK | needs;
    let several = has & VhostUserProtocolFeatures::MQ;
    let count = link.exchange(|front| {
        front.set_protocol_features(wanted | several)?;
        front.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        match several.is_empty() {
            true => Ok(None),
            false => front.get_queue_num().map(Some),
        }
    })?;
    // Without MQ, what every device of the type has: a disk one, a network two.
    let has = count.unwrap_or(match needs.is_empty() {
        true => NET_QUEUES.into(),
        false => 1,
    });
    if has < u64::from(queues) {
        return Err(VhostUserError::Queues {
            path: path.to_owned(),
            has,
            wanted: queues,
        });
    }
    Ok(Greeting { link, theirs })
}

impl Device for VhostUser {
    fn device_type(&self) -> u32 {
        self.device_type
    }

    fn features(&self) -> u64 {
        self.offered
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn gives_doorbells_away(&self) -> bool {
        true
    }

    fn read_config(&self, offset: u64, into: &mut [u8]) {
        crate::memory::read_config(&self.config, offset, into);
    }

    fn activate(&mut self, activation: Activation) -> Result<Box<dyn DataPath>, DeviceError> {
        let Activation {
            memory,
            features,
            queues,
            doorbells,
        } = activation;
        let host = |source| DeviceError::Host {
            what: "an eventfd for interrupts",
            source,
        };
        let calls = queues.iter().map(|_| EventFd::new(EFD_NONBLOCK));
        let calls = calls.collect::<Result<Vec<_>, _>>().map_err(host)?;
        let private = |_| VhostUserError::Private {
            path: self.link.path(),
        };
        let regions = memory
            .iter()
            .map(VhostUserMemoryRegionInfo::from_guest_region);
        let regions = regions.collect::<Result<Vec<_>, _>>().map_err(private)?;
        // The driver's, without what is answered here; and the protocol's own, which no driver sees.
        let agreed = features & self.theirs | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        let places = || queues.iter().zip(&doorbells).zip(&calls).enumerate();
        let ready = || places().filter(|(_, ((queue, _), _))| queue.is_ready());
        self.link.exchange(|front| {
            front.set_features(agreed)?;
            front.set_mem_table(&regions)?;
            for (index, ((queue, doorbell), call)) in ready() {
                start(front, &memory, index, queue, doorbell, call)?;
            }
            ready().try_for_each(|(index, _)| front.set_vring_enable(index, true))
        })?;
        for (_, ((_, doorbell), _)) in ready() {
            // The driver may have filled queues before DRIVER_OK, without a doorbell that counts. A full
            // counter rings already.
            let _ = doorbell.write(1);
        }
        let link = Arc::clone(&self.link);
        Ok(Box::new(VhostUserPath::new(link, queues, calls)))
    }
}

/// Tell the other process of a queue, from its beginning.
fn start(
    front: &Frontend,
    memory: &GuestMemoryMmap,
    index: usize,
    queue: &VirtQueue,
    doorbell: &EventFd,
    call: &EventFd,
) -> vhost::Result<()> {
    // The protocol names rings by this process' addresses; the transport checked that they are memory.
    let [descriptors, available, used] = queue.parts().map(|at| {
        let host = memory.get_host_address(at);
        host.map(|host| host as u64)
            .map_err(|_| vhost::Error::DescriptorTableAddress)
    });
    front.set_vring_num(index, queue.size())?;
    let rings = VringConfigData {
        queue_max_size: QUEUE_SIZE,
        queue_size: queue.size(),
        flags: 0,
        desc_table_addr: descriptors?,
        used_ring_addr: used?,
        avail_ring_addr: available?,
        log_addr: None,
    };
    front.set_vring_addr(index, &rings)?;
    front.set_vring_base(index, 0)?;
    front.set_vring_call(index, call)?;
    front.set_vring_kick(index, doorbell)
}
