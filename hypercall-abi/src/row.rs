//! One row of the table, and what a guest needs to make its call.

use crate::CallError;

/// The argument registers `rdi rsi rdx r10 r8 r9` of a call, unused ones zero.
pub type Args = [u64; 6];

/// The mechanism that carries a call to the other side (the tiers of docs/abi.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// 1: the monitor inside the virtual machine, without an exit.
    Monitor,
    /// 2: an exit to the virtual machine monitor process.
    Machine,
    /// 3: an entry of the batch ring, which the next tier-2 call drains; a call of its own also
    /// works.
    Batch,
}

impl Tier {
    /// The tier's number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Monitor => 1,
            Self::Machine => 2,
            Self::Batch => 3,
        }
    }

    /// The tier's name, as rows spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Machine => "machine",
            Self::Batch => "batch",
        }
    }
}

/// A way to run the guest kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// The native image at CPL 0: hardware virtualization.
    Hvm,
    /// The native image at CPL 3: privileged instructions trap and are emulated.
    Trap,
    /// The native image at CPL 3: privileged instructions are rewritten at run time.
    Patch,
    /// The pv image at CPL 3: privileged instructions are hooks.
    Pv,
}

impl Mode {
    /// Every mode, from the processor's own work to ours.
    pub const ALL: [Self; 4] = [Self::Hvm, Self::Trap, Self::Patch, Self::Pv];

    /// The mode's name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hvm => "hvm",
            Self::Trap => "trap",
            Self::Patch => "patch",
            Self::Pv => "pv",
        }
    }
}

/// A slot of the hypercall page: `SLOT_SIZE` bytes that the hypervisor fills with the instructions
/// that are best on this host. A guest calls or jumps to it and never hard-codes a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Slot {
    /// Call: the tier-1 gate, number in `rax`.
    Monitor = 0,
    /// Call: the tier-2 gate, number in `rax`.
    Machine = 1,
    /// Jump, every register final and `rsp` at a five-word `iretq` frame: let interrupts in and
    /// return through the frame. See `docs/abi.md`, "Returning from an event".
    EventReturn = 2,
    /// Jump, every register final and the frame in the user window: enter user mode.
    EnterUser = 3,
    /// Call: end of interrupt. Clobbers `rax rcx r11`.
    Eoi = 4,
    /// Call: arm the one-shot timer, `edi` nanoseconds from now; 0 disarms. Clobbers `rax rcx r11`.
    ArmTimer = 5,
    /// Call: the batch ring, and not a gate: the guest's library queues an entry.
    Batch = 6,
}

impl Slot {
    /// The slots that the hypercall page holds code for, in page order.
    pub const IN_PAGE: [Self; 6] = [
        Self::Monitor,
        Self::Machine,
        Self::EventReturn,
        Self::EnterUser,
        Self::Eoi,
        Self::ArmTimer,
    ];

    /// The slot's name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Machine => "machine",
            Self::EventReturn => "event_return",
            Self::EnterUser => "enter_user",
            Self::Eoi => "eoi",
            Self::ArmTimer => "arm_timer",
            Self::Batch => "batch",
        }
    }
}

/// One call: a row of the table.
#[derive(Debug)]
pub struct Row {
    /// The number in `rax`; never reused.
    pub number: u64,
    /// The call's name, the same on both sides.
    pub name: &'static str,
    /// The topic that the call belongs to, and the name of its module.
    pub topic: &'static str,
    /// Names and types of the arguments, in register order.
    pub args: &'static [(&'static str, &'static str)],
    /// The result's type.
    pub result: &'static str,
    /// The mechanism that carries it.
    pub tier: Tier,
    /// The hypercall-page slot that it goes through.
    pub slot: Slot,
    /// The modes in which the call exists.
    pub modes: &'static [Mode],
    /// The instruction that does the same on bare hardware, if there is one.
    pub twin: Option<&'static str>,
    /// What the call does, a sentence or more.
    pub doc: &'static str,
}

impl Row {
    /// Whether the call exists in a mode.
    pub fn is_in(&self, mode: Mode) -> bool {
        self.modes.contains(&mode)
    }
}

/// A row as a type: what a typed handler is registered under.
pub trait TypedCall {
    /// The arguments, as a tuple.
    type Args;
    /// The result.
    type Ret: crate::Word;
    /// The row.
    const ROW: &'static Row;
    /// The typed arguments in the registers.
    ///
    /// # Errors
    /// [`CallError::BadArgument`] when a register holds no value of its argument's type.
    fn args(words: &Args) -> Result<Self::Args, CallError>;
}

/// A guest's way through the wall. Every row's stub is a method on it, see [`crate::table`].
pub trait Gate {
    /// Make a call through a slot; the result is the raw result word.
    fn call(&self, slot: Slot, number: u64, args: Args) -> u64;
}

/// Store an argument in the first free register; rows have at most six.
#[doc(hidden)]
#[inline(always)]
pub fn __put(free: &mut [u64], word: u64) -> &mut [u64] {
    match free.split_first_mut() {
        Some((first, rest)) => {
            *first = word;
            rest
        }
        None => &mut [],
    }
}

/// Take the next argument register.
#[doc(hidden)]
#[inline(always)]
pub fn __take(words: &mut impl Iterator<Item = u64>) -> u64 {
    words.next().unwrap_or(0)
}

/// The row of a number in rows that hold it.
#[doc(hidden)]
pub const fn __find(rows: &'static [Row], number: u64) -> &'static Row {
    let mut index = 0;
    while index < rows.len() {
        if rows[index].number == number {
            return &rows[index];
        }
        index += 1;
    }
    panic!("a typed call is declared with its row")
}
