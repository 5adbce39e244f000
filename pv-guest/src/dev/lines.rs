//! Interrupt lines of the devices that a PC has: the I/O APIC's pins, each led to a vector. Called by `isa`.

use hypercall_abi::Vector;
use ioapic::{IoApic, IoApicError, Trigger};
use spin::Once;

use super::KernelEnv;
use super::isa::IsaError;
use crate::irq;

static CONTROLLER: Once<IoApic<KernelEnv>> = Once::new();

/// Take over the I/O APIC at a guest-physical address, and say how many pins it has. The first one stays.
pub fn init(base: u64) -> Result<u8, IsaError> {
    let apic = CONTROLLER.try_call_once(|| IoApic::new(&KernelEnv, base));
    apic.map(IoApic::pins).map_err(IsaError::IoApic)
}

/// A vector for a pin, that nobody has.
pub fn vector() -> Result<Vector, IsaError> {
    irq::free_vector().ok_or(IsaError::NoVector)
}

/// Lead a pin to a vector, which somebody handles by now.
pub fn connect(pin: u8, vector: Vector, trigger: Trigger) -> Result<(), IsaError> {
    let controller = CONTROLLER.get().ok_or(IsaError::NoIoApic)?;
    if trigger == Trigger::Level {
        irq::end_late(vector);
    }
    let connected = controller.connect(pin, vector.number(), trigger);
    connected.map_err(|error: IoApicError| IsaError::IoApic(error))
}
