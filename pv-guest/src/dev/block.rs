//! Requests to a disk, for callers that sleep until they are complete.

use alloc::sync::Arc;
use alloc::vec::Vec;

use driver_api::{BlockError, Completion, Env, EnvError, Operation, Request, SECTOR_SIZE};

use super::{Disk, DmaMemory, KernelEnv};
use crate::sync::{SpinLock, WaitQueue};

/// A request that is complete, and its result.
pub type Finished = (Request<DmaMemory>, Result<(), BlockError>);

/// Where complete requests go.
struct Inbox {
    finished: SpinLock<Vec<Finished>>,
    waiters: WaitQueue,
}

impl Completion<DmaMemory> for Inbox {
    fn complete(&self, request: Request<DmaMemory>, result: Result<(), BlockError>) {
        self.finished.lock().push((request, result));
        self.waiters.wake_one();
    }
}

impl Inbox {
    fn next(&self) -> Finished {
        self.waiters.wait_until(|| self.finished.lock().pop())
    }
}

/// Do these requests, as many at once as the disk takes, and sleep until all are complete. They
/// come back in the order of their tags.
pub fn run(disk: &Disk, requests: Vec<Request<DmaMemory>>) -> Vec<Finished> {
    let inbox = Arc::new(Inbox {
        finished: SpinLock::new(Vec::with_capacity(requests.len())),
        waiters: WaitQueue::new(),
    });
    let client: Arc<dyn Completion<DmaMemory>> = inbox.clone();
    let mut done = Vec::with_capacity(requests.len());
    let mut under_way = 0usize;
    for request in requests {
        let mut next = Some(request);
        while let Some(request) = next.take() {
            match disk.submit(request, &client) {
                Ok(()) => under_way += 1,
                Err(refused) if refused.error == BlockError::Busy && under_way > 0 => {
                    disk.kick();
                    done.push(inbox.next());
                    under_way -= 1;
                    next = Some(refused.request);
                }
                Err(refused) => done.push((refused.request, Err(refused.error))),
            }
        }
    }
    disk.kick();
    for _ in 0..under_way {
        done.push(inbox.next());
    }
    done.sort_unstable_by_key(|(request, _)| request.tag);
    done
}

/// Do one request.
///
/// # Errors
/// [`BlockError`].
pub fn run_one(disk: &Disk, request: Request<DmaMemory>) -> Result<Request<DmaMemory>, BlockError> {
    let mut done = run(disk, alloc::vec![request]);
    let (request, result) = done.pop().ok_or(BlockError::Io)?;
    result.map(|()| request)
}

/// A request with a buffer of its own.
///
/// # Errors
/// [`EnvError::NoMemory`].
pub fn with_buffer(
    operation: Operation,
    sector: u64,
    count: u32,
) -> Result<Request<DmaMemory>, EnvError> {
    let buffer = KernelEnv.dma(count as usize * SECTOR_SIZE)?;
    Ok(Request {
        operation,
        sector,
        count,
        buffer: Some(buffer),
        tag: sector,
    })
}
