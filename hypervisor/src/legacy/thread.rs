//! Threads of devices: a panic in one ends the process, since a device that is gone silently would hang the
//! guest.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

/// A thread that is joined when this is dropped. Whoever has it sees to it that the thread ends.
#[derive(Debug)]
pub struct Thread(Option<JoinHandle<()>>);

impl Thread {
    /// Start a thread.
    ///
    /// # Errors
    /// The host's.
    pub fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                // The panic's message is out.
                std::process::abort();
            }
        });
        thread.map(|thread| Self(Some(thread)))
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // A panic of the thread has ended the process.
            let _ = thread.join();
        }
    }
}
