//! The data path of a network device. Runs on the worker's thread.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use virtio_bindings::virtio_net::{
    VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, VIRTIO_NET_CTRL_RX_PROMISC, VIRTIO_NET_ERR,
    VIRTIO_NET_OK,
};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;

use super::HEADER_LEN;
use super::backend::Carrier;
use super::receive::{Receive, Received};
use crate::chain::{Chain, copy_from, copy_to, total};
use crate::device::{DataPath, DeviceError, Served};
use crate::queue::VirtQueue;
use crate::raw_io::IoVecs;

/// The queues (5.1.2).
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const CONTROL: usize = 2;
/// The most frames of one step, so that no flood keeps the worker from a reset.
const STEP: usize = 64;

/// See the module.
pub(super) struct NetPath {
    memory: GuestMemoryMmap,
    queues: Vec<VirtQueue>,
    carrier: Arc<dyn Carrier>,
    receive: Receive,
    transmit: Transmit,
    control: Chain,
}

/// Frames from the driver.
struct Transmit {
    io: IoVecs,
    chain: Chain,
    /// The chain waits for room at the carrier.
    has_chain: bool,
}

impl NetPath {
    pub fn new(
        memory: GuestMemoryMmap,
        queues: Vec<VirtQueue>,
        carrier: Arc<dyn Carrier>,
        longest: usize,
        is_merging: bool,
    ) -> Self {
        NetPath {
            receive: Receive::new(memory.clone(), longest, is_merging),
            transmit: Transmit {
                io: IoVecs::new(memory.clone()),
                chain: Chain::default(),
                has_chain: false,
            },
            control: Chain::default(),
            memory,
            queues,
            carrier,
        }
    }

    fn receive(&mut self) -> Result<Served, DeviceError> {
        let (receive, carrier) = (&mut self.receive, &*self.carrier);
        step(self.queues.get_mut(RECEIVE), |queue| {
            Ok(receive.frame(queue, carrier)? == Received::Frame)
        })
    }

    fn transmit(&mut self) -> Result<Served, DeviceError> {
        let (transmit, carrier) = (&mut self.transmit, &*self.carrier);
        step(self.queues.get_mut(TRANSMIT), |queue| {
            transmit.frame(queue, carrier)
        })
    }

    /// Commands (5.1.6.5): a tap delivers what comes, so every filter is as open as can be.
    fn control(&mut self) -> Result<Served, DeviceError> {
        let memory = &self.memory;
        let Some(queue) = self.queues.get_mut(CONTROL) else {
            return Ok(Served::default());
        };
        queue.serve(&mut self.control, |queue, chain| {
            let mut command = [0; 3];
            let count = copy_from(memory, &chain.readable, &mut command);
            let [class, what, _] = command.map(u32::from);
            let is_known = class == VIRTIO_NET_CTRL_RX
                && matches!(
                    what,
                    VIRTIO_NET_CTRL_RX_PROMISC | VIRTIO_NET_CTRL_RX_ALLMULTI
                );
            let is_whole = count == command.len() && total(&chain.readable) == 3;
            let answer = if is_known && is_whole {
                VIRTIO_NET_OK
            } else {
                VIRTIO_NET_ERR
            };
            let written = copy_to(memory, &chain.writable, &[answer as u8]);
            if written == 0 {
                let what = "a command has no room for its answer";
                return Err(DeviceError::Request {
                    queue: CONTROL,
                    what,
                });
            }
            queue.push_used(chain.head, 1)?;
            Ok(true)
        })
    }
}

impl Transmit {
    /// Put one frame out; returns whether there was one, and room for it.
    fn frame(&mut self, queue: &mut VirtQueue, carrier: &dyn Carrier) -> Result<bool, DeviceError> {
        if !queue.is_ready() {
            self.has_chain = false;
            return Ok(false);
        }
        while !self.has_chain {
            self.has_chain = queue.pop(&mut self.chain)?;
            // A chain may have come while doorbells were off: then look again.
            if !self.has_chain && !queue.arm()? {
                return Ok(false);
            }
        }
        // Less than a header is no frame, and is lost like one that the carrier refuses.
        if total(&self.chain.readable) > HEADER_LEN as u64 {
            let set = self.io.set(&self.chain.readable);
            set.map_err(|error| queue.broken(error.into()))?;
            match carrier.send(&self.io) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Ok(()) | Err(_) => {}
            }
        }
        self.has_chain = false;
        queue.push_used(self.chain.head, 0)?;
        Ok(true)
    }
}

/// Move frames until there is none, or there were many.
fn step(
    queue: Option<&mut VirtQueue>,
    mut frame: impl FnMut(&mut VirtQueue) -> Result<bool, DeviceError>,
) -> Result<Served, DeviceError> {
    let Some(queue) = queue else {
        return Ok(Served::default());
    };
    let mut count = 0;
    while count < STEP && frame(queue)? {
        count += 1;
    }
    queue.served(count > 0, count == STEP)
}

impl DataPath for NetPath {
    fn notify(&mut self, queue: usize) -> Result<Served, DeviceError> {
        match queue {
            RECEIVE => self.receive(),
            TRANSMIT => self.transmit(),
            CONTROL => self.control(),
            _ => Ok(Served::default()),
        }
    }

    fn queues(&mut self) -> &mut [VirtQueue] {
        &mut self.queues
    }

    fn fds(&self) -> Vec<RawFd> {
        vec![self.carrier.fd()]
    }

    /// Frames only while there are buffers, room only while a frame waits for it.
    fn interest(&self, _: usize) -> EventSet {
        let mut events = EventSet::empty();
        events.set(EventSet::IN, self.receive.wants_frame());
        events.set(EventSet::OUT, self.transmit.has_chain);
        events
    }

    fn ready(&mut self, _: usize) -> Result<Served, DeviceError> {
        let mut served = self.receive()?;
        served |= self.transmit()?;
        Ok(served)
    }
}
