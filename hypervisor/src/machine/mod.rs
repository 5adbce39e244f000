//! What the virtual machine can do: state and verbs, one file a topic.
//!
//! Every door (a call, a port, a trapped instruction) ends in a verb here, so the
//! semantics exist once.

pub mod console;
pub mod cpu;
mod irq;
mod mmu;
mod null;
pub mod paging;
mod port;
pub mod power;
pub mod shadow;
mod time;

use hypercall_abi::GuestVirt;

use crate::legacy::Legacy;

pub use console::{Console, Input};
pub use power::Power;

/// The state behind the verbs.
#[derive(Debug)]
pub struct Machine {
    /// The console.
    pub console: Console,
    /// The power switch.
    pub power: Power,
    /// The trapped devices.
    pub legacy: Legacy,
    /// Entries that the guest has named for its events, until the monitor has them.
    pub event_entries: Option<GuestVirt>,
    /// How many batch entries the last drain ran.
    pub drained: u64,
}

impl Machine {
    /// A machine that is on.
    pub fn new(console: Console) -> Self {
        Self {
            console,
            power: Power::default(),
            legacy: Legacy::default(),
            event_entries: None,
            drained: 0,
        }
    }
}
