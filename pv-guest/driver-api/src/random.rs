//! The class of sources of randomness.

use core::fmt;

/// Why there are no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RandomError {
    /// The device gave none.
    Empty,
    /// The device answered what it must not, and is no longer used.
    Broken,
}

impl fmt::Display for RandomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the device gave no random bytes",
            Self::Broken => "the device broke the protocol, and is no longer used",
        })
    }
}

impl core::error::Error for RandomError {}

/// A source of random bytes.
pub trait RandomSource: Send + Sync {
    /// Fill the bytes, sleeping as long as that takes.
    ///
    /// # Errors
    /// [`RandomError`]; what is in the bytes then is of no use.
    fn fill(&self, into: &mut [u8]) -> Result<(), RandomError>;
}
