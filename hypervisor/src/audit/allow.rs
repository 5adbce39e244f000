//! What an image may contain all the same: each allowance is by name, in one place, with a reason.
//!
//! Only instructions that are [sensitive](super::Class::Sensitive) can be allowed: the others would
//! fault, lose a process's vector registers or be overwritten wherever they stand.

use std::fmt;

use super::classes::Class;
use super::name;

/// One instruction, excused in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// The class of finding that is excused.
    pub class: Class,
    /// The instruction as [`super::Finding::mnemonic`] spells it.
    pub mnemonic: &'static str,
    /// Where it is excused.
    pub place: Place,
    /// Why that does no harm.
    pub why: &'static str,
}

/// Where an [`Allowance`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the whole image.
    Anywhere,
    /// In the symbol whose demangled path ends in this name: `event_return` is itself, and
    /// `kernel::arch::event_return` too. A function that is inlined has no symbol: mark the
    /// allowed ones `#[inline(never)]`.
    Symbol(&'static str),
    /// Between functions: a run of `int3` bytes in no sized symbol, begun where a sized symbol
    /// ends or after an instruction that never falls through (`ret`, `jmp`, `ud2`, or a `nop`
    /// after those), and ended by the next symbol, a 16-byte boundary or the section's end.
    Padding,
}

/// The published allowances. A new row states why it does no harm at CPL 3.
pub const ALLOWANCES: &[Allowance] = &[
    sensitive(
        "iretq",
        Place::Symbol("event_return"),
        "returns from an event between contexts of CPL 3 with one and the same IF; nothing to emulate",
    ),
    sensitive(
        "rdtsc",
        Place::Anywhere,
        "reads the scaled counter natively in every mode while CR4.TSD is clear",
    ),
    sensitive(
        "int3",
        Place::Symbol("breakpoint_instruction"),
        "hands control to a debugger, which is what it is for",
    ),
    sensitive(
        "int3",
        Place::Padding,
        "fills the gap between functions; nothing runs into it",
    ),
];

const fn sensitive(mnemonic: &'static str, place: Place, why: &'static str) -> Allowance {
    Allowance {
        class: Class::Sensitive,
        mnemonic,
        place,
        why,
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Anywhere => f.write_str("anywhere"),
            Place::Symbol(name) => write!(f, "in {name}"),
            Place::Padding => f.write_str("between functions"),
        }
    }
}

/// Why `mnemonic` is allowed in `symbol`, if it is; `symbol` is asked for its name only if that
/// matters. Padding is for [`super::padding`] to decide.
pub(super) fn reason(
    allowances: &[Allowance],
    class: Class,
    mnemonic: &str,
    mut symbol: impl FnMut() -> Option<String>,
) -> Option<&'static str> {
    let mut holds = |place| match place {
        Place::Anywhere => true,
        Place::Symbol(wanted) => symbol().is_some_and(|name| name::last_segment(&name) == wanted),
        Place::Padding => false,
    };
    let mut rows = allowances
        .iter()
        .filter(|row| row.class == class && row.mnemonic == mnemonic);
    rows.find(|row| holds(row.place)).map(|row| row.why)
}

/// True if `allowances` excuse padding.
pub(super) fn padding(allowances: &[Allowance]) -> bool {
    allowances
        .iter()
        .any(|row| row.place == Place::Padding && row.mnemonic == "int3")
}
