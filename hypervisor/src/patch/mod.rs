//! Run-time patching of what traps most: which instructions, how, and where to. Pure: no KVM, no
//! guest memory. Called by `crate::deprivileged`, which owns the copies of code that are patched.
//!
//! CLI, STI, PUSHF and POPF are one byte, and what replaces them is longer. So they are moved, with
//! their neighbours, into the patch area, and the first five bytes of the moved range become a jump
//! there. In the area they are plain accesses to a flag in memory (`inline`), with no trap and no
//! call.
//!
//! **Nobody arrives in the middle of a moved range unnoticed.** The bytes of the jump's displacement
//! that stand where an instruction began, or where nobody knows what is, are HLT, which traps at CPL
//! 3: `plan` says which bytes, and `area` finds a place that has such a displacement. Where there is
//! none, the instruction goes on trapping ([`Refusal`] says why). Instructions of the range that begin behind the jump stay
//! where they were, too, for who arrives there.
//!
//! **The guest sees original addresses.** [`Live`] leads from an address in the area back to the
//! guest's instruction, and says what has to be undone there (`Undo`).

mod area;
pub(crate) mod inline;
mod live;
mod plan;
mod relocate;
#[cfg(test)]
mod tests;

use std::fmt;

use iced_x86::{Decoder, DecoderOptions, Formatter};
use serde::{Deserialize, Serialize};

pub use area::Area;
pub use live::{Live, Patch, Step, Undo};
pub use plan::{Code, JUMP, Plan, plan};
pub use relocate::{jump, relocate, room};

/// When sites are patched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// A site as its code is found, ahead of its first trap, where no known branch leads to where it would trap; other
    /// sites as with `Adaptive`. A CLI that is not moved along with another site waits for its first trap.
    Found {
        /// How many traps come before the patch of others.
        after: u32,
    },
    /// A site that has trapped so often.
    Adaptive {
        /// How many traps come before the patch.
        after: u32,
    },
    /// Every site that is found, ahead of its first trap; and all functions of the image are looked
    /// through before the guest begins.
    Eager,
    /// No site: each traps, and is counted.
    Never,
}

impl Default for Policy {
    fn default() -> Self {
        Self::Found { after: 3 }
    }
}

/// An instruction that can be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// CLI.
    Cli,
    /// STI.
    Sti,
    /// PUSHFQ.
    Pushf,
    /// POPFQ.
    Popf,
}

impl Kind {
    /// What an instruction is, if it can be replaced.
    pub fn of(instruction: &iced_x86::Instruction) -> Option<Self> {
        // One byte: a prefix would be lost.
        if instruction.len() != 1 {
            return None;
        }
        match instruction.code() {
            iced_x86::Code::Cli => Some(Self::Cli),
            iced_x86::Code::Sti => Some(Self::Sti),
            iced_x86::Code::Pushfq => Some(Self::Pushf),
            iced_x86::Code::Popfq => Some(Self::Popf),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cli => "cli",
            Self::Sti => "sti",
            Self::Pushf => "pushf",
            Self::Popf => "popf",
        })
    }
}

/// Why a site goes on trapping.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    thiserror::Error,
)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The last byte of each possible jump's displacement is where an instruction begins, or may.
    #[error("somebody may arrive at the last byte of the jump")]
    Arrival,
    /// The instructions around it are of kinds that are not moved.
    #[error("next to it is an instruction that cannot be moved")]
    Neighbour,
    /// The moved range would leave the page.
    #[error("the jump would cross the end of a page")]
    Page,
    /// Data that code names is next to it.
    #[error("next to it is data")]
    Data,
    /// The patch area is further than a jump reaches, or an operand from there.
    #[error("the patch area is out of reach")]
    Reach,
    /// No place in the patch area fits.
    #[error("the patch area has no room that fits")]
    Full,
    /// The page's code is executed at two addresses, or it was patched and changed after that.
    #[error("its page is executed at two addresses")]
    Alias,
    /// What was patched here turned out to be something else.
    #[error("its bytes turned out to be other code, or data")]
    Changed,
}

/// What became of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It traps: for a reason, or because it has not trapped often enough.
    Trapping(Option<Refusal>),
    /// It is patched.
    Patched,
}

/// What is known of a site.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Site {
    /// The instruction.
    pub kind: Kind,
    /// How often it trapped.
    pub traps: u64,
    /// What became of it.
    pub state: State,
    /// After a refusal: how many traps come before the next attempt.
    pub wait: u64,
    /// It is not patched any more.
    pub is_barred: bool,
}

impl Site {
    /// One that has not trapped yet.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            traps: 0,
            state: State::Trapping(None),
            wait: 1,
            is_barred: false,
        }
    }
}

/// A site with its patch, for people.
#[derive(Clone, Debug)]
pub struct PatchedSite {
    /// Its linear address.
    pub at: u64,
    /// What is known of it.
    pub site: Site,
    /// The patch that has it.
    pub patch: Option<Patch>,
}

/// Code as text, a line an instruction, with its address.
pub fn disassembly(code: &[u8], at: u64) -> Vec<String> {
    let mut formatter = crate::audit::recorder::formatter();
    let mut lines = Vec::new();
    for instruction in &mut Decoder::with_ip(64, code, at, DecoderOptions::NONE) {
        let mut line = format!("{:#x}  ", instruction.ip());
        formatter.format(&instruction, &mut line);
        lines.push(line);
    }
    lines
}
