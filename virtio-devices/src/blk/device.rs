//! The half of a block device that answers for it: features, configuration, activation. Called by
//! the transport.

use virtio_bindings::{virtio_blk, virtio_ids};

use super::backend::BlockBackend;
use super::path::BlockPath;
use super::request::Limits;
use super::wire::{Config, ID_LEN, SECTOR};
use crate::device::{Activation, DataPath, Device, DeviceError, feature};
use crate::queue::VirtQueue;

/// How many descriptors a queue has at most.
const QUEUE_SIZE: u16 = 256;
/// How many queues a device has at most.
pub const MAX_QUEUES: u16 = 8;
/// Of its descriptors a request needs two for its header and its status.
const SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;

const FLUSH: u64 = 1 << virtio_blk::VIRTIO_BLK_F_FLUSH;
const DISCARD: u64 = 1 << virtio_blk::VIRTIO_BLK_F_DISCARD;
const WRITE_ZEROES: u64 = 1 << virtio_blk::VIRTIO_BLK_F_WRITE_ZEROES;
const READ_ONLY: u64 = 1 << virtio_blk::VIRTIO_BLK_F_RO;
const MULTI_QUEUE: u64 = 1 << virtio_blk::VIRTIO_BLK_F_MQ;
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
    queue_sizes: Vec<u16>,
}

impl Block {
    /// A device of a disk. `id` is what a driver is told as its name; 20 bytes of it at most.
    /// `queues`, 1 to [`MAX_QUEUES`], are those that take requests, with an engine each.
    #[must_use]
    pub fn new(backend: Box<dyn BlockBackend>, id: &str, queues: u16) -> Block {
        let queues = queues.clamp(1, MAX_QUEUES);
        let blocks = u64::from(backend.block_size()) / SECTOR;
        let config = Config {
            capacity: backend.capacity() / SECTOR,
            segments: SEGMENTS,
            queues,
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
            queue_sizes: vec![QUEUE_SIZE; queues.into()],
            backend,
        }
    }
}

impl Device for Block {
    fn device_type(&self) -> u32 {
        virtio_ids::VIRTIO_ID_BLOCK
    }

    fn features(&self) -> u64 {
        let several = match self.queue_sizes.len() {
            1 => 0,
            _ => MULTI_QUEUE,
        };
        match self.backend.is_read_only() {
            true => ALWAYS | several | READ_ONLY,
            false => ALWAYS | several | DISCARD | WRITE_ZEROES,
        }
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn read_config(&self, offset: u64, into: &mut [u8]) {
        crate::memory::read_config(&self.config, offset, into);
    }

    fn activate(&mut self, activation: Activation) -> Result<Box<dyn DataPath>, DeviceError> {
        let Activation {
            memory,
            features,
            queues,
            ..
        } = activation;
        let limits = Limits {
            capacity: self.backend.capacity(),
            is_read_only: self.backend.is_read_only(),
            has_flush: features & FLUSH != 0,
            has_discard: features & DISCARD != 0,
            has_write_zeroes: features & WRITE_ZEROES != 0,
        };
        let engine = |_: &VirtQueue| {
            let engine = self.backend.engine(QUEUE_SIZE, &memory);
            engine.map_err(|source| DeviceError::Host {
                what: "an I/O engine",
                source,
            })
        };
        let engines = queues.iter().map(engine).collect::<Result<_, _>>()?;
        let path = BlockPath::new(&memory, queues, engines, limits, self.id);
        Ok(Box::new(path))
    }
}
