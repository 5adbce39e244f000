//! Interrupts and events: what of them leaves the virtual machine.

use hypercall_abi::table::irq;
use hypercall_abi::{CallError, GuestMemory, GuestVirt, layout};

use super::Machine;

impl irq::Host for Machine {
    fn set_event_entries(
        &mut self,
        _: &dyn GuestMemory,
        first: GuestVirt,
    ) -> Result<(), CallError> {
        let last = first
            .0
            .checked_add(layout::ENTRIES * layout::ENTRY_STRIDE)
            .ok_or(CallError::BadArgument)?;
        if !first.is_canonical() || !GuestVirt(last).is_canonical() || first.0 < layout::DIRECT_MAP
        {
            return Err(CallError::BadArgument);
        }
        self.event_entries = Some(first);
        Ok(())
    }
}
