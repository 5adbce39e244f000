//! The classes of finding, and which instruction belongs to which. Called by [`super::scan`].
//!
//! Privileged, sensitive and SIMD depend on the instruction alone; a store below the stack
//! depends on its operands and on the code before it, and is [`super::stack`]'s to judge.

use std::fmt;
use std::sync::OnceLock;

use iced_x86::{Code, Mnemonic};
use serde::Serialize;

use super::{sensitive, simd};

/// Why an instruction is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// It faults when the kernel runs at CPL 3.
    Privileged,
    /// It does not fault at CPL 3 and yet means something else there, or bypasses the hypervisor.
    Sensitive,
    /// It uses vector, mask, tile, MMX or x87 registers, or their control registers.
    Simd,
    /// It stores to memory below the stack pointer.
    BelowStack,
    /// No instruction starts with these bytes.
    Undecodable,
}

/// What is published about a [`Class`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassInfo {
    /// The class described.
    pub class: Class,
    /// Which instructions belong to it.
    pub what: &'static str,
    /// Why that matters to a guest kernel.
    pub why: &'static str,
    /// Where it is specified.
    pub source: &'static str,
}

/// All classes, in the order in which they are reported.
pub const CLASSES: &[ClassInfo] = &[
    ClassInfo {
        class: Class::Privileged,
        what: "raises #GP or #UD at CPL 3 with IOPL 0: hlt, cli, sti, in, out, ins, outs, mov to \
               and from control and debug registers, lgdt lidt lldt ltr lmsw clts, invlpg invpcid, \
               invd wbinvd wbnoinvd, rdmsr wrmsr xsetbv, rdpmc while CR4.PCE is clear, swapgs sysret sysexit, xsaves \
               xrstors, clac stac, monitor mwait, and the instructions of VMX, SVM, SMX and SGX \
               supervisors",
        why: "each one is an exit to be emulated in trap mode; in the pv image it would end the kernel",
        source: "SDM vol. 3A, Privileged Instructions; vol. 1, I/O Privilege Level; APM vol. 3, \
                 System Instruction Reference",
    },
    ClassInfo {
        class: Class::Sensitive,
        what: "does not fault reliably at CPL 3 but reads or changes what the hypervisor \
               virtualizes; listed one by one below",
        why: "no trap tells the hypervisor: the kernel sees the real processor, or its wish is lost",
        source: "SDM vol. 2, each instruction's Operation section",
    },
    ClassInfo {
        class: Class::Simd,
        what: "uses xmm, ymm, zmm, k, tmm, mm or st registers, MXCSR or the x87 control words. \
               Not counted: fxsave xsave and their kin, which carry a process's registers, and \
               instructions that came with SSE and use integer registers only (fences, \
               prefetch, movnti, crc32)",
        why: "the kernel's entry does not save a process's vector registers, and KVM without VMX or \
               SVM cannot interpret these instructions at CPL 0",
        source: "SDM vol. 1, Instruction Set Summary",
    },
    ClassInfo {
        class: Class::BelowStack,
        what: "stores to [rsp - n] without an index register, or to [rbp - n] where the code since \
               `mov rbp, rsp` has not yet taken that much stack. An indexed store can not be \
               judged and is not counted",
        why: "an interrupt's frame overwrites what lies below the stack pointer: kernels have no red zone",
        source: "System V ABI for x86-64, The Stack Frame; SDM vol. 3A, 64-Bit Mode Stack Frame",
    },
    ClassInfo {
        class: Class::Undecodable,
        what: "bytes in an executable section with which no instruction starts, or whose \
               instruction would reach into the next symbol",
        why: "what cannot be read cannot be vouched for; data belongs in a read-only section",
        source: "SDM vol. 2, Opcode Map; decoded by iced-x86",
    },
];

impl Class {
    /// The name used in reports and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Class::Privileged => "privileged",
            Class::Sensitive => "sensitive",
            Class::Simd => "simd",
            Class::BelowStack => "below-stack",
            Class::Undecodable => "undecodable",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The class of an instruction as such; `None` if it is an ordinary one.
pub(crate) fn class_of(code: Code) -> Option<Class> {
    static TABLE: OnceLock<Vec<Option<Class>>> = OnceLock::new();
    let table = TABLE.get_or_init(|| Code::values().map(judge).collect());
    table.get(code as usize).copied().flatten()
}

fn judge(code: Code) -> Option<Class> {
    if is_privileged(code) {
        Some(Class::Privileged)
    } else if sensitive::group_of(code).is_some() {
        Some(Class::Sensitive)
    } else {
        simd::is_simd(code).then_some(Class::Simd)
    }
}

/// iced-x86's judgement, and what it leaves out because a control register may permit it.
fn is_privileged(code: Code) -> bool {
    // SDM vol. 2: RDPMC needs CR4.PCE; MONITOR and MWAIT raise #UD at CPL > 0; GETSEC raises #GP.
    let conditional = matches!(
        code.mnemonic(),
        Mnemonic::Rdpmc
            | Mnemonic::Monitor
            | Mnemonic::Mwait
            | Mnemonic::Getsec
            | Mnemonic::Getsecq
    );
    code.is_privileged() || conditional
}
