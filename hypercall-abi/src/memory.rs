//! How a host's call reads and writes guest memory: by copying, once.

use crate::{CallError, GuestPhys};

/// Guest-physical memory, as a host's call sees it.
///
/// Both methods copy; nothing hands out a reference into memory that a guest can change meanwhile.
pub trait GuestMemory {
    /// Copy guest memory into a buffer of the host.
    ///
    /// # Errors
    /// [`CallError::BadRange`] when any byte lies outside guest memory.
    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<(), CallError>;

    /// Copy a buffer of the host into guest memory.
    ///
    /// # Errors
    /// [`CallError::BadRange`] when any byte lies outside guest memory; nothing is written then.
    fn write(&self, at: GuestPhys, from: &[u8]) -> Result<(), CallError>;
}
