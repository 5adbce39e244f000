//! The half of a block device that answers for it: features, configuration, activation. Called by
//! the transport.

use virtio_bindings::{virtio_blk, virtio_ids};

use super::backend::BlockBackend;
use super::path::BlockPath;
use super::request::Limits;
use super::wire::{Config, ID_LEN, SECTOR};
use crate::device::{Activation, DataPath, Device, DeviceError, feature};

/// How many descriptors the queue has at most.
const QUEUE_SIZE: u16 = 256;
/// Of which a request needs two for its header and its status.
const SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;

const FLUSH: u64 = 1 << virtio_blk::VIRTIO_BLK_F_FLUSH;
const DISCARD: u64 = 1 << virtio_blk::VIRTIO_BLK_F_DISCARD;
const WRITE_ZEROES: u64 = 1 << virtio_blk::VIRTIO_BLK_F_WRITE_ZEROES;
const READ_ONLY: u64 = 1 << virtio_blk::VIRTIO_BLK_F_RO;
const ALWAYS: u64 = feature::QUEUE
    | FLUSH
    | 1 << virtio_blk::VIRTIO_BLK_F_SEG_MAX
    | 1 << virtio_blk::VIRTIO_BLK_F_BLK_SIZE
    | 1 << virtio_blk::VIRTIO_BLK_F_TOPOLOGY;

/// A block device.
pub struct Block {
    backend: Box<dyn BlockBackend>,
    config: [u8; 60],
    id: [u8; ID_LEN],
}

impl Block {
    /// A device of a disk. `id` is what a driver is told as its name; 20 bytes of it at most.
    #[must_use]
    pub fn new(backend: Box<dyn BlockBackend>, id: &str) -> Block {
        let blocks = u64::from(backend.block_size()) / SECTOR;
        let config = Config {
            capacity: backend.capacity() / SECTOR,
            segments: SEGMENTS,
            // Of a u32's logarithm.
            physical_exponent: blocks.checked_ilog2().unwrap_or(0) as u8,
        };
        let mut padded = [0; ID_LEN];
        for (byte, value) in padded.iter_mut().zip(id.bytes()) {
            *byte = value;
        }
        Block {
            config: config.bytes(),
            id: padded,
            backend,
        }
    }
}

impl Device for Block {
    fn device_type(&self) -> u32 {
        virtio_ids::VIRTIO_ID_BLOCK
    }

    fn features(&self) -> u64 {
        match self.backend.is_read_only() {
            true => ALWAYS | READ_ONLY,
            false => ALWAYS | DISCARD | WRITE_ZEROES,
        }
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn read_config(&self, offset: u64, into: &mut [u8]) {
        crate::memory::read_config(&self.config, offset, into);
    }

    fn activate(&mut self, activation: Activation) -> Result<Box<dyn DataPath>, DeviceError> {
        let Activation {
            memory,
            features,
            queues,
        } = activation;
        let limits = Limits {
            capacity: self.backend.capacity(),
            is_read_only: self.backend.is_read_only(),
            has_flush: features & FLUSH != 0,
            has_discard: features & DISCARD != 0,
            has_write_zeroes: features & WRITE_ZEROES != 0,
        };
        let engine =
            self.backend
                .engine(QUEUE_SIZE, &memory)
                .map_err(|source| DeviceError::Host {
                    what: "an I/O engine",
                    source,
                })?;
        Ok(Box::new(BlockPath::new(
            memory, queues, engine, limits, self.id,
        )))
    }
}
