//! The code of a patch: what was moved, for its new place.

use iced_x86::{Code, Encoder, FlowControl, Instruction};

use super::area::displacement;
use super::live::{Step, Undo};
use super::plan::{JUMP, Plan};
use super::{Kind, Refusal, inline};

/// HLT: what stands for a sensitive instruction that would not fault.
const TRAP: u8 = 0xf4;

/// How many steps a patch has, and how many bytes, mostly at most.
const STEPS: usize = 16;
const LENGTH: usize = 96;
/// The bytes of a near branch that say how far.
const DISPLACEMENT: usize = 4;
/// How much longer an instruction gets: a short branch that becomes a near one, or a call, which gets a push.
const LONGER: usize = 5;

/// How long the code for a plan is, mostly at most.
pub fn room(plan: &Plan) -> usize {
    let len = |instruction: &Instruction| match Kind::of(instruction) {
        Some(kind) => inline::code_of(kind).0.len(),
        None => instruction.len() + LONGER,
    };
    plan.instructions.iter().map(len).sum::<usize>() + JUMP
}

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
    let mut steps = Vec::with_capacity(STEPS);
    let mut code = Vec::with_capacity(LENGTH);
    let mut encoder = Encoder::new(64);
    // Where each instruction begins, and where each near branch ends that leads somewhere.
    let mut places: Vec<(u64, usize)> = Vec::with_capacity(plan.instructions.len());
    let mut branches: Vec<(usize, u64)> = Vec::new();
    let mut after_sti = false;
    for instruction in &plan.instructions {
        let here = code.len();
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
        if let Some(kind) = kind {
            let (bytes, undos) = inline::code_of(kind);
            for (at, undo) in undos {
                step(*at, *undo);
            }
            code.extend_from_slice(bytes);
        } else if is_silent(instruction) {
            step(0, Undo::Nothing);
            code.push(TRAP);
        } else {
            step(0, Undo::Nothing);
            if is_call(instruction) {
                let push = push(instruction.next_ip())?;
                step(push.len(), Undo::Rsp);
                code.extend_from_slice(&push);
                encode(&mut encoder, &mut code, &as_jump(instruction), at)?;
            } else {
                encode(&mut encoder, &mut code, instruction, at)?;
            }
            let target = instruction.near_branch_target();
            if target != 0 {
                branches.push((code.len(), target));
            }
        }
        after_sti = kind == Some(Kind::Sti);
    }
    // Those within the range lead to what was moved.
    for (end, target) in branches {
        let place = places.iter().find(|(rip, _)| *rip == target);
        let far = place.map(|(_, offset)| (*offset as i32).wrapping_sub(end as i32));
        let displacement = code.get_mut(end.saturating_sub(DISPLACEMENT)..end);
        if let (Some(far), Some(to)) = (far, displacement) {
            to.copy_from_slice(&far.to_le_bytes());
        }
    }
    if plan.falls_through {
        let here = code.len();
        steps.push(Step {
            at: here,
            rip: end,
            undo: Undo::Nothing,
            after_sti,
        });
        code.extend_from_slice(&jump(at + here as u64, end)?);
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

/// Encode an instruction behind code that is for the address `at`. A near branch ends with its displacement.
fn encode(
    encoder: &mut Encoder,
    code: &mut Vec<u8>,
    instruction: &Instruction,
    at: u64,
) -> Result<(), Refusal> {
    let mut moved = *instruction;
    moved.as_near_branch();
    let here = at + code.len() as u64;
    encoder.set_buffer(std::mem::take(code));
    // As they are: a branch or an operand that does not reach is an error.
    let encoded = encoder.encode(&moved, here);
    *code = encoder.take_buffer();
    encoded.map(drop).map_err(|_| Refusal::Reach)
}
