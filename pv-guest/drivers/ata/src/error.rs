//! Why a channel cannot be used.

use core::fmt;

use driver_api::EnvError;

/// Why a channel cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtaError {
    /// No drive on it is a disk that this driver can use.
    NoDisk,
    /// It stays busy after a reset.
    Busy,
    /// The environment refused something.
    Env(EnvError),
}

impl fmt::Display for AtaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDisk => f.write_str("there is no disk on this channel"),
            Self::Busy => f.write_str("the channel stays busy after its reset"),
            Self::Env(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for AtaError {}

impl From<EnvError> for AtaError {
    fn from(error: EnvError) -> Self {
        Self::Env(error)
    }
}
