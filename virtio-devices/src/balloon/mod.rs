//! A memory balloon (virtio 1.2, 5.5): the driver gives pages up, and takes them again; free pages
//! are reported without being asked for.
//!
//! The VMM says what giving up means: it implements [`Pages`], by madvise(2) for one. Of the queues
//! for features, only that of free page reporting exists, so it is queue 2: Linux and QEMU count the
//! queues that exist, where the specification's table would make it 4.

mod device;
mod path;

pub use device::{Balloon, Handle};
pub use path::PAGE;

use vm_memory::GuestAddress;

/// What a VMM does with guest memory that the driver does not use.
pub trait Pages: Send + Sync {
    /// The range's contents do not matter any more: give its memory back to the host. It is checked
    /// to be in guest memory, and of whole pages.
    ///
    /// # Errors
    /// The host's; the range stays as it is.
    fn give_up(&self, at: GuestAddress, len: u64) -> std::io::Result<()>;

    /// The driver uses the range again. Nothing need be done where memory comes when it is touched.
    ///
    /// # Errors
    /// The host's.
    fn take_again(&self, at: GuestAddress, len: u64) -> std::io::Result<()> {
        let _ = (at, len);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
