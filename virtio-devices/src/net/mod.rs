//! A network device (virtio 1.2, 5.1) over a tap or another carrier of frames. Frames go between the
//! carrier and guest memory without a copy here, with the virtio header that both sides understand,
//! so checksums and segmentation are the host kernel's.
//!
//! `device.rs` answers for it, `path.rs` moves frames and serves the control queue, `receive.rs`
//! gathers buffers for a frame, `backend.rs` is a tap or a socket.

mod backend;
mod device;
mod path;
mod receive;
pub mod user;

pub use backend::{Carrier, FrameSocket, Offloads, Tap};
pub use device::{Net, NetOptions};

/// The length of the header before each frame: `virtio_net_hdr` with `num_buffers` (5.1.6).
pub(crate) const HEADER_LEN: usize = 12;
/// The longest frame, with its header: 65550 bytes and 12 (5.1.6.3.1).
pub(crate) const LONGEST: usize = 65_562;

#[cfg(test)]
mod tests;
