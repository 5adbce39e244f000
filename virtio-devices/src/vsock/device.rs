//! The half of a socket device that answers for it. Called by the transport, and by who has lost the
//! guest's connections.

use std::path::Path;
use std::sync::Arc;

use virtio_bindings::virtio_ids;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::host::{Entrance, VsockError, check_cid};
use super::path::VsockPath;
use super::table::Table;
use crate::device::{Activation, DataPath, Device, DeviceError, feature};

/// How many descriptors the queues have at most: receive, transmit, event (5.10.2).
const QUEUE_SIZES: [u16; 3] = [256, 256, 16];
/// VIRTIO_VSOCK_F_STREAM (5.10.3).
const STREAM: u64 = 1 << 0;

/// A socket device.
pub struct Vsock {
    cid: u64,
    entrance: Arc<Entrance>,
    wake: Arc<EventFd>,
}

/// Tells a guest that its connections are gone; callable from any thread.
#[derive(Clone)]
pub struct Handle(Arc<EventFd>);

impl Handle {
    /// Every connection is gone, as after a restore on another host: the guest is told by an event
    /// (5.10.6.7), and its sockets get errors.
    pub fn lose_connections(&self) {
        // A full counter wakes the device already.
        let _ = self.0.write(1);
    }
}

impl Vsock {
    /// A device for the guest with context identifier `cid`, with its socket at `path`.
    ///
    /// # Errors
    /// [`VsockError`]; its text names the path or the identifier, and the mend.
    pub fn new(cid: u64, path: &Path) -> Result<Vsock, VsockError> {
        check_cid(cid)?;
        let wake = EventFd::new(EFD_NONBLOCK).map_err(|source| VsockError::Listen {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Vsock {
            cid,
            entrance: Arc::new(Entrance::open(path)?),
            wake: Arc::new(wake),
        })
    }

    /// How to tell the guest that its connections are gone.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.wake))
    }
}

impl Device for Vsock {
    fn device_type(&self) -> u32 {
        virtio_ids::VIRTIO_ID_VSOCK
    }

    fn features(&self) -> u64 {
        feature::QUEUE | STREAM
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    /// The guest's context identifier (5.10.4).
    fn read_config(&self, offset: u64, into: &mut [u8]) {
        crate::memory::read_config(&self.cid.to_le_bytes(), offset, into);
    }

    fn activate(&mut self, activation: Activation) -> Result<Box<dyn DataPath>, DeviceError> {
        let refused = |source| DeviceError::Host {
            what: "a socket device's descriptors",
            source,
        };
        let wake = self.wake.try_clone().map_err(refused)?;
        let table = Table::new(self.cid, Arc::clone(&self.entrance), wake).map_err(refused)?;
        Ok(Box::new(VsockPath::new(
            activation.memory,
            activation.queues,
            table,
        )))
    }
}
