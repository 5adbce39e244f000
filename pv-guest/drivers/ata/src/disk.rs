//! A drive as its clients see it.

use alloc::sync::Arc;

use driver_api::{BlockDevice, BlockInfo, Completion, PortEnv, Refused, Request};

use crate::channel::{Channel, DEPTH};

/// A drive of a channel.
pub struct Disk<E: PortEnv> {
    channel: Arc<Channel<E>>,
    number: usize,
}

impl<E: PortEnv> Disk<E> {
    /// The drive with this number, 0 or 1. One that is not there has no sectors.
    pub fn new(channel: Arc<Channel<E>>, number: usize) -> Self {
        Self { channel, number }
    }
}

impl<E: PortEnv> BlockDevice<E::Dma> for Disk<E> {
    fn info(&self) -> BlockInfo {
        let drive = self.channel.drive(self.number);
        BlockInfo {
            sectors: drive.map_or(0, |drive| drive.sectors),
            // A drive does not say; a write that it aborts is an error.
            is_read_only: false,
            needs_flush: drive.is_some_and(|drive| drive.has_write_cache),
            max_discard: 0,
            max_write_zeroes: 0,
            depth: DEPTH,
        }
    }

    fn submit(
        &self,
        request: Request<E::Dma>,
        client: &Arc<dyn Completion<E::Dma>>,
    ) -> Result<(), Refused<E::Dma>> {
        self.channel.submit(self.number, request, client)
    }

    fn kick(&self) {
        self.channel.serve();
    }
}
