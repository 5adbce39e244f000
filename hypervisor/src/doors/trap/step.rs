//! One instruction with all that it may touch.

use iced_x86::Instruction;

use super::PortBus;
use crate::error::GuestFault;
use crate::machine::cpu::{Cpu, Effect, Exception, Linear, Refusal, Registers};

pub(super) struct Step<'a> {
    pub instruction: &'a Instruction,
    pub cpu: &'a mut Cpu,
    pub regs: &'a mut Registers,
    pub memory: &'a mut dyn Linear,
    pub ports: &'a mut dyn PortBus,
    pub cpuid: &'a dyn Fn(u32, u32) -> [u32; 4],
    /// The address of the next instruction.
    pub next: u64,
}

/// Where the processor goes on.
pub(super) enum Flow {
    /// At the next instruction.
    Next(Effect),
    /// At the same one, which has more to do.
    Again(Effect),
    /// Where the verb has led it. A single step is due if TF was set.
    Returned(Effect),
    /// In a handler, whose entry has cleared TF, or where the effect itself says what step is due.
    Entered(Effect),
}

pub(super) type Answer = Result<Flow, Failure>;

/// A verb's refusal, or the verdict of a port.
#[derive(Debug)]
pub(super) enum Failure {
    Refusal(Refusal),
    Fault(GuestFault),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<Exception> for Failure {
    fn from(exception: Exception) -> Self {
        Self::Refusal(exception.into())
    }
}

impl From<GuestFault> for Failure {
    fn from(fault: GuestFault) -> Self {
        Self::Fault(fault)
    }
}

/// The verb has no effect on the real processor.
pub(super) fn done() -> Answer {
    Ok(Flow::Next(Effect::NONE))
}
