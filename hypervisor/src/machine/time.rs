//! Time: what of it leaves the virtual machine.

use std::time::SystemTime;

use hypercall_abi::table::time;
use hypercall_abi::{CallError, GuestMemory};

use super::Machine;

impl time::Host for Machine {
    fn wall_clock(&mut self, _: &dyn GuestMemory) -> Result<u64, CallError> {
        SystemTime::UNIX_EPOCH
            .elapsed()
            .ok()
            .and_then(|since| u64::try_from(since.as_nanos()).ok())
            .ok_or(CallError::NotNow)
    }
}
