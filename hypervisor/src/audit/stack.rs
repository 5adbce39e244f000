//! Finds stores below the stack pointer. Called by [`super::scan`], once an instruction, in order.
//!
//! With a frame pointer a red zone is addressed through RBP, so the distance between the two is
//! followed from `mov rbp, rsp` on. It is given up wherever it is in doubt, so that what is
//! reported is certain; compilers keep the distance equal on all ways into a block.

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, InstructionInfoOptions, Mnemonic, OpAccess,
    OpKind, Register,
};

/// What is known about the stack at one instruction.
pub(super) struct StackTracker {
    /// Bytes by which RSP lies below RBP, while that is known.
    depth: Option<i64>,
    info: InstructionInfoFactory,
}

impl StackTracker {
    pub(super) fn new() -> Self {
        StackTracker {
            depth: None,
            info: InstructionInfoFactory::new(),
        }
    }

    /// Start anew, at a symbol or after bytes that were not understood.
    pub(super) fn reset(&mut self) {
        self.depth = None;
    }

    /// True if `instruction` stores below RSP. Then take account of what it does to the stack.
    pub(super) fn step(&mut self, instruction: &Instruction) -> bool {
        let found = self.is_below(instruction) && self.stores(instruction);
        self.depth = self.depth_after(instruction);
        found
    }

    fn is_below(&self, instruction: &Instruction) -> bool {
        if instruction.memory_index() != Register::None {
            return false;
        }
        let displacement = instruction.memory_displacement64().cast_signed();
        match (instruction.memory_base(), self.depth) {
            (Register::RSP | Register::ESP, _) => displacement < 0,
            (Register::RBP, Some(depth)) => displacement < depth.saturating_neg(),
            _ => false,
        }
    }

    /// True if the explicit memory operand is written; a push's own store is not one.
    fn stores(&mut self, instruction: &Instruction) -> bool {
        let info = self
            .info
            .info_options(instruction, InstructionInfoOptions::NO_REGISTER_USAGE);
        let mut operands = (0..instruction.op_count()).zip(instruction.op_kinds());
        operands.any(|(index, kind)| {
            use OpAccess::{CondWrite, ReadCondWrite, ReadWrite, Write};
            let access = info.op_access(index);
            kind == OpKind::Memory
                && matches!(access, Write | CondWrite | ReadWrite | ReadCondWrite)
        })
    }

    fn depth_after(&self, instruction: &Instruction) -> Option<i64> {
        if is_copy(instruction, Register::RBP, Register::RSP) {
            return Some(0);
        }
        let depth = self.depth?;
        if is_copy(instruction, Register::RSP, Register::RBP) {
            return Some(0);
        }
        match instruction.flow_control() {
            FlowControl::Next => self.depth_after_plain(instruction, depth),
            FlowControl::ConditionalBranch => Some(depth),
            // A callee returns both registers as they were: System V ABI, Registers.
            _ if instruction.mnemonic() == Mnemonic::Call => Some(depth),
            _ => None,
        }
    }

    fn depth_after_plain(&self, instruction: &Instruction, depth: i64) -> Option<i64> {
        let target = instruction.op0_register();
        match instruction.mnemonic() {
            Mnemonic::Push => depth.checked_add(8),
            Mnemonic::Pop if !is_stack_register(target) => depth.checked_sub(8),
            Mnemonic::Sub if target == Register::RSP => depth.checked_add(immediate(instruction)?),
            Mnemonic::Add if target == Register::RSP => depth.checked_sub(immediate(instruction)?),
            Mnemonic::Lea if target == Register::RSP => lea_depth(instruction),
            _ if disturbs(instruction) => None,
            _ => Some(depth),
        }
    }
}

fn is_copy(instruction: &Instruction, to: Register, from: Register) -> bool {
    instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_register() == to
        && instruction.op1_register() == from
}

/// The depth after `lea rsp, [rbp + n]`.
fn lea_depth(instruction: &Instruction) -> Option<i64> {
    let is_plain =
        instruction.memory_base() == Register::RBP && instruction.memory_index() == Register::None;
    let displacement = instruction.memory_displacement64().cast_signed();
    is_plain.then_some(displacement)?.checked_neg()
}

fn immediate(instruction: &Instruction) -> Option<i64> {
    instruction.try_immediate(1).ok().map(u64::cast_signed)
}

/// True if the instruction may change RSP or RBP in a way that is not followed.
fn disturbs(instruction: &Instruction) -> bool {
    let exchanges = matches!(
        instruction.mnemonic(),
        Mnemonic::Xchg | Mnemonic::Xadd | Mnemonic::Cmpxchg
    );
    is_stack_register(instruction.op0_register())
        || (exchanges && is_stack_register(instruction.op1_register()))
        || instruction.is_stack_instruction()
}

fn is_stack_register(register: Register) -> bool {
    matches!(register.full_register(), Register::RSP | Register::RBP)
}
