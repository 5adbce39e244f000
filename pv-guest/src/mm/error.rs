//! Why memory could not be had or mapped.

use core::fmt;

/// Why an address was not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No frame was left.
    NoFrame,
    /// Something is mapped there already.
    InUse(u64),
    /// An address or a length is not a multiple of a page, or the image lies outside its place.
    Misplaced(u64),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFrame => f.write_str("no frame is left"),
            Self::InUse(at) => write!(f, "{at:#x} is mapped already"),
            Self::Misplaced(at) => write!(f, "{at:#x} is no place for it"),
        }
    }
}

impl core::error::Error for MapError {}
