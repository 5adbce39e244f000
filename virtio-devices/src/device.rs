//! What a transport and its worker need of a device (virtio 1.2, 2: Basic Facilities of a Virtio
//! Device). It never names a transport.
//!
//! A device is two halves. The [`Device`] stays with the transport and answers for its features and
//! its configuration, on the vCPU's thread. The [`DataPath`], which each activation makes anew,
//! belongs to the worker thread. So no lock is on the data path, and a read of the configuration
//! never waits for I/O. What both halves need, they share as the device sees fit.

use std::os::fd::RawFd;
use std::sync::Arc;

use virtio_bindings::{virtio_config, virtio_ring};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use crate::chain::ChainError;
use crate::queue::VirtQueue;
use crate::vhost_user::VhostUserError;

/// Feature bits that belong to no device type (virtio 1.2, 6: Reserved Feature Bits).
pub mod feature {
    use super::{virtio_config, virtio_ring};

    /// VIRTIO_F_VERSION_1: required of every driver.
    pub const VERSION_1: u64 = 1 << virtio_config::VIRTIO_F_VERSION_1;
    /// VIRTIO_F_INDIRECT_DESC.
    pub const INDIRECT_DESC: u64 = 1 << virtio_ring::VIRTIO_RING_F_INDIRECT_DESC;
    /// VIRTIO_F_EVENT_IDX.
    pub const EVENT_IDX: u64 = 1 << virtio_ring::VIRTIO_RING_F_EVENT_IDX;
    /// What [`VirtQueue`](crate::VirtQueue) does for every device.
    pub const QUEUE: u64 = VERSION_1 | INDIRECT_DESC | EVENT_IDX;
}

/// Why a device cannot go on; the transport then sets DEVICE_NEEDS_RESET (virtio 1.2, 2.1.2).
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The driver broke the rules of a queue.
    #[error("queue {queue}: {what}")]
    Queue {
        /// The queue's index.
        queue: usize,
        /// Which rule.
        what: ChainError,
    },
    /// A chain of descriptors is no request of this device, and has no room to say so.
    #[error("queue {queue}: {what}")]
    Request {
        /// The queue's index.
        queue: usize,
        /// What is wrong, as a sentence fragment.
        what: &'static str,
    },
    /// The host refused what the data path needs.
    #[error("the host refused {what}")]
    Host {
        /// What was asked for.
        what: &'static str,
        /// The host's reason.
        source: std::io::Error,
    },
    /// The process that serves the device does not.
    #[error(transparent)]
    VhostUser(#[from] VhostUserError),
}

/// What an activated device works with.
pub struct Activation {
    /// The guest's memory.
    pub memory: GuestMemoryMmap,
    /// The features that driver and device agreed on, as bits.
    pub features: u64,
    /// Every queue of the device, in its order; one that the driver left out never has a request.
    pub queues: Vec<VirtQueue>,
    /// A doorbell for each queue; only who [gives them away](Device::gives_doorbells_away) needs them.
    pub doorbells: Vec<EventFd>,
}

/// Tells the driver that the configuration has changed; callable from any thread.
pub type ConfigChanged = Arc<dyn Fn() + Send + Sync>;

/// The half of a virtio device that stays with the transport.
///
/// A transport negotiates features, then activates the device with its queues. A reset may come at
/// any time: the data path is drained and dropped, then [`Device::reset`] is called.
pub trait Device: Send {
    /// The device's type (virtio 1.2, 5: Device Types).
    fn device_type(&self) -> u32;

    /// The features that the device offers, as bits.
    fn features(&self) -> u64;

    /// The largest size of each queue, in descriptors; powers of two up to 32768.
    fn queue_sizes(&self) -> &[u16];

    /// Whether the driver's buffers are filled, as a disk's are, so that limits count their room when
    /// the request is taken. Where they may stay empty, as a network's, what was written counts.
    fn fills_buffers(&self) -> bool {
        true
    }

    /// Whether another process waits for the doorbells, once activated: the worker then hears none of
    /// them, and nobody here reads them, which could wait for ever.
    fn gives_doorbells_away(&self) -> bool {
        false
    }

    /// Read device configuration space; bytes beyond its end read as zero.
    fn read_config(&self, offset: u64, into: &mut [u8]);

    /// Write device configuration space; a write that the device does not take is ignored.
    fn write_config(&mut self, offset: u64, from: &[u8]) {
        let _ = (offset, from);
    }

    /// How to tell the driver of changes of the configuration; called once, by the transport.
    fn on_config_change(&mut self, tell: ConfigChanged) {
        let _ = tell;
    }

    /// Make the data path, with the features that were agreed on and the queues that were set up.
    ///
    /// # Errors
    /// [`DeviceError::Host`] when the host refuses what the data path needs.
    fn activate(&mut self, activation: Activation) -> Result<Box<dyn DataPath>, DeviceError>;

    /// Forget the driver; its data path is gone already.
    fn reset(&mut self) {}
}

/// What a step of the data path leaves to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// The driver wants an interrupt for used buffers.
    pub interrupt: bool,
    /// Requests are left, beyond what one step may take: call again, after other events.
    pub again: bool,
    /// Bytes of payload that this process copied.
    pub copied: u64,
}

impl std::ops::BitOrAssign for Served {
    fn bitor_assign(&mut self, other: Served) {
        self.interrupt |= other.interrupt;
        self.again |= other.again;
        self.copied += other.copied;
    }
}

/// The half of an activated device that the worker owns. Dropping it ends all of its I/O.
pub trait DataPath: Send {
    /// A queue's doorbell rang. Takes a bounded number of requests.
    ///
    /// # Errors
    /// [`DeviceError`]: the device does nothing more until a reset.
    fn notify(&mut self, queue: usize) -> Result<Served, DeviceError>;

    /// The queues, in the device's order.
    fn queues(&mut self) -> &mut [VirtQueue];

    /// File descriptors that the device waits for, its own until it is dropped; asked for once.
    fn fds(&self) -> Vec<RawFd> {
        Vec::new()
    }

    /// What to wait for at a file descriptor, by its place in [`DataPath::fds`]; asked for after each
    /// step. Empty: nothing, not even that the other end is gone.
    fn interest(&self, fd: usize) -> EventSet {
        let _ = fd;
        EventSet::IN
    }

    /// A file descriptor, by its place in [`DataPath::fds`], is as [`DataPath::interest`] wants it.
    ///
    /// # Errors
    /// As [`DataPath::notify`].
    fn ready(&mut self, fd: usize) -> Result<Served, DeviceError> {
        let _ = fd;
        Ok(Served::default())
    }

    /// Wait until nothing is in flight, and give it back to the driver.
    ///
    /// # Errors
    /// As [`DataPath::notify`].
    fn drain(&mut self) -> Result<Served, DeviceError> {
        Ok(Served::default())
    }

    /// Use a queue no more, once nothing of it is in flight.
    ///
    /// # Errors
    /// As [`DataPath::notify`].
    fn disable(&mut self, queue: usize) -> Result<Served, DeviceError> {
        let served = self.drain();
        if let Some(queue) = self.queues().get_mut(queue) {
            queue.disable();
        }
        served
    }
}
