//! The class of socket devices: streams between this machine and its host, or others, by numbers of
//! machines and ports.
//!
//! Calls never wait: `None` or 0 says that it is not time yet, and the client is notified when to look
//! again.

use alloc::sync::Arc;
use core::fmt;

/// The host's number (virtio 1.3, 5.10.4).
pub const HOST_CID: u64 = 2;

/// One end of a stream: a machine's number, and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketAddress {
    /// The machine.
    pub cid: u64,
    /// The port.
    pub port: u32,
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.cid, self.port)
    }
}

/// A stream of a device's. No other one has the same for as long as the device lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId(pub u64);

/// Why a socket did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketError {
    /// The other side refuses.
    Refused,
    /// The other side broke the stream off, or lost it.
    Reset,
    /// The other side sends no more, and everything was taken; or takes no more.
    Closed,
    /// The port is in use, or there are as many streams as there can be.
    InUse,
    /// There is no memory for it.
    NoMemory,
    /// There is no such stream.
    Unknown,
    /// The device answered what it must not, and is no longer used.
    Broken,
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::Reset => "connection reset by peer",
            Self::Closed => "the other side has closed the connection",
            Self::InUse => "address already in use",
            Self::NoMemory => "no memory is left",
            Self::Unknown => "there is no such connection",
            Self::Broken => "the device broke the protocol, and is no longer used",
        })
    }
}

impl core::error::Error for SocketError {}

/// Who uses a socket device.
pub trait SocketClient: Send + Sync {
    /// Something has changed: who waits looks again. Called in a bottom half: short, and it must not
    /// wait.
    fn notify(&self);
}

/// A socket device.
pub trait SocketDevice: Send + Sync {
    /// This machine's number.
    fn cid(&self) -> u64;

    /// Name the client, once.
    fn set_client(&self, client: Arc<dyn SocketClient>);

    /// Begin a stream.
    ///
    /// # Errors
    /// [`SocketError`] when it cannot even be tried.
    fn connect(&self, to: SocketAddress) -> Result<SocketId, SocketError>;

    /// Take streams to a port, from now on.
    ///
    /// # Errors
    /// [`SocketError::InUse`].
    fn listen(&self, port: u32) -> Result<(), SocketError>;

    /// Take none any longer. Those that nobody has accepted are broken off.
    fn stop_listening(&self, port: u32);

    /// A stream to a port that is listened to, and whose it is.
    fn accept(&self, port: u32) -> Option<(SocketId, SocketAddress)>;

    /// Whether the stream is there; `None` while the other side has not answered.
    fn established(&self, id: SocketId) -> Option<Result<(), SocketError>>;

    /// Hand bytes over to be sent; returns how many were taken, which may be none.
    ///
    /// # Errors
    /// [`SocketError`].
    fn write(&self, id: SocketId, bytes: &[u8]) -> Result<usize, SocketError>;

    /// Take bytes that came; returns how many, which may be none.
    ///
    /// # Errors
    /// [`SocketError`]; [`SocketError::Closed`] at the end of what the other side sends.
    fn read(&self, id: SocketId, into: &mut [u8]) -> Result<usize, SocketError>;

    /// Whether both sides have closed the stream, so that the other one has everything; `None` while
    /// they have not.
    fn finished(&self, id: SocketId) -> Option<Result<(), SocketError>>;

    /// Send nothing more.
    fn shut_down(&self, id: SocketId);

    /// Forget a stream. The other side is told that nothing more is sent or taken.
    fn discard(&self, id: SocketId);
}
