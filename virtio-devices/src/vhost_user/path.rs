//! What is left of a data path whose queues another process serves: its interrupts, and its end. Called by
//! the worker. Never reads a queue.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use vhost::VhostBackend;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use super::link::Link;
use crate::device::{DataPath, DeviceError, Served};
use crate::queue::VirtQueue;

/// See the module.
pub(super) struct VhostUserPath {
    link: Arc<Link>,
    queues: Vec<VirtQueue>,
    /// What the other process signals for used buffers, a queue each. Never read: the other process has
    /// them too, and could empty one in between and have a read wait; an edge is enough.
    calls: Vec<EventFd>,
}

impl VhostUserPath {
    pub fn new(link: Arc<Link>, queues: Vec<VirtQueue>, calls: Vec<EventFd>) -> Self {
        VhostUserPath {
            link,
            queues,
            calls,
        }
    }

    /// Have the other process use a queue no more; it answers when nothing of it is in flight.
    fn stop(&mut self, queue: usize) -> Result<(), DeviceError> {
        let Some(queue_ready) = self.queues.get_mut(queue).filter(|queue| queue.is_ready()) else {
            return Ok(());
        };
        queue_ready.disable();
        self.link.exchange(|front| front.get_vring_base(queue))?;
        Ok(())
    }
}

impl DataPath for VhostUserPath {
    /// The other process hears doorbells by itself.
    fn notify(&mut self, _: usize) -> Result<Served, DeviceError> {
        Ok(Served::default())
    }

    fn queues(&mut self) -> &mut [VirtQueue] {
        &mut self.queues
    }

    fn fds(&self) -> Vec<RawFd> {
        let calls = self.calls.iter().map(AsRawFd::as_raw_fd);
        std::iter::once(self.link.fd()).chain(calls).collect()
    }

    fn interest(&self, fd: usize) -> EventSet {
        match fd {
            0 => EventSet::READ_HANG_UP | EventSet::HANG_UP,
            _ => EventSet::IN | EventSet::EDGE_TRIGGERED,
        }
    }

    fn ready(&mut self, fd: usize) -> Result<Served, DeviceError> {
        match fd {
            0 => Err(self.link.gone().into()),
            _ => Ok(Served {
                interrupt: true,
                ..Served::default()
            }),
        }
    }

    fn disable(&mut self, queue: usize) -> Result<Served, DeviceError> {
        self.stop(queue)?;
        // Its last signal may still wait; one interrupt too many is no harm.
        Ok(Served {
            interrupt: true,
            ..Served::default()
        })
    }

    fn drain(&mut self) -> Result<Served, DeviceError> {
        for queue in 0..self.queues.len() {
            self.stop(queue)?;
        }
        Ok(Served::default())
    }
}
