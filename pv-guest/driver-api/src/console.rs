//! The class of consoles: text out and in, for callers that sleep.

use core::fmt;

/// Why a console did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleError {
    /// The device answered what it must not, and is no longer used.
    Broken,
}

impl fmt::Display for ConsoleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broken => "the device broke the protocol, and is no longer used",
        })
    }
}

impl core::error::Error for ConsoleError {}

/// A console.
pub trait ConsoleDevice: Send + Sync {
    /// Columns and rows; `None` when the device does not say.
    fn size(&self) -> Option<(u16, u16)>;

    /// Write all of these bytes, sleeping until the device has room for them. It may still hold them
    /// when this returns; they go out in order.
    ///
    /// # Errors
    /// [`ConsoleError`].
    fn write(&self, bytes: &[u8]) -> Result<(), ConsoleError>;

    /// Sleep until something was typed, and take it, as far as it fits; returns how many bytes, at
    /// least one unless there is no room.
    ///
    /// # Errors
    /// [`ConsoleError`].
    fn read(&self, into: &mut [u8]) -> Result<usize, ConsoleError>;
}
