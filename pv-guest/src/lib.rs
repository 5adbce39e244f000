//! Paravane's guest kernel: everything but the privileged instructions, which its images supply.
//!
//! The rooms, in walking order: an image's entry assembly calls [`boot::start`], which takes
//! memory over ([`mm`]), the processor ([`hooks`], [`trap`], [`irq`]) and then becomes the first
//! thread ([`sched`]), which greets and runs the [`shell`] on the [`console`].
//!
//! Devices other than the hooks' own are in [`dev`]: named on the command line, driven by crates
//! that know neither this kernel nor its unsafe rooms. The network is in [`net`].
//!
//! Only `hooks`, `arch`, `mm` and `dev::raw` may be unsafe. The kernel runs on one virtual processor: with
//! interrupts off, nothing else runs.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod boot;
pub mod command_line;

#[allow(unsafe_code)]
pub mod hooks;

#[allow(unsafe_code)]
pub mod arch;
pub mod fault;
pub mod irq;
pub mod trap;

#[allow(unsafe_code)]
pub mod mm;

pub mod sched;
pub mod sync;
pub mod time;

pub mod bench;
pub mod console;
pub mod dev;
pub mod net;
pub mod panic;
pub mod power;
pub mod shell;
pub mod text;

pub use power::status;
