//! Streams to the host's programs, and from them, over a socket device; for callers that sleep.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use driver_api::{SocketAddress, SocketClient, SocketDevice, SocketError, SocketId};
use spin::Once;

use super::Deadline;
use crate::sync::TimedQueue;

static SOCKETS: Once<Arc<Sockets>> = Once::new();

/// Why something on a stream did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamFail {
    /// Nothing happened for as long as one is willing to wait.
    TimedOut,
    /// The device, or the other side.
    Socket(SocketError),
}

impl From<SocketError> for StreamFail {
    fn from(error: SocketError) -> Self {
        Self::Socket(error)
    }
}

/// A socket device, and who waits for it.
pub struct Sockets {
    device: Arc<dyn SocketDevice>,
    /// Counts what the device has announced.
    turn: AtomicU64,
    waiters: TimedQueue,
}

/// Let everybody use a socket device. A machine has one; the first stays.
pub fn attach(device: Arc<dyn SocketDevice>) {
    let sockets = SOCKETS.call_once(|| {
        Arc::new(Sockets {
            device,
            turn: AtomicU64::new(0),
            waiters: TimedQueue::new(),
        })
    });
    sockets.device.set_client(sockets.clone());
}

/// The machine's socket device.
pub fn sockets() -> Option<Arc<Sockets>> {
    SOCKETS.get().cloned()
}

impl SocketClient for Sockets {
    fn notify(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
        self.waiters.wake_all();
    }
}

impl Sockets {
    /// This machine's number.
    pub fn cid(&self) -> u64 {
        self.device.cid()
    }

    /// Try until there is a value, sleeping until something has changed.
    fn until<T>(
        &self,
        deadline: Deadline,
        mut work: impl FnMut(&dyn SocketDevice) -> Option<T>,
    ) -> Result<T, StreamFail> {
        loop {
            let turn = self.turn.load(Ordering::Relaxed);
            if let Some(value) = work(&*self.device) {
                return Ok(value);
            }
            if deadline.is_over() {
                return Err(StreamFail::TimedOut);
            }
            let news = || (self.turn.load(Ordering::Relaxed) != turn).then_some(());
            // A deadline that has come is seen above, after a last try.
            let _ = self.waiters.wait_until(deadline.0, news);
        }
    }

    /// Connect, by a moment.
    ///
    /// # Errors
    /// [`StreamFail`].
    pub fn connect(
        self: &Arc<Self>,
        to: SocketAddress,
        deadline: Deadline,
    ) -> Result<SocketStream, StreamFail> {
        let stream = SocketStream {
            id: self.device.connect(to)?,
            sockets: self.clone(),
        };
        self.until(deadline, |device| device.established(stream.id))??;
        Ok(stream)
    }

    /// Take streams to a port for as long as the result lives.
    ///
    /// # Errors
    /// [`StreamFail`].
    pub fn listen(self: &Arc<Self>, port: u32) -> Result<SocketListener, StreamFail> {
        self.device.listen(port)?;
        Ok(SocketListener {
            sockets: self.clone(),
            port,
        })
    }
}

/// Somebody who waits for streams to a port.
pub struct SocketListener {
    sockets: Arc<Sockets>,
    port: u32,
}

impl SocketListener {
    /// The next stream, and whose it is.
    ///
    /// # Errors
    /// [`StreamFail`].
    pub fn accept(&self, deadline: Deadline) -> Result<(SocketStream, SocketAddress), StreamFail> {
        let accept = |device: &dyn SocketDevice| device.accept(self.port);
        let (id, peer) = self.sockets.until(deadline, accept)?;
        let sockets = self.sockets.clone();
        Ok((SocketStream { sockets, id }, peer))
    }
}

impl Drop for SocketListener {
    fn drop(&mut self) {
        self.sockets.device.stop_listening(self.port);
    }
}

/// A stream. Dropped, both sides are told that it is over.
pub struct SocketStream {
    sockets: Arc<Sockets>,
    id: SocketId,
}

impl SocketStream {
    /// Send all of these bytes; each part must find room within `patience_ns`.
    ///
    /// # Errors
    /// [`StreamFail`]; some may be sent.
    pub fn write_all(&self, bytes: &[u8], patience_ns: u64) -> Result<(), StreamFail> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let write = |device: &dyn SocketDevice| nonzero(device.write(self.id, rest));
            let count = self.sockets.until(Deadline::after(patience_ns), write)??;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Take some of what came, at least a byte, into a buffer that is not empty.
    ///
    /// # Errors
    /// [`StreamFail`]; [`SocketError::Closed`] at the end of what the other side sends.
    pub fn read(&self, into: &mut [u8], patience_ns: u64) -> Result<usize, StreamFail> {
        let read = |device: &dyn SocketDevice| nonzero(device.read(self.id, into));
        Ok(self.sockets.until(Deadline::after(patience_ns), read)??)
    }

    /// Send nothing more, and wait until the other side has closed as well, and so has everything.
    ///
    /// # Errors
    /// [`StreamFail`].
    pub fn finish(self, patience_ns: u64) -> Result<(), StreamFail> {
        self.sockets.device.shut_down(self.id);
        let finished = |device: &dyn SocketDevice| device.finished(self.id);
        Ok(self
            .sockets
            .until(Deadline::after(patience_ns), finished)??)
    }
}

/// 0 says that it is not time yet.
fn nonzero(result: Result<usize, SocketError>) -> Option<Result<usize, SocketError>> {
    (result != Ok(0)).then_some(result)
}

impl Drop for SocketStream {
    fn drop(&mut self) {
        self.sockets.device.discard(self.id);
    }
}
