//! Why a card cannot be used.

use core::fmt;

use driver_api::EnvError;

/// Why a card cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ne2000Error {
    /// It does not finish its reset.
    NoReset,
    /// What is there is no NE2000 with 16 data lines and an address of its own.
    NoCard,
    /// The environment refused something.
    Env(EnvError),
}

impl fmt::Display for Ne2000Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoReset => f.write_str("the card does not finish its reset"),
            Self::NoCard => f.write_str("there is no NE2000 at these ports"),
            Self::Env(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for Ne2000Error {}
