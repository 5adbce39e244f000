//! A device that gives back what it is given, so that registers, queues and worker are all there is.

use std::io;

use fastrand::Rng;
use virtio_devices::chain::{Chain, copy_from, copy_to, total};
use virtio_devices::device::feature;
use virtio_devices::{Activation, DataPath, Device, DeviceError, Served, VirtQueue, memory};
use vm_memory::GuestMemoryMmap;

use crate::tally::Tally;
use crate::virtio::driver::Driver;
use crate::virtio::layout::BUFFERS;
use crate::virtio::maker::{Maker, Request};
use crate::virtio::plan::Mark;

/// What cases should come to.
pub const OUTCOMES: &[&str] = &["echoed"];

/// See the module.
pub struct Subject;

/// The most bytes of one request.
const MOST: usize = 4096;

struct Echo {
    config: [u8; 24],
}

impl Device for Echo {
    fn device_type(&self) -> u32 {
        42
    }

    fn features(&self) -> u64 {
        feature::QUEUE | 0b101
    }

    fn queue_sizes(&self) -> &[u16] {
        &[16, 128, 1]
    }

    fn read_config(&self, offset: u64, into: &mut [u8]) {
        memory::read_config(&self.config, offset, into);
    }

    fn write_config(&mut self, offset: u64, from: &[u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (byte, value) in self.config.iter_mut().skip(start).zip(from) {
            *byte = *value;
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<Box<dyn DataPath>, DeviceError> {
        Ok(Box::new(EchoPath {
            memory: activation.memory,
            queues: activation.queues,
            chain: Chain::default(),
        }))
    }
}

struct EchoPath {
    memory: GuestMemoryMmap,
    queues: Vec<VirtQueue>,
    chain: Chain,
}

impl DataPath for EchoPath {
    fn notify(&mut self, queue: usize) -> Result<Served, DeviceError> {
        let memory = &self.memory;
        let Some(ring) = self.queues.get_mut(queue) else {
            return Ok(Served::default());
        };
        ring.serve(&mut self.chain, |ring, chain| {
            let len = usize::try_from(total(&chain.readable))
                .unwrap_or(MOST)
                .min(MOST);
            let mut bytes = vec![0; len];
            copy_from(memory, &chain.readable, &mut bytes);
            let written = copy_to(memory, &chain.writable, &bytes);
            ring.copied(written as u64);
            // No more than MOST.
            ring.push_used(chain.head, written as u32)?;
            Ok(true)
        })
    }

    fn queues(&mut self) -> &mut [VirtQueue] {
        &mut self.queues
    }
}

impl crate::virtio::Subject for Subject {
    fn device(&mut self, _: &mut Rng) -> io::Result<Box<dyn Device>> {
        Ok(Box::new(Echo { config: [0x80; 24] }))
    }

    fn request(&mut self, maker: &mut Maker<'_>, queue: usize) -> Option<Request> {
        let mut request = Request::default();
        if queue == 2 {
            // A queue of one descriptor.
            let at = maker.buffer(64);
            request.writes(at, 64);
            return Some(request);
        }
        let len = maker.rng.u32(1..2000);
        maker.pieces(&mut request, len, 3, false);
        let at = maker.status();
        request.writes(at, 1);
        maker.pieces(&mut request, len, 3, true);
        request.mark = Some(Mark {
            at,
            means: |byte| (byte != 0xee).then_some("echoed"),
            bytes: 0,
        });
        Some(request)
    }

    fn probe(&mut self, driver: &mut Driver<'_>, _: &mut Tally) -> Result<(), String> {
        let (from, to) = (BUFFERS[0].start, BUFFERS[1].start);
        for (queue, text) in [(0, b"a known request"), (1, b"another request")] {
            driver.put(from, text);
            let written = driver.ask(queue, &[(from, 15, false), (to, 15, true)])?;
            let found = driver.get(to, 15);
            if (written, found.as_slice()) != (15, text) {
                return Err(format!("queue {queue} echoes {written} bytes, {found:?}"));
            }
        }
        driver.ask(2, &[(to, 1, true)]).map(|_| ())
    }
}
