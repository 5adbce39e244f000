//! A chain of descriptors, checked: the buffers that the device reads, and those that it writes (virtio 1.2,
//! 2.7.5). Called by the devices. It copies nothing: buffers stay addresses in guest memory.

use std::ops::Deref;

use virtio_queue::DescriptorChain;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryMmap};

/// A buffer in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Its first byte.
    pub at: GuestAddress,
    /// Its length in bytes.
    pub len: usize,
}

/// The buffers of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The number by which the driver knows the request.
    pub head: u16,
    /// What the driver wrote.
    pub readable: Vec<Buffer>,
    /// What the device writes.
    pub writable: Vec<Buffer>,
}

impl Chain {
    /// Check a chain: it ends, no buffer leaves memory, and what the device reads comes first (2.7.4.2).
    ///
    /// # Errors
    /// What is wrong, as a sentence fragment.
    pub fn read<M>(
        chain: DescriptorChain<M>,
        memory: &GuestMemoryMmap,
    ) -> Result<Self, &'static str>
    where
        M: Deref + Clone,
        M::Target: GuestMemory,
    {
        let mut found = Self {
            head: chain.head_index(),
            ..Self::default()
        };
        let mut goes_on = true;
        for descriptor in chain {
            goes_on = descriptor.has_next();
            found.add(&descriptor, memory)?;
        }
        match goes_on {
            // It has no descriptor, one that is beyond the table, or more than the queue has.
            true => Err("a chain of descriptors does not end"),
            false => Ok(found),
        }
    }

    fn add(
        &mut self,
        descriptor: &Descriptor,
        memory: &GuestMemoryMmap,
    ) -> Result<(), &'static str> {
        let buffer = Buffer {
            at: descriptor.addr(),
            len: descriptor.len() as usize,
        };
        if buffer.len == 0 {
            return Err("a descriptor has no bytes");
        }
        if !GuestMemoryBackend::check_range(memory, buffer.at, buffer.len) {
            return Err("a descriptor leaves memory");
        }
        match descriptor.is_write_only() {
            true => self.writable.push(buffer),
            false if self.writable.is_empty() => self.readable.push(buffer),
            false => return Err("a readable descriptor follows a writable one"),
        }
        Ok(())
    }
}

/// How many bytes buffers have.
pub fn len(buffers: &[Buffer]) -> u64 {
    buffers.iter().map(|buffer| buffer.len as u64).sum()
}

/// The buffers without their first bytes; `None` when there are not so many.
pub fn skip(buffers: &[Buffer], count: u64) -> Option<Vec<Buffer>> {
    let mut left = count;
    let mut rest = Vec::new();
    for buffer in buffers {
        let skipped = left.min(buffer.len as u64);
        left -= skipped;
        if skipped < buffer.len as u64 {
            rest.push(Buffer {
                at: GuestAddress(buffer.at.0 + skipped),
                len: buffer.len - skipped as usize,
            });
        }
    }
    (left == 0).then_some(rest)
}

/// The first bytes of buffers; `None` when there are not so many.
pub fn take(buffers: &[Buffer], count: u64) -> Option<Vec<Buffer>> {
    let mut left = count;
    let mut first = Vec::new();
    for buffer in buffers {
        let taken = left.min(buffer.len as u64);
        left -= taken;
        if taken > 0 {
            first.push(Buffer {
                at: buffer.at,
                len: taken as usize,
            });
        }
    }
    (left == 0).then_some(first)
}
