//! The door of trapped instructions: what the guest's kernel meant, led to the verbs of
//! `machine::cpu`.
//!
//! Called by the run loop of mode `trap` for each instruction that a guest at CPL 3 could not
//! execute, and by the patcher of mode `patch`. Decides no semantics: those are the verbs'.
//!
//! In walking order: `sites` (RIP to instruction), `classify` (does it need us?), `step` and
//! `operand` (one instruction with all that it touches), then by family `dispatch`, `system`,
//! `transfer`, `port`; `bus` is where ports lead.

mod bus;
mod classify;
mod dispatch;
mod name;
mod operand;
mod port;
mod sites;
mod step;
mod system;
#[cfg(test)]
mod tests;
mod transfer;

use iced_x86::Instruction;

pub use bus::{Devices, PortBus};
pub use classify::{Class, classify};
pub use name::name;
pub use sites::Sites;

use crate::error::GuestFault;
use crate::machine::cpu::registers::flag;
use crate::machine::cpu::{Changes, Cpu, Effect, Exception, Linear, Refusal, Registers};
use step::{Failure, Flow, Step};

/// Why an instruction was not done. But for a repeated string instruction, nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The guest gets an exception at the instruction: see [`Cpu::raise`].
    Exception(Exception),
    /// The guest cannot go on; [`GuestFault::Unsupported`] names instruction and feature.
    Fault(GuestFault),
}

/// Do what an instruction does on the processor that the guest believes to have, and move RIP on.
///
/// The instruction is decoded with its address (see [`Sites`]); `cpuid` is the machine's CPUID
/// function, whose answers the processor filters. With [`Changes::REPEATS`] in the answer, RIP is
/// still at a string instruction that has more to do.
///
/// # Errors
/// [`Stop`].
pub fn emulate(
    instruction: &Instruction,
    cpu: &mut Cpu,
    regs: &mut Registers,
    memory: &mut dyn Linear,
    ports: &mut dyn PortBus,
    cpuid: &dyn Fn(u32, u32) -> [u32; 4],
) -> Result<Effect, Stop> {
    // SDM vol. 2, LOCK: none of these instructions may have the prefix.
    if instruction.is_invalid() || instruction.has_lock_prefix() {
        return Err(Stop::Exception(Exception::invalid_opcode()));
    }
    let at = regs.rip;
    let stepping = regs.has(flag::TF);
    let step_trap = Effect::when(stepping, Changes::SINGLE_STEP);
    let next = at.wrapping_add(instruction.len() as u64);
    let next = if cpu.is_64_bit() {
        next
    } else {
        next & 0xffff_ffff
    };
    let mut step = Step {
        instruction,
        cpu,
        regs,
        memory,
        ports,
        cpuid,
        next,
    };
    match step.dispatch() {
        Ok(Flow::Next(effect)) => {
            regs.rip = next;
            regs.set(flag::RF, false);
            // SDM vol. 3, 6.8.3: a load of SS holds debug traps back too.
            let held = effect.changes.contains(Changes::SHADOW) && stepping && !is_sti(instruction);
            Ok(if held { effect } else { effect.and(step_trap) })
        }
        Ok(Flow::Again(effect)) => Ok(effect.and(Changes::REPEATS).and(step_trap)),
        Ok(Flow::Returned(effect)) => Ok(effect.and(step_trap)),
        Ok(Flow::Entered(effect)) => Ok(effect),
        Err(Failure::Refusal(Refusal::Exception(exception))) => Err(Stop::Exception(exception)),
        Err(Failure::Refusal(Refusal::Unsupported(what))) => {
            Err(Stop::Fault(GuestFault::Unsupported {
                at,
                instruction: format!("`{instruction}`"),
                what,
            }))
        }
        Err(Failure::Fault(fault)) => Err(Stop::Fault(fault)),
    }
}

fn is_sti(instruction: &Instruction) -> bool {
    instruction.mnemonic() == iced_x86::Mnemonic::Sti
}
