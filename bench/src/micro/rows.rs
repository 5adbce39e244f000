//! The rows that the guest measures (pv-guest/src/bench/rows.rs), and the bare mechanism that each is
//! divided by.

use hypercall_abi::Mode;

use crate::floor::{self, Platform};

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct MicroRow {
    /// Its name, the same on both sides.
    pub name: &'static str,
    /// What one operation is.
    pub about: &'static str,
    hvm: Option<Yardstick>,
    trap: Option<Yardstick>,
    pv: Option<Yardstick>,
}

/// A bare mechanism, so many times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Yardstick {
    /// The floor's row.
    pub row: floor::Row,
    /// How often one operation needs it.
    pub times: u32,
}

impl Yardstick {
    const fn once(row: floor::Row) -> Option<Self> {
        Some(Self { row, times: 1 })
    }

    /// The mechanism in words.
    pub fn name(self) -> String {
        match self.times {
            1 => self.row.name().to_owned(),
            times => format!("{times} x {}", self.row),
        }
    }
}

impl MicroRow {
    /// Whether one operation does the same each time, whatever the host does meanwhile.
    pub fn is_counted(&self, mode: Mode) -> bool {
        match (self.name, mode) {
            // Where STI and HLT trap, it matters whether the deadline has passed by then.
            ("idle_wake", Mode::Trap | Mode::Patch) => false,
            // Thirty-two instructions of one byte in a row: which of them become jumps changes as it runs.
            ("irq_off_on", Mode::Patch) => false,
            // Two interrupts are not enough for what their handler executes to be replaced.
            ("timer_interrupt", Mode::Patch) => false,
            _ => true,
        }
    }

    /// The bare cost of what this row needs in a mode; `None` where no single mechanism is the
    /// same: a shared word is no trap, and the floor has no such loop at CPL 0.
    pub fn yardstick(&self, mode: Mode, platform: Platform) -> Option<Yardstick> {
        let found = match mode {
            Mode::Hvm => self.hvm,
            Mode::Trap => self.trap,
            // What is patched is no trap any more, or has the trap's floor. PUSHF and POPF do natively at
            // CPL 3 what they did at CPL 0, but for the interrupt flag.
            Mode::Patch if self.name == "popf" => Yardstick::once(floor::Row::Flags),
            Mode::Patch => None,
            Mode::Pv => self.pv,
        }?;
        // Where SYSCALL reaches CPL 0, the slot arm_timer goes through it (monitor/gates.rs).
        let is_gated = mode == Mode::Pv && platform == Platform::Hardware;
        Some(match found.row {
            floor::Row::TimerArm if is_gated => Yardstick {
                row: floor::Row::TimerArmGate,
                ..found
            },
            _ => found,
        })
    }
}

const fn row(
    name: &'static str,
    about: &'static str,
    hvm: Option<Yardstick>,
    pv: Option<Yardstick>,
) -> MicroRow {
    MicroRow {
        name,
        about,
        hvm,
        trap: None,
        pv,
    }
}

/// An instruction alone, which in `trap` is an exit with an emulation in it.
const fn instruction(name: &'static str, about: &'static str) -> MicroRow {
    instructions(1, name, about)
}

/// So many instructions that trap.
const fn instructions(times: u32, name: &'static str, about: &'static str) -> MicroRow {
    let row = row(name, about, None, None);
    MicroRow {
        trap: Some(Yardstick {
            row: floor::Row::TrapExit,
            times,
        }),
        ..row
    }
}

/// Every row, in the order of a report.
pub const ROWS: &[MicroRow] = {
    use floor::Row::*;
    const NONE: Option<Yardstick> = None;
    const fn one(row: floor::Row) -> Option<Yardstick> {
        Yardstick::once(row)
    }
    // What the ring holds of 64 bytes: 40 fit an entry.
    const TWO_ENTRIES: Option<Yardstick> = Some(Yardstick {
        row: Batch64,
        times: 2,
    });
    &[
        row(
            "empty_loop",
            "a turn of an empty loop",
            NONE,
            one(EmptyLoop),
        ),
        row(
            "clock_read",
            "the kernel's clock, in nanoseconds",
            NONE,
            one(ClockRead),
        ),
        row(
            "irq_off_on",
            "interrupts off, and on again",
            one(InterruptsOffOn),
            NONE,
        ),
        row(
            "load_root",
            "another page-table root, of two in turn",
            one(LoadRoot),
            one(LoadRootGate),
        ),
        row(
            "invalidate_page",
            "forget one page's translation",
            NONE,
            one(InvalidatePage),
        ),
        row(
            "null_monitor",
            "a tier-1 call that does nothing",
            NONE,
            one(Gate),
        ),
        row(
            "null_machine",
            "a tier-2 call that does nothing",
            NONE,
            one(MachineExit),
        ),
        row(
            "null_batch",
            "one of 64 batched calls that do nothing",
            NONE,
            one(Batch64),
        ),
        row(
            "console_byte",
            "a byte for the console, in a stream",
            one(ConsoleByte),
            one(Batch64),
        ),
        row(
            "console_64",
            "64 bytes for the console, in a stream",
            one(Console64),
            TWO_ENTRIES,
        ),
        row(
            "console_line",
            "64 bytes that end a line, out on return",
            one(Console64),
            one(MachineExit),
        ),
        row(
            "divide_error",
            "#DE, handled and skipped",
            NONE,
            one(DivideError),
        ),
        row("breakpoint", "#BP, handled", NONE, one(Breakpoint)),
        row(
            "general_protection",
            "#GP, handled and skipped",
            NONE,
            one(GeneralProtection),
        ),
        row(
            "page_remap",
            "a page mapped elsewhere, flushed, touched",
            NONE,
            one(PageRemap),
        ),
        row(
            "table_write",
            "an entry of a page table stored, invalidated, touched",
            NONE,
            one(PageRemap),
        ),
        row(
            "hidden_fault",
            "a mapped page touched for the first time",
            NONE,
            NONE,
        ),
        row(
            "timer_arm",
            "the one-shot timer armed",
            one(TimerArm),
            one(TimerArm),
        ),
        row(
            "timer_interrupt",
            "past the deadline, out of a spin",
            one(TimerInterrupt),
            one(TimerInterrupt),
        ),
        row(
            "idle_wake",
            "past the deadline, out of idle",
            one(IdleWake),
            one(IdleWake),
        ),
        instruction("cli", "CLI, and a NOP"),
        instruction("sti", "STI, interrupts being on, and a NOP"),
        instructions(2, "cli_sti", "CLI and STI, and a NOP behind each"),
        instruction("pushf", "PUSHF, and a NOP"),
        instruction("popf", "POPF, and a NOP"),
        instruction("cr0_read", "MOV from CR0"),
        instruction("cr0_write", "MOV to CR0, the same value"),
        instruction("cr2_read", "MOV from CR2"),
        instruction("cr3_read", "MOV from CR3"),
        instruction("cr3_write", "MOV to CR3, the same root"),
        instruction("cr4_read", "MOV from CR4"),
        instruction("cr4_write", "MOV to CR4, the same value"),
        instruction("cr8_read", "MOV from CR8"),
        instruction("cr8_write", "MOV to CR8, the same value"),
        instruction("dr_read", "MOV from DR7"),
        instruction("dr_write", "MOV to DR7, the same value"),
        instruction("lgdt", "LGDT, the same table"),
        instruction("lidt", "LIDT, the same table"),
        instruction("lldt", "LLDT, of no table"),
        instruction("ltr", "LTR, and a store that makes it available"),
        instruction("clts", "CLTS"),
        instruction("rdmsr", "RDMSR of KERNEL_GS_BASE"),
        instruction("wrmsr", "WRMSR of KERNEL_GS_BASE"),
        instructions(2, "swapgs", "SWAPGS twice"),
        instruction("cpuid", "CPUID of leaf 0"),
        instruction("port_in", "IN from the UART's line status"),
        instruction("port_out", "OUT to the UART's scratch register"),
        instruction("wbinvd", "WBINVD"),
        instruction("segment_read", "MOV from DS"),
        instruction("iretq", "IRETQ to the next instruction"),
    ]
};

/// A row of mode `trap` alone: one of [`ROWS`] again, with the monitor handling the trap by itself.
#[derive(Clone, Copy, Debug)]
pub struct FastRow {
    /// Its name.
    pub name: &'static str,
    /// What one operation is.
    pub about: &'static str,
    /// The row that it is.
    pub of: &'static str,
}

/// Every such row: `paravane run --fast-traps on`.
pub const FAST_ROWS: &[FastRow] = &[
    FastRow {
        name: "cli_fast",
        about: "CLI, and a NOP, with --fast-traps on",
        of: "cli",
    },
    FastRow {
        name: "sti_fast",
        about: "STI, interrupts being on, and a NOP, with --fast-traps on",
        of: "sti",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_armed_timer_is_compared_with_the_way_that_the_platform_arms_it() {
        let row = ROWS.iter().find(|row| row.name == "timer_arm").unwrap();
        let of = |mode, platform| row.yardstick(mode, platform).unwrap().row;
        assert_eq!(of(Mode::Pv, Platform::Hardware), floor::Row::TimerArmGate);
        assert_eq!(of(Mode::Pv, Platform::KvmPvm), floor::Row::TimerArm);
        assert_eq!(of(Mode::Hvm, Platform::Hardware), floor::Row::TimerArm);
    }

    #[test]
    fn a_trapped_instruction_is_compared_with_a_bare_trap_and_only_in_trap() {
        let of = |name: &str, mode| {
            let row = ROWS.iter().find(|row| row.name == name).unwrap();
            row.yardstick(mode, Platform::KvmPvm).map(Yardstick::name)
        };
        assert_eq!(of("cr0_read", Mode::Trap).as_deref(), Some("trap_exit"));
        assert_eq!(of("swapgs", Mode::Trap).as_deref(), Some("2 x trap_exit"));
        for mode in [Mode::Hvm, Mode::Patch, Mode::Pv] {
            assert_eq!(of("cr0_read", mode), None);
        }
    }
}
