//! The code of a patch: what was moved, for its new place.

use iced_x86::{BlockEncoder, BlockEncoderOptions, Instruction, InstructionBlock};

use super::area::displacement;
use super::live::{Step, Undo};
use super::plan::{JUMP, Plan};
use super::{Kind, Refusal, inline};

/// HLT: what stands for a sensitive instruction that would not fault.
const TRAP: u8 = 0xf4;

/// The code at `at` for a plan, and what it is for the guest. `end` is the linear address behind the
/// range. Its length does not depend on `at`.
///
/// # Errors
/// [`Refusal::Reach`].
pub fn relocate(
    plan: &Plan,
    at: u64,
    end: u64,
    is_silent: &dyn Fn(&Instruction) -> bool,
) -> Result<(Vec<u8>, Vec<Step>), Refusal> {
    let (mut code, mut steps) = (Vec::new(), Vec::new());
    let mut after_sti = false;
    for instruction in &plan.instructions {
        let here = code.len();
        let mut step = |at: usize, undo: Undo| {
            steps.push(Step {
                at: here + at,
                rip: instruction.ip(),
                undo,
                after_sti: after_sti && at == 0,
            });
        };
        let kind = Kind::of(instruction);
        match kind {
            Some(kind) => {
                let (bytes, undos) = inline::code_of(kind);
                for (at, undo) in undos {
                    step(at, undo);
                }
                code.extend(bytes);
            }
            None => {
                step(0, Undo::Nothing);
                match is_silent(instruction) {
                    true => code.push(TRAP),
                    false => code.extend(encode(instruction, at + here as u64)?),
                }
            }
        }
        after_sti = kind == Some(Kind::Sti);
    }
    if plan.falls_through {
        steps.push(Step {
            at: code.len(),
            rip: end,
            undo: Undo::Nothing,
            after_sti,
        });
        let back = jump(at + code.len() as u64, end)?;
        code.extend(back);
    }
    Ok((code, steps))
}

/// `jmp rel32`, at an address, to another.
///
/// # Errors
/// [`Refusal::Reach`].
pub fn jump(at: u64, to: u64) -> Result<[u8; JUMP], Refusal> {
    let next = at.wrapping_add(JUMP as u64);
    let [a, b, c, d] = displacement(next, to).ok_or(Refusal::Reach)?.to_le_bytes();
    Ok([0xe9, a, b, c, d])
}

/// The instruction's bytes at another address.
fn encode(instruction: &Instruction, at: u64) -> Result<Vec<u8>, Refusal> {
    let target = match instruction.is_ip_rel_memory_operand() {
        true => instruction.ip_rel_memory_address(),
        false if instruction.near_branch_target() != 0 => instruction.near_branch_target(),
        false => at,
    };
    // With some room: the instruction's length counts, too. The encoder would go there by a table.
    displacement(at.wrapping_add(32), target).ok_or(Refusal::Reach)?;
    displacement(at, target).ok_or(Refusal::Reach)?;
    let block = [*instruction];
    let block = InstructionBlock::new(&block, at);
    let encoded = BlockEncoder::encode(64, block, BlockEncoderOptions::NONE);
    encoded
        .map(|done| done.code_buffer)
        .map_err(|_| Refusal::Reach)
}
