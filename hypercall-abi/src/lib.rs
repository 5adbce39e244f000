//! What crosses the wall between a Paravane guest and its hypervisor.
//!
//! The hypercall [`table`] is the one place where a call is declared; the other modules hold the
//! words that both sides share: typed arguments, errors, the per-processor shared page, the batch
//! ring, the boot information and the addresses of the monitor's window.
//!
//! Neither side's mechanisms live here: no assembly, no `unsafe`, no allocation.
#![no_std]
#![forbid(unsafe_code)]

pub mod boot;
pub mod error;
pub mod layout;
mod macros;
pub mod memory;
pub mod row;
pub mod shared;
pub mod table;
pub mod types;

pub use error::CallError;
pub use memory::GuestMemory;
#[doc(hidden)]
pub use row::{__find, __put, __take};
pub use row::{Args, Gate, Mode, Row, Slot, Tier, TypedCall};
pub use types::{Frame, GuestPhys, GuestPtr, GuestVirt, Vector, Word};
