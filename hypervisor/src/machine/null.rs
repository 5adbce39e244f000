//! Calls that do nothing, to measure the gates by; and the batch's doorbell.

use hypercall_abi::table::null;
use hypercall_abi::{CallError, GuestMemory};

use super::Machine;

impl null::Host for Machine {
    fn null_machine(&mut self, _: &dyn GuestMemory) -> Result<(), CallError> {
        Ok(())
    }

    fn null_batch(&mut self, _: &dyn GuestMemory) -> Result<(), CallError> {
        Ok(())
    }

    fn drain_batch(&mut self, _: &dyn GuestMemory) -> Result<u64, CallError> {
        // The door drains before every call; this one only says how much that was.
        Ok(self.drained)
    }
}
