//! Serving a queue: each request that is available, until there are no more, with the interrupts that the driver
//! wants (virtio 1.2, 2.7.7 and 2.7.10). Called by the devices.

use std::sync::atomic::Ordering;

use virtio_queue::{Error, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::chain::Chain;
use crate::device::DeviceError;

/// Serve all that is available; whether the driver wants an interrupt. `each` does one request and says how many
/// bytes it wrote.
///
/// # Errors
/// [`DeviceError::Chain`]: the queue or a chain breaks the rules, or `each` says so.
pub fn serve(
    number: usize,
    queue: &mut Queue,
    memory: &GuestMemoryMmap,
    mut each: impl FnMut(&Chain) -> Result<u32, &'static str>,
) -> Result<bool, DeviceError> {
    let fail = |what| DeviceError::Chain {
        queue: number,
        what,
    };
    let broken = |_: Error| fail("the rings cannot be read or written");
    if !queue.ready() {
        return Ok(false);
    }
    let mut wants_interrupt = false;
    loop {
        queue.disable_notification(memory).map_err(broken)?;
        // The iterator refuses an index that is further than the queue is long.
        loop {
            let chain = queue.iter(memory).map_err(broken)?.next();
            let Some(chain) = chain else {
                break;
            };
            let chain = Chain::read(chain, memory).map_err(fail)?;
            let written = each(&chain).map_err(fail)?;
            queue
                .add_used(memory, chain.head, written)
                .map_err(broken)?;
            wants_interrupt |= wants(queue, memory).map_err(broken)?;
        }
        // What came meanwhile has rung no doorbell.
        if !queue.enable_notification(memory).map_err(broken)? {
            return Ok(wants_interrupt);
        }
    }
}

/// Whether the driver wants to hear of the request that was used last. Without EVENT_IDX it has a flag for that,
/// which `virtio-queue` does not look at.
fn wants(queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<bool, Error> {
    const NO_INTERRUPT: u16 = 1;
    if queue.event_idx_enabled() {
        return queue.needs_notification(memory);
    }
    let flags = memory.load(GuestAddress(queue.avail_ring()), Ordering::Acquire);
    let flags: u16 = flags.map_err(Error::GuestMemory)?;
    Ok(u16::from_le(flags) & NO_INTERRUPT == 0)
}
