//! Threads: made, joined and ended.

use alloc::boxed::Box;
use core::fmt;

use super::state::ThreadId;
use super::{CONTEXTS, Scheduler, perform, with_scheduler};
use crate::hooks;
use crate::mm::stacks::Stack;
use crate::sync::hold_interrupts;

/// What a thread runs.
pub(super) type Entry = Box<dyn FnOnce() + Send>;

/// Why a thread was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// There are as many threads as there can be.
    TableFull,
    /// There is no memory for a stack.
    NoMemory,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TableFull => "there are too many threads",
            Self::NoMemory => "no memory is left for a stack",
        })
    }
}

impl core::error::Error for SpawnError {}

/// The right to wait for a thread's end. Dropped, the thread goes on, and frees itself.
#[derive(Debug)]
pub struct JoinHandle {
    id: ThreadId,
}

impl JoinHandle {
    /// The thread.
    pub fn id(&self) -> ThreadId {
        self.id
    }

    /// Sleep until the thread has ended.
    pub fn join(self) {
        let held = hold_interrupts();
        while let Some(switch) = with_scheduler(|s| s.wait_for(self.id)) {
            perform(switch);
        }
        drop(held);
        // Dropped now, the handle frees what is left of the thread.
    }
}

impl Drop for JoinHandle {
    fn drop(&mut self) {
        with_scheduler(|s| s.policy.detach(self.id));
        bury();
    }
}

/// Make a thread that runs `run`, ready to go on when its turn comes.
///
/// # Errors
/// [`SpawnError`].
pub fn spawn(
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle, SpawnError> {
    bury();
    let stack = Stack::new().ok_or(SpawnError::NoMemory)?;
    let entry: Entry = Box::new(run);
    let id = with_scheduler(|s| s.policy.admit(name)).ok_or(SpawnError::TableFull)?;
    with_scheduler(|s| s.launch(id, entry, stack));
    Ok(JoinHandle { id })
}

/// End the calling thread. What its callers own is not dropped: returning is tidier.
pub fn exit() -> ! {
    let _held = hold_interrupts();
    perform(with_scheduler(Scheduler::exit));
    unreachable!("a thread that ended runs again")
}

/// Where a thread begins: interrupts are off, as `switch` left them.
pub(super) extern "sysv64" fn begin() -> ! {
    let entry = with_scheduler(Scheduler::take_entry);
    hooks::irq_enable();
    if let Some(entry) = entry {
        entry();
    }
    exit()
}

/// Free the stacks and places of threads that ended and that nobody joins.
pub(super) fn bury() {
    while let Some(slot) = with_scheduler(|s| s.policy.next_dead()) {
        let stack = CONTEXTS[slot.index()].dismiss();
        with_scheduler(|s| s.policy.release(slot));
        drop(stack);
    }
}
