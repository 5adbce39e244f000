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
pub(crate) use install::{Installed, PAGES, install, interrupted, places, set_event_entries};

/// The guest-physical memory of the monitors that a mode needs: one region, since each more of them takes KVM time.
pub(crate) fn region(mode: Mode) -> Range {
    let end = match mode {
        Mode::Hvm | Mode::Pv => layout::MONITOR_PHYS + PAGES * 4096,
        Mode::Trap | Mode::Patch => native::layout::END,
    };
    Range {
        start: layout::MONITOR_PHYS,
        len: end - layout::MONITOR_PHYS,
    }
}
