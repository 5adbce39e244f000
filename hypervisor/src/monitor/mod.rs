//! The monitor: the code at CPL 0 inside a pv guest, and the pages around it.
//!
//! `entry.S` is the code; `code` carries it as bytes; `gates` says which instructions are best on
//! this KVM; `tables` builds descriptor tables; `install` puts it all into guest memory.

#[allow(unsafe_code)]
mod code;
pub mod gates;
mod install;
pub(crate) mod tables;

pub use code::{Code, code};
pub(crate) use install::{Installed, PAGES, install, interrupted, set_event_entries};
