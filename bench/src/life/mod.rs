//! How virtual machines come and go, timed from outside of the guest: in this process (`phases`), as
//! processes of their own (`process`), and what one that is idle costs (`footprint`).

mod entry;
mod footprint;
mod phases;
mod process;

pub use footprint::{measure as footprint, measure_with as footprint_with};
pub use phases::{Known, Phases, busy, first_instruction, phases};
pub use process::Program;

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct LifeRow {
    /// Its name.
    pub name: &'static str,
    /// What is timed.
    pub about: &'static str,
    /// What of the floor it is divided by, in words.
    pub mechanism: Option<&'static str>,
}

/// What the guest kernel's virtual machine takes to be built.
pub const VM_CREATE: &str = "vm_create";
/// And to execute an instruction.
pub const FIRST_INSTRUCTION: &str = "first_instruction";
/// And to write a byte.
pub const FIRST_BYTE: &str = "first_byte";
/// And to ask for a command.
pub const SHELL_PROMPT: &str = "shell_prompt";
/// And likewise, less what is spent on shadow page tables.
pub const PROMPT_LESS_TABLES: &str = "prompt_less_tables";
/// What it takes to the prompt where a file says what earlier boots have learned of the image's code.
pub const KEPT_PROMPT: &str = "kept_prompt";
/// And likewise, less what is spent on shadow page tables.
pub const KEPT_LESS_TABLES: &str = "kept_less_tables";
/// What it takes to the prompt where earlier boots of this process have learned the image's code.
pub const LEARNED_PROMPT: &str = "learned_prompt";
/// And likewise, less what is spent on shadow page tables.
pub const LEARNED_LESS_TABLES: &str = "learned_less_tables";
/// And, in a boot that has a lot to do, to power off.
pub const BUSY_BOOT: &str = "busy_boot";
/// What it takes there to fetch and decode an instruction that trapped.
pub const DECODE: &str = "decode";
/// What closing it takes.
pub const VM_TEARDOWN: &str = "vm_teardown";
/// The first byte on the standard output of a process.
pub const PROCESS_FIRST_BYTE: &str = "process_first_byte";
/// The whole life of a process.
pub const PROCESS_RUN: &str = "process_run";
/// Memory of the hypervisor's process beside the guest's.
pub const VMM_MEMORY: &str = "vmm_memory";
/// Processor time of an idle guest.
pub const IDLE_CPU: &str = "idle_cpu";

/// Every row, in the order of a report. The two last ones are no times.
pub const ROWS: &[LifeRow] = &[
    row(
        VM_CREATE,
        "from nothing to a machine that can run",
        Some("create"),
    ),
    row(
        FIRST_INSTRUCTION,
        "from nothing to an exit of its first instructions",
        Some("first byte"),
    ),
    row(
        FIRST_BYTE,
        "from nothing to the kernel's first byte",
        Some("first byte"),
    ),
    row(
        SHELL_PROMPT,
        "from nothing to the shell's prompt; exits: to its end",
        None,
    ),
    row(
        PROMPT_LESS_TABLES,
        "the same, less shadow page tables and their exits",
        None,
    ),
    row(
        KEPT_PROMPT,
        "to the prompt, the code known from boots before: from a file, which is read first",
        None,
    ),
    row(
        KEPT_LESS_TABLES,
        "the same, less shadow page tables and their exits",
        None,
    ),
    row(
        LEARNED_PROMPT,
        "to the prompt, the code known from boots before in this process",
        None,
    ),
    row(
        LEARNED_LESS_TABLES,
        "the same, less shadow page tables and their exits",
        None,
    ),
    row(
        BUSY_BOOT,
        "from nothing, over threads that hand a semaphore on, to its end",
        None,
    ),
    row(
        DECODE,
        "of each busy boot, the mean: an instruction that trapped, fetched and decoded; less the clock",
        None,
    ),
    row(
        VM_TEARDOWN,
        "a machine that powered off, closed",
        Some("teardown"),
    ),
    row(
        PROCESS_FIRST_BYTE,
        "start of paravane to the guest's first byte",
        Some("floor-vm to its byte"),
    ),
    row(
        PROCESS_RUN,
        "all of paravane with a guest that powers off",
        Some("floor-vm to its end"),
    ),
    row(VMM_MEMORY, "resident memory beside the guest's", None),
    row(IDLE_CPU, "processor time while the guest is idle", None),
];

const fn row(name: &'static str, about: &'static str, mechanism: Option<&'static str>) -> LifeRow {
    LifeRow {
        name,
        about,
        mechanism,
    }
}
