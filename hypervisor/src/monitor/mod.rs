//! The monitor: the code at CPL 0 inside a pv guest, and the pages around it.
//!
//! `entry.S` is the code; `code` carries it as bytes; `gates` says which instructions are best on
//! this KVM; `tables` builds descriptor tables; `install` puts it all into guest memory.

#[allow(unsafe_code)]
mod code;
pub mod gates;
mod install;
pub(crate) mod native;
pub(crate) mod tables;

use hypercall_abi::boot::Range;
use hypercall_abi::{Mode, layout};

pub use code::{Code, code};
pub(crate) use install::{Installed, PAGES, install, interrupted, set_event_entries};

/// The guest-physical regions of the monitors that a mode needs, in ascending order.
pub(crate) fn regions(mode: Mode) -> &'static [Range] {
    const BASE: Range = Range {
        start: layout::MONITOR_PHYS,
        len: PAGES * 4096,
    };
    match mode {
        Mode::Hvm | Mode::Pv => &[BASE],
        Mode::Trap | Mode::Patch => &[BASE, native::layout::REGION],
    }
}
