//! What a pv guest needs to live above the monitor: where the hypervisor enters (`entry`), calls
//! through the hypercall page (`gate`), calls that wait (`ring`), and the shared page.
//!
//! The kernel's pv image builds on it, and so can a guest of a few lines. An image defines two
//! functions:
//!
//! ```ignore
//! #[unsafe(no_mangle)]
//! extern "C" fn paravane_start(boot: &'static BootInfo) -> ! { ... }
//! #[unsafe(no_mangle)]
//! extern "C" fn paravane_event(frame: &mut TrapFrame) { ... }
//! ```
#![no_std]

extern crate runtime as _;

mod entry;
mod gate;
mod ring;
mod shared;

pub use entry::{entries, restore};
pub use gate::{HypercallPage, PAGE};
pub use pv_guest::arch::frame::TrapFrame;
pub use ring::drain;
pub use shared::shared_page;
