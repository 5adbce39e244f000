//! Recognizes the `int3` bytes that fill the gaps between functions. Called by [`super::scan`].
//!
//! An `int3` is a gate on one platform, so one that can be reached must count. Linkers fill gaps
//! in code with the same byte. [`super::Place::Padding`] has the rule that tells them apart.

use iced_x86::{FlowControl, Instruction, Mnemonic};

use super::symbols::SymbolMap;

const INT3: u8 = 0xcc;
/// Linkers place functions at multiples of this, in bytes.
const FUNCTION_ALIGN: u64 = 16;

/// Whether control can fall through to the next byte, as far as the bytes before it tell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Reached,
    Cut,
}

impl Flow {
    /// The flow after `instruction`, if it was this before.
    pub(super) fn after(self, instruction: &Instruction, symbols: &SymbolMap<'_>) -> Flow {
        match instruction.flow_control() {
            FlowControl::UnconditionalBranch
            | FlowControl::IndirectBranch
            | FlowControl::Return
            | FlowControl::Exception => Flow::Cut,
            // A function may end in a call that never returns: then its size tells.
            _ if instruction.mnemonic() == Mnemonic::Nop => match symbols.ends_at(instruction.ip())
            {
                true => Flow::Cut,
                false => self,
            },
            _ => Flow::Reached,
        }
    }
}

/// How many bytes of padding start at `address`, the first of `rest`, which reaches to the next
/// symbol or the section's end. 0 if the bytes there are not padding.
pub(super) fn length(symbols: &SymbolMap<'_>, flow: Flow, address: u64, rest: &[u8]) -> u64 {
    if rest.first() != Some(&INT3) || symbols.owner(address).is_some_and(|owner| owner.is_sized) {
        return 0;
    }
    // Asked before the run is counted, so that bytes of a run that is none are counted once.
    if flow == Flow::Reached && !symbols.ends_at(address) {
        return 0;
    }
    let run = rest.iter().take_while(|&&byte| byte == INT3).count();
    let run_len = run as u64;
    let is_aligned = address
        .checked_add(run_len)
        .is_some_and(|end| end % FUNCTION_ALIGN == 0);
    if run == rest.len() || is_aligned {
        run_len
    } else {
        0
    }
}
