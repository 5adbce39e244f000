//! The sensitive instructions that need not fault, in groups. Called by [`super::classes`].
//!
//! Popek and Goldberg (1974) ask that every sensitive instruction be privileged; these are x86's
//! exceptions. One table both classifies and explains them.

use iced_x86::{Code, Mnemonic};

/// Sensitive instructions that share a reason.
#[derive(Debug, Clone, Copy)]
pub struct SensitiveGroup {
    /// The instructions, as an assembler spells them.
    pub instructions: &'static str,
    /// What they do at CPL 3 instead of faulting.
    pub why: &'static str,
    holds: fn(Code) -> bool,
}

/// All groups. Each instruction is in one.
pub const SENSITIVE: &[SensitiveGroup] = &[
    SensitiveGroup {
        instructions: "pushf popf",
        why: "pushf shows the real IF and IOPL; popf silently leaves them alone",
        holds: |code| {
            use Mnemonic::{Popf, Popfd, Popfq, Pushf, Pushfd, Pushfq};
            matches!(
                code.mnemonic(),
                Pushf | Pushfd | Pushfq | Popf | Popfd | Popfq
            )
        },
    },
    SensitiveGroup {
        instructions: "iret iretd iretq retf, far call, far jmp",
        why: "between contexts of CPL 3 they succeed without a trap and silently leave IF alone",
        holds: |code| {
            use Mnemonic::{Iret, Iretd, Iretq, Retf};
            matches!(code.mnemonic(), Iret | Iretd | Iretq | Retf)
                || matches!(code, Code::Call_m1616 | Code::Call_m1632 | Code::Call_m1664)
                || matches!(code, Code::Jmp_m1616 | Code::Jmp_m1632 | Code::Jmp_m1664)
        },
    },
    SensitiveGroup {
        instructions: "mov to and from, push and pop of segment registers, lss lfs lgs",
        why: "they show the real selectors with their privilege level, or load from the real tables",
        holds: uses_selector,
    },
    SensitiveGroup {
        instructions: "sgdt sidt sldt str smsw",
        why: "without UMIP they show the real tables and CR0",
        holds: |code| {
            use Mnemonic::{Sgdt, Sidt, Sldt, Smsw, Str};
            matches!(code.mnemonic(), Sgdt | Sidt | Sldt | Smsw | Str)
        },
    },
    SensitiveGroup {
        instructions: "lar lsl verr verw",
        why: "they answer from the real descriptor tables",
        holds: |code| {
            use Mnemonic::{Lar, Lsl, Verr, Verw};
            matches!(code.mnemonic(), Lar | Lsl | Verr | Verw)
        },
    },
    SensitiveGroup {
        instructions: "cpuid rdpid rdtscp rdtsc rdpru",
        why: "they describe the real processor, its number or its clock where nothing intercepts them",
        holds: |code| {
            use Mnemonic::{Cpuid, Rdpid, Rdpru, Rdtsc, Rdtscp};
            matches!(code.mnemonic(), Cpuid | Rdpid | Rdtscp | Rdtsc | Rdpru)
        },
    },
    SensitiveGroup {
        instructions: "rdfsbase rdgsbase wrfsbase wrgsbase",
        why: "with CR4.FSGSBASE they change the real bases unseen, without it they raise #UD",
        holds: |code| {
            use Mnemonic::{Rdfsbase, Rdgsbase, Wrfsbase, Wrgsbase};
            matches!(code.mnemonic(), Rdfsbase | Rdgsbase | Wrfsbase | Wrgsbase)
        },
    },
    SensitiveGroup {
        instructions: "xgetbv rdpkru wrpkru",
        why: "they read or write the real XCR0 and PKRU",
        holds: |code| {
            use Mnemonic::{Rdpkru, Wrpkru, Xgetbv};
            matches!(code.mnemonic(), Xgetbv | Rdpkru | Wrpkru)
        },
    },
    SensitiveGroup {
        instructions: "int n, int3, int1",
        why: "they enter the real interrupt table, which is the hypervisor's",
        holds: |code| {
            use Mnemonic::{Int, Int1, Int3, Into};
            matches!(code.mnemonic(), Int | Int3 | Int1 | Into)
        },
    },
    SensitiveGroup {
        instructions: "syscall sysenter",
        why: "they enter the hypervisor's entry, not the kernel's; a gate belongs in the hypercall page",
        holds: |code| matches!(code.mnemonic(), Mnemonic::Syscall | Mnemonic::Sysenter),
    },
    SensitiveGroup {
        instructions: "vmcall vmmcall vmgexit vmfunc",
        why: "they leave for KVM, not for this hypervisor; on software KVM they can hang a processor",
        holds: |code| {
            use Mnemonic::{Vmcall, Vmfunc, Vmgexit, Vmmcall};
            matches!(code.mnemonic(), Vmcall | Vmmcall | Vmgexit | Vmfunc)
        },
    },
    SensitiveGroup {
        instructions: "monitorx mwaitx umonitor umwait tpause",
        why: "they stop the real processor by the real clock, unseen by the hypervisor",
        holds: |code| {
            use Mnemonic::{Monitorx, Mwaitx, Tpause, Umonitor, Umwait};
            matches!(
                code.mnemonic(),
                Monitorx | Mwaitx | Umonitor | Umwait | Tpause
            )
        },
    },
    SensitiveGroup {
        instructions: "uiret clui stui testui senduipi",
        why: "they use the real processor's user interrupts, which are not virtualized",
        holds: |code| {
            use Mnemonic::{Clui, Senduipi, Stui, Testui, Uiret};
            matches!(code.mnemonic(), Uiret | Clui | Stui | Testui | Senduipi)
        },
    },
];

/// The group of a sensitive instruction.
pub(super) fn group_of(code: Code) -> Option<&'static SensitiveGroup> {
    SENSITIVE.iter().find(|group| (group.holds)(code))
}

fn uses_selector(code: Code) -> bool {
    use Code::{
        Mov_Sreg_r32m16, Mov_Sreg_r64m16, Mov_Sreg_rm16, Mov_r32m16_Sreg, Mov_r64m16_Sreg,
        Mov_rm16_Sreg, Popq_FS, Popq_GS, Popw_FS, Popw_GS, Pushq_FS, Pushq_GS, Pushw_FS, Pushw_GS,
    };
    let moves = matches!(
        code,
        Mov_rm16_Sreg
            | Mov_r32m16_Sreg
            | Mov_r64m16_Sreg
            | Mov_Sreg_rm16
            | Mov_Sreg_r32m16
            | Mov_Sreg_r64m16
    );
    let stacks = matches!(
        code,
        Pushq_FS | Pushq_GS | Pushw_FS | Pushw_GS | Popq_FS | Popq_GS | Popw_FS | Popw_GS
    );
    moves
        || stacks
        || matches!(
            code.mnemonic(),
            Mnemonic::Lss | Mnemonic::Lfs | Mnemonic::Lgs
        )
}
