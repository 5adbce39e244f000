//! Which instructions to move for a site, and which bytes of the jump have to be HLT.

use iced_x86::{Code as Opcode, FlowControl, Instruction, Register};

use super::{Kind, Refusal};

/// The length of `jmp rel32`.
pub const JUMP: usize = 5;
const PAGE: usize = 4096;
/// How many bytes before the site a range begins at most.
const BACK: usize = 15;

/// What is known of a page of the guest's code.
pub trait Code {
    /// The known instruction that begins at an offset, decoded at its linear address.
    fn instruction(&self, at: usize) -> Option<Instruction>;
    /// Whether a known instruction begins there.
    fn begins(&self, at: usize) -> bool;
    /// Whether a known instruction has a byte there.
    fn is_known(&self, at: usize) -> bool;
    /// Whether nothing is known of the byte, and nobody reads it: a trap stands there.
    fn is_blank(&self, at: usize) -> bool;
    /// How many known branches lead there.
    fn branches_to(&self, at: usize) -> usize;
    /// Whether the byte is in a moved range.
    fn is_patched(&self, at: usize) -> bool;
}

/// A range to move.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The offset in the page where the jump is to stand.
    pub start: usize,
    /// One past the last byte that is moved.
    pub end: usize,
    /// The instructions to move.
    pub instructions: Vec<Instruction>,
    /// The bytes of the displacement that have to be HLT, from its lowest.
    pub traps: [bool; 4],
    /// Whether the last instruction goes on behind it.
    pub falls_through: bool,
    /// How many known branches lead from elsewhere to where they trap: an instruction in it that the jump covers, but for
    /// the first one, or one that a site comes behind.
    pub arrivals: usize,
}

impl Plan {
    /// One instruction, to be executed alone: nothing follows it.
    pub fn of_one(instruction: Instruction) -> Self {
        Self {
            start: 0,
            end: instruction.len(),
            instructions: vec![instruction],
            traps: [false; 4],
            falls_through: false,
            arrivals: 0,
        }
    }
}

/// Find the range for the site at an offset: one that begins at the site, or before it.
///
/// # Errors
/// Why there is none; of several reasons the one of the range that begins at the site.
pub fn plan(code: &impl Code, site: usize) -> Result<Plan, Refusal> {
    let mut seen = Seen {
        code,
        found: Vec::with_capacity(2 * BACK),
    };
    let at_site = range(&mut seen, site, site);
    if at_site.as_ref().is_ok_and(|plan| plan.arrivals == 0) {
        return at_site;
    }
    // One whose last byte of the jump an instruction begins at is refused, whatever else it has.
    let may_be = |at: &usize| code.begins(*at) && !code.begins(at + JUMP - 1);
    let before = (1..=BACK).filter_map(|back| {
        let start = site.checked_sub(back).filter(may_be)?;
        range(&mut seen, start, site).ok()
    });
    // Who arrives in the middle traps. And the fewer bytes are given, the more places fit.
    let given = |plan: &Plan| plan.traps.iter().filter(|trap| **trap).count();
    let mut best = at_site;
    for plan in before {
        let is_better = |best: &Plan| {
            let key = |plan: &Plan| (plan.arrivals, plan.start != site, given(plan));
            key(&plan) < key(best)
        };
        if best.as_ref().map_or(true, is_better) {
            best = Ok(plan);
        }
        // There is none better.
        if best
            .as_ref()
            .is_ok_and(|best| best.arrivals == 0 && given(best) == 0)
        {
            break;
        }
    }
    best
}

/// What is known around a site, each instruction decoded once.
struct Seen<'a, C> {
    code: &'a C,
    found: Vec<(usize, Option<Instruction>)>,
}

impl<C: Code> Seen<'_, C> {
    fn instruction(&mut self, at: usize) -> Option<Instruction> {
        if let Some((_, found)) = self.found.iter().find(|(offset, _)| *offset == at) {
            return *found;
        }
        let found = self.code.instruction(at);
        self.found.push((at, found));
        found
    }
}

/// The range that begins at `start` and has the site in it.
fn range(seen: &mut Seen<'_, impl Code>, start: usize, site: usize) -> Result<Plan, Refusal> {
    let code = seen.code;
    let mut instructions = Vec::with_capacity(2 * JUMP);
    let mut at = start;
    let mut falls_through = true;
    let mut has_site = false;
    let mut wants_more = true;
    while (at < start + JUMP || at <= site || wants_more) && falls_through {
        let Some(found) = seen.instruction(at) else {
            // What comes next is not known yet, or it is in another page.
            return Err(if at >= PAGE {
                Refusal::Page
            } else {
                Refusal::Neighbour
            });
        };
        if !is_movable(&found) {
            return Err(Refusal::Neighbour);
        }
        // What comes behind a call is where it returns to, so it is not moved.
        has_site |= at == site;
        at += found.len();
        if at > PAGE {
            return Err(Refusal::Page);
        }
        falls_through = !matches!(
            found.flow_control(),
            FlowControl::UnconditionalBranch
                | FlowControl::IndirectBranch
                | FlowControl::Return
                | FlowControl::Call
                | FlowControl::IndirectCall
        );
        // STI lets interrupts in after the next instruction: that one is moved with it.
        wants_more = Kind::of(&found) == Some(Kind::Sti);
        instructions.push(found);
    }
    if !has_site {
        return Err(Refusal::Neighbour);
    }
    if falls_through {
        let along = along(seen, at);
        at = along
            .last()
            .map_or(at, |last| (last.ip() % PAGE as u64) as usize + last.len());
        instructions.extend(along);
    }
    if start + JUMP > PAGE {
        return Err(Refusal::Page);
    }
    let end = at.max(start + JUMP);
    for byte in start..end {
        if code.is_patched(byte) {
            return Err(Refusal::Neighbour);
        }
        // Behind the last instruction nothing may be known.
        if byte >= at && (code.is_known(byte) || !code.is_blank(byte)) {
            return Err(match code.is_known(byte) {
                true => Refusal::Arrival,
                false => Refusal::Data,
            });
        }
    }
    let mut traps = [false; 4];
    for (index, trap) in traps.iter_mut().enumerate() {
        let byte = start + 1 + index;
        *trap = byte >= at || code.begins(byte);
    }
    if !traps[3] {
        let arrivals = |to: &Instruction| {
            let branches = code.branches_to((to.ip() % PAGE as u64) as usize);
            let own = instructions.iter();
            let own = own.filter(|from| from.near_branch_target() == to.ip());
            branches.saturating_sub(own.count())
        };
        let offset = |of: &Instruction| (of.ip() % PAGE as u64) as usize;
        let sites = instructions.iter().filter(|of| Kind::of(of).is_some());
        let last = sites.map(offset).max().unwrap_or(site);
        // Those behind stay where they were, too.
        let inner = instructions.iter().skip(1);
        let inner = inner.filter(|of| offset(of) < start + JUMP || offset(of) <= last);
        let arrivals = inner.map(arrivals).sum();
        return Ok(Plan {
            start,
            end,
            instructions,
            traps,
            falls_through,
            arrivals,
        });
    }
    Err(Refusal::Arrival)
}

/// What comes behind a range and is moved along: a CLI, or a branch around one and that, as kernels have it behind PUSHF.
/// Nobody else may arrive there.
fn along(seen: &mut Seen<'_, impl Code>, at: usize) -> Vec<Instruction> {
    let code = seen.code;
    let mut next = |at: usize| {
        let found = seen.instruction(at)?;
        let is_free =
            code.branches_to(at) == 0 && (at..at + found.len()).all(|byte| !code.is_patched(byte));
        (is_free && at + found.len() <= PAGE).then_some(found)
    };
    let Some(first) = next(at) else {
        return Vec::new();
    };
    let is_cli = |found: &Instruction| Kind::of(found) == Some(Kind::Cli);
    if is_cli(&first) {
        return vec![first];
    }
    let is_around = first.flow_control() == FlowControl::ConditionalBranch && is_movable(&first);
    match next(at + first.len()).filter(is_cli) {
        Some(cli) if is_around && first.near_branch_target() == cli.next_ip() => vec![first, cli],
        _ => Vec::new(),
    }
}

/// Whether an instruction can be had elsewhere. What loops in 8 bits has no longer form; a call becomes
/// a push and a jump, which finds its operand only if that has nothing to do with the stack pointer.
fn is_movable(instruction: &Instruction) -> bool {
    let is_near_branch = instruction.is_jcc_short_or_near() || instruction.is_jmp_short_or_near();
    let uses_stack =
        [instruction.memory_base(), instruction.op0_register()].contains(&Register::RSP);
    match instruction.flow_control() {
        FlowControl::Next
        | FlowControl::IndirectBranch
        | FlowControl::Return
        | FlowControl::Interrupt
        | FlowControl::Exception => true,
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => is_near_branch,
        FlowControl::Call => instruction.is_call_near(),
        FlowControl::IndirectCall => instruction.code() == Opcode::Call_rm64 && !uses_stack,
        FlowControl::XbeginXabortXend => false,
    }
}
