//! The names under which trapped instructions are counted.

use iced_x86::{Instruction, Mnemonic as M, OpKind, Register};

/// The name of a trapped instruction in counts: its mnemonic, with the kind of register for moves.
pub fn name(instruction: &Instruction) -> &'static str {
    match instruction.mnemonic() {
        M::Cli => "trap cli",
        M::Sti => "trap sti",
        M::Hlt => "trap hlt",
        M::Pushf | M::Pushfd | M::Pushfq => "trap pushf",
        M::Popf | M::Popfd | M::Popfq => "trap popf",
        M::In | M::Insb | M::Insw | M::Insd => "trap in",
        M::Out | M::Outsb | M::Outsw | M::Outsd => "trap out",
        M::Iret | M::Iretd | M::Iretq => "trap iret",
        M::Invlpg => "trap invlpg",
        M::Rdmsr => "trap rdmsr",
        M::Wrmsr => "trap wrmsr",
        M::Swapgs => "trap swapgs",
        M::Sysret | M::Sysretq => "trap sysret",
        M::Int | M::Int1 | M::Int3 | M::Into => "trap int",
        M::Cpuid => "trap cpuid",
        M::Lgdt | M::Lidt | M::Lldt | M::Ltr => "trap load of a table",
        M::Sgdt | M::Sidt | M::Sldt | M::Str | M::Smsw => "trap store of a table",
        M::Retf => "trap far return",
        M::Jmp | M::Call => "trap far branch",
        M::Mov => moved(instruction),
        M::Push | M::Pop | M::Lss | M::Lfs | M::Lgs => "trap mov sreg",
        _ => "trap of another instruction",
    }
}

fn moved(instruction: &Instruction) -> &'static str {
    let is = |kind: fn(Register) -> bool| {
        let registers = [0, 1].map(|operand| match instruction.op_kind(operand) {
            OpKind::Register => instruction.op_register(operand),
            _ => Register::None,
        });
        registers.into_iter().any(kind)
    };
    if is(|register| register == Register::CR3) {
        "trap mov cr3"
    } else if is(Register::is_cr) {
        "trap mov cr"
    } else if is(Register::is_dr) {
        "trap mov dr"
    } else {
        "trap mov sreg"
    }
}
