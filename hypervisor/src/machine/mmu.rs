//! Address spaces. The calls stay in the monitor: `Host` has no method for them yet.

use hypercall_abi::table::mmu;

use super::Machine;

impl mmu::Host for Machine {}
