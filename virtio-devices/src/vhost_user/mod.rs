//! A device whose queues another process serves (vhost-user): the guest's doorbells go to that process,
//! and its interrupts come back, without a copy or an exit here. Called by the VMM in place of a device
//! model. Never touches a request.
//!
//! ```text
//! link    the socket: what is asked of the other process, each time within a bound
//! device  features, configuration, activation
//! path    what is left for the worker: interrupts on their way back, and the other process' end
//! ```
//!
//! The other process gets the guest's memory, whole and shared, and is trusted with it. It is not trusted
//! with this process: it may end, be silent or answer nonsense, and the device then needs a reset.

mod device;
mod link;
mod path;

pub use device::VhostUser;
pub use link::{ANSWER_LIMIT, VhostUserError};
