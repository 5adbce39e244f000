//! Makes cases from a seed: the same seed, the same cases.
//!
//! `choose` picks operands, `flow`, `state` and `plain` write instructions of a family.
//!
//! What is left out, as no two processors need agree on it or the machine says that it has none:
//! - interrupts, and HLT, which waits for one;
//! - what CPUID and the clocks say (CPUID is executed, and its answers replaced);
//! - bits of CR4 and MSRs that stand for features of which a deprivileged processor has fewer: SMEP,
//!   SMAP, UMIP, FSGSBASE, OSXSAVE, PKE;
//! - EFER.NXE: the kernel itself does not run without;
//! - at CPL 3, silent instructions (docs/decisions/0011) and alignment checks, which QEMU does not make;
//! - code at CPL 1 and 2, 16-bit code and call gates, which modes `trap` and `patch` refuse;
//! - LOCK with MOV to CR0, which is CR8 on AMD and #UD on Intel.
//!
//! What QEMU 7.2, the rig's processor, does otherwise than the manuals say, where modes `trap` and
//! `patch` are right (`tests/corpus/README.md` has the list with its reasons): reserved bits of
//! CR0, CR3, CR4, CR8, DR6, DR7 and SYSENTER_CS, addresses that are not canonical in LGDT, LIDT and
//! MSRs, LOCK, INT1, at CPL 3 control and debug registers that do not exist, and a single step after
//! STI.

mod choose;
mod flow;
mod plain;
mod state;

use case_runner::{Case, MAX_CODE, STACK_WORDS, place, values};
use iced_x86::IcedError;
use iced_x86::code_asm::CodeAssembler;

use crate::Random;

type Assembled = Result<(), IcedError>;

/// The most instructions, or groups of instructions, of a case.
const GROUPS: u64 = 6;
/// One case of this many is at CPL 3.
const USERS: u64 = 5;

/// A case that is being made.
struct Maker {
    random: Random,
    level: u8,
    /// Whether TF may be set: QEMU holds a single step back after STI, as only MOV to SS does (SDM
    /// vol. 3, 6.8.3), so there is no STI then.
    steps: bool,
    /// Whether it is a program that may change IF.
    is_io_level: bool,
    code: CodeAssembler,
}

/// Some cases. Case `n` of a seed does not depend on how many there are.
///
/// # Panics
/// When an instruction cannot be assembled, which is a mistake here.
pub fn generate(seed: u64, count: usize) -> Vec<Case> {
    let mut seeds = Random::new(seed);
    (0..count)
        .map(|_| make(seeds.below(u64::MAX)).expect("the instructions assemble"))
        .collect()
}

fn make(seed: u64) -> Result<Case, IcedError> {
    let mut maker = Maker {
        random: Random::new(seed),
        level: 0,
        steps: false,
        is_io_level: false,
        code: CodeAssembler::new(64)?,
    };
    if maker.random.below(USERS) == 0 {
        maker.level = 3;
    }
    let rflags = maker.start_flags();
    // One group always fits; more are added while there is room.
    let groups = 1 + maker.random.below(GROUPS);
    let mut code = Vec::new();
    for _ in 0..groups {
        maker.group()?;
        let longer = maker.code.assemble(place::CODE)?;
        if longer.len() > MAX_CODE {
            break;
        }
        code = longer;
    }
    let mut whole = [0; MAX_CODE];
    whole[..code.len()].copy_from_slice(&code);
    let selectors = maker.start_selectors();
    let mut index = || maker.random.below(values::VALUES.len() as u64) as u8;
    Ok(Case {
        level: maker.level,
        rflags,
        selectors,
        registers: std::array::from_fn(|_| index()),
        stack: [0; STACK_WORDS].map(|_| index()),
        len: code.len() as u8,
        code: whole,
    })
}

impl Maker {
    /// Write an instruction, with what it needs ahead of it.
    fn group(&mut self) -> Assembled {
        match self.random.below(20) {
            0..4 => self.plain(),
            4..8 => self.flow(),
            8..19 => self.state(),
            _ => self.oddity(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_cases() {
        let cases = generate(7, 60);
        assert_eq!(cases, generate(7, 60));
        assert_eq!(cases[..10], generate(7, 10));
        assert_ne!(cases, generate(8, 60));
        assert!(cases.iter().any(|case| case.level == 3));
        assert!(cases.iter().all(|case| case.len > 0));
    }
}
