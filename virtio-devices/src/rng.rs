//! An entropy device (virtio 1.2, 5.4): the host's getrandom(2) in the guest's buffers.

use virtio_bindings::virtio_ids;
use vm_memory::{Bytes, GuestMemoryMmap};

use crate::chain::{Buffer, Chain};
use crate::device::{Activation, DataPath, Device, DeviceError, Served, feature};
use crate::queue::VirtQueue;

/// How many descriptors the queue has at most.
const QUEUE_SIZE: u16 = 64;
/// The most bytes for one request. A driver asks again (5.4.6), and a worker is never long at one
/// request.
const MOST: usize = 1 << 16;
/// The most bytes that getrandom(2) fills at once without a signal cutting it short.
const PIECE: usize = 256;

/// An entropy device. It has neither features nor configuration of its own.
#[derive(Debug, Default)]
pub struct Rng;

impl Device for Rng {
    fn device_type(&self) -> u32 {
        virtio_ids::VIRTIO_ID_RNG
    }

    fn features(&self) -> u64 {
        feature::QUEUE
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn read_config(&self, _: u64, into: &mut [u8]) {
        into.fill(0);
    }

    fn activate(&mut self, activation: Activation) -> Result<Box<dyn DataPath>, DeviceError> {
        Ok(Box::new(RngPath {
            memory: activation.memory,
            queues: activation.queues,
            chain: Chain::default(),
        }))
    }
}

struct RngPath {
    memory: GuestMemoryMmap,
    queues: Vec<VirtQueue>,
    chain: Chain,
}

impl DataPath for RngPath {
    fn notify(&mut self, queue: usize) -> Result<Served, DeviceError> {
        let memory = &self.memory;
        let Some(ring) = self.queues.get_mut(queue) else {
            return Ok(Served::default());
        };
        ring.serve(&mut self.chain, |ring, chain| {
            if !chain.readable.is_empty() {
                // 5.4.6.1: the driver MUST NOT place device-readable buffers into the queue.
                let what = "the driver wrote to the entropy device";
                return Err(DeviceError::Request { queue, what });
            }
            // MOST is far below a u32.
            let written = fill(memory, &chain.writable)? as u32;
            ring.copied(written.into());
            ring.push_used(chain.head, written)?;
            Ok(true)
        })
    }

    fn queues(&mut self) -> &mut [VirtQueue] {
        &mut self.queues
    }
}

/// Fill buffers with random bytes, [`MOST`] in all; returns how many.
fn fill(memory: &GuestMemoryMmap, buffers: &[Buffer]) -> Result<usize, DeviceError> {
    let refused = |source| DeviceError::Host {
        what: "random bytes",
        source,
    };
    let mut piece = [0; PIECE];
    let mut done = 0;
    for buffer in buffers {
        let mut at = buffer.at;
        let mut left = (buffer.len as usize).min(MOST - done);
        while left > 0 {
            let wanted = piece.get_mut(..left.min(PIECE)).unwrap_or_default();
            let flags = rustix::rand::GetRandomFlags::empty();
            let count =
                rustix::rand::getrandom(&mut *wanted, flags).map_err(|e| refused(e.into()))?;
            let bytes = wanted.get(..count).unwrap_or_default();
            let written = memory.write_slice(bytes, at);
            written.map_err(|error| refused(std::io::Error::other(error)))?;
            at.0 = at.0.saturating_add(count as u64);
            left -= count;
            done += count;
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{Driver, WRITE};

    fn started() -> Driver {
        let mut driver = Driver::new(Box::new(Rng));
        let features = driver.offered();
        driver.start(features);
        driver
    }

    #[test]
    fn buffers_are_filled_and_nothing_else() {
        let mut driver = started();
        driver.submit(0, &[(0x10_0000, 700, WRITE), (0x10_1001, 64, WRITE)]);
        driver.wait_used(0, 1);
        assert_eq!(driver.rings[0].used(&driver.memory, 0), (0, 764));
        let first = driver.get(0x10_0000, 700);
        // Each piece of 64 bytes is all zeros by chance once in 2^512 runs.
        assert!(
            first
                .chunks_exact(64)
                .all(|piece| piece.iter().any(|byte| *byte != 0))
        );
        assert!(driver.get(0x10_1001, 64).iter().any(|byte| *byte != 0));
        assert_eq!(driver.get(0x10_0000 + 700, 64), [0; 64]);
        assert_eq!(driver.get(0x10_1000, 1), [0]);
        assert_eq!(driver.get(0x10_1001 + 64, 64), [0; 64]);
        driver.submit(0, &[(0x10_0000, 700, WRITE)]);
        driver.wait_used(0, 2);
        assert_ne!(driver.get(0x10_0000, 700), first);
    }

    #[test]
    fn a_request_is_answered_in_part_when_it_is_large() {
        let mut driver = started();
        driver.submit(0, &[(0x10_0000, 0x10_0000, WRITE)]);
        driver.wait_used(0, 1);
        assert_eq!(driver.rings[0].used(&driver.memory, 0), (0, MOST as u32));
        assert_eq!(driver.get(0x10_0000 + MOST as u64, 64), [0; 64]);
    }

    #[test]
    fn a_driver_that_writes_needs_a_reset() {
        let mut driver = started();
        driver.submit(0, &[(0x10_0000, 8, 0), (0x10_1000, 8, WRITE)]);
        assert!(driver.wait_fault().contains("wrote to the entropy device"));
        assert_eq!(driver.get(0x10_1000, 8), [0; 8]);
    }
}
