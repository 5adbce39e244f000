//! The data path of a balloon. Runs on the worker's thread. Never touches a page itself.

use std::sync::Arc;

use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::Pages;
use crate::chain::{Buffer, Chain, copy_from, drop_front};
use crate::device::{DataPath, DeviceError, Served};
use crate::queue::VirtQueue;

/// The size of a balloon's page, in bytes, whatever the guest's is (5.5.6).
pub const PAGE: u64 = 1 << PAGE_SHIFT;
const PAGE_SHIFT: u32 = 12;

/// The queues.
const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const REPORT: usize = 2;
/// The most pages of one request. Linux sends 256; without a bound, a request could keep the worker
/// for long.
const MOST: usize = 1 << 12;
/// How many page numbers are looked at together.
const PIECE: usize = 256;

/// See the module.
pub(super) struct BalloonPath {
    memory: GuestMemoryMmap,
    queues: Vec<VirtQueue>,
    chain: Chain,
    pages: Arc<dyn Pages>,
    is_reporting: bool,
}

impl BalloonPath {
    pub fn new(
        memory: GuestMemoryMmap,
        queues: Vec<VirtQueue>,
        pages: Arc<dyn Pages>,
        is_reporting: bool,
    ) -> Self {
        BalloonPath {
            memory,
            queues,
            chain: Chain::default(),
            pages,
            is_reporting,
        }
    }
}

impl DataPath for BalloonPath {
    fn notify(&mut self, queue: usize) -> Result<Served, DeviceError> {
        let (memory, pages, is_reporting) = (&self.memory, &*self.pages, self.is_reporting);
        let Some(ring) = self.queues.get_mut(queue) else {
            return Ok(Served::default());
        };
        ring.serve(&mut self.chain, |ring, chain| {
            let done = match queue {
                INFLATE | DEFLATE => listed(memory, chain, queue, pages),
                REPORT if is_reporting => reported(chain, pages),
                _ => Err("free page reporting was not negotiated"),
            };
            done.map_err(|what| DeviceError::Request { queue, what })?;
            ring.push_used(chain.head, 0)?;
            Ok(true)
        })
    }

    fn queues(&mut self) -> &mut [VirtQueue] {
        &mut self.queues
    }
}

/// Page numbers, 32 bits each, in the order that the driver likes (5.5.6).
fn listed(
    memory: &GuestMemoryMmap,
    chain: &mut Chain,
    queue: usize,
    pages: &dyn Pages,
) -> Result<(), &'static str> {
    let total = crate::chain::total(&chain.readable);
    if !total.is_multiple_of(4) {
        return Err("a list of pages ends within a number");
    }
    if total > 4 * MOST as u64 {
        return Err("a list of pages has more than 4096");
    }
    let mut run = Run::default();
    while !chain.readable.is_empty() {
        let mut bytes = [0; 4 * PIECE];
        let count = copy_from(memory, &chain.readable, &mut bytes);
        if count == 0 {
            return Err("a list of pages cannot be read");
        }
        // At most a piece.
        drop_front(&mut chain.readable, count as u32);
        let (numbers, _) = bytes.as_chunks::<4>();
        for number in numbers.iter().take(count / 4) {
            let at = u64::from(u32::from_le_bytes(*number)) << PAGE_SHIFT;
            if !memory.check_range(GuestAddress(at), PAGE as usize) {
                return Err("a page is not in memory");
            }
            if !run.extend(at) {
                std::mem::replace(&mut run, Run::of(at)).tell(queue, pages);
            }
        }
    }
    run.tell(queue, pages);
    Ok(())
}

/// Pages one after the other, so that the host is asked once for them.
#[derive(Default)]
struct Run {
    at: u64,
    len: u64,
}

impl Run {
    fn of(at: u64) -> Run {
        Run { at, len: PAGE }
    }

    /// Add a page, at either side; returns whether it belongs there.
    fn extend(&mut self, page: u64) -> bool {
        if self.len == 0 {
            *self = Run::of(page);
        } else if page == self.at + self.len {
            self.len += PAGE;
        } else if page + PAGE == self.at {
            self.at = page;
            self.len += PAGE;
        } else {
            return false;
        }
        true
    }

    fn tell(&self, queue: usize, pages: &dyn Pages) {
        if self.len == 0 {
            return;
        }
        let at = GuestAddress(self.at);
        // A page that the host keeps costs memory and nothing else.
        let _ = match queue {
            INFLATE => pages.give_up(at, self.len),
            _ => pages.take_again(at, self.len),
        };
    }
}

/// Free memory itself, in writable buffers (5.5.6.7). A part of a page at either end is kept.
fn reported(chain: &Chain, pages: &dyn Pages) -> Result<(), &'static str> {
    if !chain.readable.is_empty() {
        return Err("a report of free pages has readable buffers");
    }
    for Buffer { at, len } in &chain.writable {
        // The buffer is in memory, so neither sum wraps.
        let end = (at.0 + u64::from(*len)) & !(PAGE - 1);
        let start = at.0.next_multiple_of(PAGE);
        if start < end {
            // As above.
            let _ = pages.give_up(GuestAddress(start), end - start);
        }
    }
    Ok(())
}
