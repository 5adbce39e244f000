//! The code of a patch: what was moved, for its new place.

use iced_x86::{Code, Encoder, FlowControl, Instruction};

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
    // Where each instruction begins, for branches within the range; the lengths depend on nothing.
    let mut places = Vec::new();
    let (code, steps) = pieces(plan, at, end, is_silent, &|_| None, &mut places)?;
    let place_of = |target: u64| places.iter().find(|(rip, _)| *rip == target);
    let leads_within = |from: &Instruction| place_of(from.near_branch_target()).is_some();
    if !plan.instructions.iter().any(leads_within) {
        return Ok((code, steps));
    }
    let to = |target: u64| place_of(target).map(|(_, offset)| at + *offset as u64);
    let (again, steps) = pieces(plan, at, end, is_silent, &to, &mut Vec::new())?;
    match again.len() == code.len() {
        true => Ok((again, steps)),
        false => Err(Refusal::Reach),
    }
}

fn pieces(
    plan: &Plan,
    at: u64,
    end: u64,
    is_silent: &dyn Fn(&Instruction) -> bool,
    to: &dyn Fn(u64) -> Option<u64>,
    places: &mut Vec<(u64, usize)>,
) -> Result<(Vec<u8>, Vec<Step>), Refusal> {
    let mut steps = Vec::new();
    // All of the code is in its buffer.
    let mut encoder = Encoder::new(64);
    let mut here = 0;
    let mut after_sti = false;
    for instruction in &plan.instructions {
        places.push((instruction.ip(), here));
        let mut step = |at: usize, undo: Undo| {
            steps.push(Step {
                at: here + at,
                rip: instruction.ip(),
                undo,
                after_sti: after_sti && at == 0,
            });
        };
        let kind = Kind::of(instruction);
        here += if let Some(kind) = kind {
            let (bytes, undos) = inline::code_of(kind);
            for (at, undo) in undos {
                step(*at, *undo);
            }
            put(&mut encoder, bytes)
        } else {
            step(0, Undo::Nothing);
            if is_silent(instruction) {
                put(&mut encoder, &[TRAP])
            } else if is_call(instruction) {
                let push = push(instruction.next_ip())?;
                step(push.len(), Undo::Rsp);
                let len = put(&mut encoder, &push);
                let jump = as_jump(instruction);
                len + encode(&mut encoder, &jump, at + (here + len) as u64, to)?
            } else {
                encode(&mut encoder, instruction, at + here as u64, to)?
            }
        };
        after_sti = kind == Some(Kind::Sti);
    }
    if plan.falls_through {
        steps.push(Step {
            at: here,
            rip: end,
            undo: Undo::Nothing,
            after_sti,
        });
        put(&mut encoder, &jump(at + here as u64, end)?);
    }
    Ok((encoder.take_buffer(), steps))
}

/// Put bytes behind what is encoded; how many.
fn put(encoder: &mut Encoder, bytes: &[u8]) -> usize {
    bytes.iter().for_each(|byte| encoder.write_u8(*byte));
    bytes.len()
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

fn is_call(instruction: &Instruction) -> bool {
    let flow = instruction.flow_control();
    matches!(flow, FlowControl::Call | FlowControl::IndirectCall)
}

/// The jump to where a near call leads.
fn as_jump(call: &Instruction) -> Instruction {
    let mut jump = *call;
    jump.set_code(match call.code() {
        Code::Call_rm64 => Code::Jmp_rm64,
        _ => Code::Jmp_rel32_64,
    });
    jump
}

/// `push imm32`, which is sign-extended.
fn push(value: u64) -> Result<[u8; 5], Refusal> {
    let [a, b, c, d] = i32::try_from(value as i64)
        .map_err(|_| Refusal::Reach)?
        .to_le_bytes();
    Ok([0x68, a, b, c, d])
}

/// Encode an instruction for another address; its length there. A near branch leads to where `to` says.
fn encode(
    encoder: &mut Encoder,
    instruction: &Instruction,
    at: u64,
    to: &dyn Fn(u64) -> Option<u64>,
) -> Result<usize, Refusal> {
    let mut moved = *instruction;
    let target = moved.near_branch_target();
    if target != 0 {
        moved.as_near_branch();
        moved.set_near_branch64(to(target).unwrap_or(target));
    }
    // As they are: a branch or an operand that does not reach is an error.
    encoder.encode(&moved, at).map_err(|_| Refusal::Reach)
}
