//! virtio-rng (virtio 1.2, 5.4): buffers of random bytes, from the host's generator.

use std::fs::File;
use std::io;

use virtio_queue::Queue;
use vm_memory::{Bytes, GuestMemoryMmap};

use crate::chain::Chain;
use crate::device::{Device, DeviceError, Queues, check_activation};
use crate::{EVENT_IDX, INDIRECT_DESC, queue};

/// The device's type.
const TYPE: u32 = 4;
const SIZES: &[u16] = &[256];

/// The source.
#[derive(Debug)]
pub struct Rng {
    source: File,
    active: Option<(GuestMemoryMmap, Queue)>,
}

impl Rng {
    /// One that draws from `/dev/urandom`.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            source: File::open("/dev/urandom")?,
            active: None,
        })
    }
}

impl Device for Rng {
    fn device_type(&self) -> u32 {
        TYPE
    }

    fn features(&self) -> u64 {
        EVENT_IDX | INDIRECT_DESC
    }

    fn queue_sizes(&self) -> &[u16] {
        SIZES
    }

    fn read_config(&self, _: u64, _: &mut [u8]) {}

    fn activate(
        &mut self,
        memory: GuestMemoryMmap,
        features: u64,
        mut queues: Queues,
    ) -> Result<(), DeviceError> {
        check_activation(self, features, &queues)?;
        self.active = queues.pop().map(|queue| (memory, queue));
        Ok(())
    }

    fn notify(&mut self, number: usize) -> Result<bool, DeviceError> {
        let source = &mut self.source;
        let Some((memory, queue)) = &mut self.active else {
            return Ok(false);
        };
        queue::serve(number, queue, memory, |chain: &Chain| {
            let mut written = 0;
            for buffer in &chain.writable {
                let read = memory.read_exact_volatile_from(buffer.at, source, buffer.len);
                read.map_err(|_| "random bytes cannot be written")?;
                written += buffer.len as u32;
            }
            Ok(written)
        })
    }

    fn reset(&mut self) {
        self.active = None;
    }
}
