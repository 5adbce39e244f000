//! The console: where output goes and input waits, whichever device the guest reaches it by.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use hypercall_abi::table::console;
use hypercall_abi::{CallError, GuestMemory, GuestPtr};

use super::Machine;

/// The longest text that one call may write, in bytes.
const MAX_WRITE: u64 = 64 * 1024;
/// How much output may wait, in bytes.
const MOST_WAITING: usize = 64 * 1024;
/// How much typed input may wait, in bytes; more is dropped, as a UART drops it.
const MAX_INPUT: usize = 64 * 1024;

/// The console's host side.
pub struct Console {
    out: Box<dyn Write + Send>,
    /// What is not written yet.
    waiting: Vec<u8>,
    input: Input,
    failed: Option<io::Error>,
    written: u64,
}

/// What was typed and not read yet; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Input(Arc<Mutex<VecDeque<u8>>>);

impl Input {
    /// Add typed bytes; returns how many fitted.
    pub fn push(&self, bytes: &[u8]) -> usize {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_INPUT.saturating_sub(queue.len()).min(bytes.len());
        queue.extend(bytes.iter().take(room));
        room
    }

    /// Take at most `most` bytes.
    pub fn take(&self, most: usize) -> Vec<u8> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = most.min(queue.len());
        queue.drain(..count).collect()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }
}

impl Console {
    /// A console that writes to `out` and reads what is pushed to `input`.
    pub fn new(out: Box<dyn Write + Send>, input: Input) -> Self {
        Self {
            out,
            waiting: Vec::new(),
            input,
            failed: None,
            written: 0,
        }
    }

    /// Text of the guest, which [`Self::flush`] writes: a UART has a byte at a time, and a batch some lines.
    pub fn put(&mut self, text: &[u8]) {
        if self.failed.is_none() {
            self.written = self.written.saturating_add(text.len() as u64);
            self.waiting.extend_from_slice(text);
            if self.waiting.len() > MOST_WAITING {
                self.send();
            }
        }
    }

    /// Write what waits, at the end of each exit; and the error that ended the output, once. It is the host's, and the
    /// guest cannot mend it.
    pub fn flush(&mut self) -> Option<io::Error> {
        self.send();
        self.failed.take()
    }

    /// Write what waits, before somebody else's code runs. A failure is kept for [`Self::flush`].
    pub fn send(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let written = self.out.write_all(&self.waiting);
        if let Err(error) = written.and_then(|()| self.out.flush()) {
            self.failed = Some(error);
        }
        self.waiting.clear();
    }

    /// The typed input.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// How many bytes the guest has written.
    pub fn written(&self) -> u64 {
        self.written
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("input", &self.input)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl console::Host for Machine {
    fn console_put(
        &mut self,
        _: &dyn GuestMemory,
        len: u64,
        w0: u64,
        w1: u64,
        w2: u64,
        w3: u64,
        w4: u64,
    ) -> Result<(), CallError> {
        let bytes: Vec<u8> = [w0, w1, w2, w3, w4]
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .collect();
        let text = usize::try_from(len)
            .ok()
            .and_then(|len| bytes.get(..len))
            .ok_or(CallError::BadArgument)?;
        self.console.put(text);
        Ok(())
    }

    fn console_write(
        &mut self,
        memory: &dyn GuestMemory,
        text: GuestPtr<u8>,
        len: u64,
    ) -> Result<(), CallError> {
        if len > MAX_WRITE {
            return Err(CallError::BadArgument);
        }
        let mut copy = vec![0; len as usize];
        memory.read(text.0, &mut copy)?;
        self.console.put(&copy);
        Ok(())
    }

    fn console_read(
        &mut self,
        memory: &dyn GuestMemory,
        into: GuestPtr<u8>,
        len: u64,
    ) -> Result<u64, CallError> {
        let most = usize::try_from(len)
            .ok()
            .filter(|most| *most <= MAX_INPUT)
            .ok_or(CallError::BadArgument)?;
        // The range is tried before input is taken, so that a bad pointer loses nothing.
        let mut probe = vec![0; most];
        memory.read(into.0, &mut probe)?;
        let bytes = self.console.input.take(most);
        memory.write(into.0, &bytes)?;
        Ok(bytes.len() as u64)
    }
}
