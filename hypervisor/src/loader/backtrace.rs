//! Walks the chain of frame pointers of a guest that has stopped. Called by fault reports.
//! The guest wrote every word it follows, so each step is checked and the walk is bounded.

use super::address::is_canonical;
use super::symbols::Symbols;

/// Return addresses, innermost first: `rip` itself, then one for each frame whose two words
/// (caller's frame pointer, return address) `read_word` yields for their virtual addresses.
///
/// Ends after `limit` addresses, or where the chain stops making sense: a frame pointer that is
/// unaligned, not canonical, unreadable or not above the last one, or a return address that no
/// code can have. A stack grows downwards, so callers are always above, and a loop cannot form.
pub fn walk(
    rip: u64,
    rbp: u64,
    mut read_word: impl FnMut(u64) -> Option<u64>,
    limit: usize,
) -> Vec<u64> {
    let frames = std::iter::successors(Frame::at(rbp, &mut read_word), |frame| {
        if frame.caller <= frame.pointer {
            return None;
        }
        Frame::at(frame.caller, &mut read_word)
    });
    std::iter::once(rip)
        .chain(frames.map(|frame| frame.return_address))
        .take(limit)
        .collect()
}

/// One line for each address of [`walk`]: number, address, symbol.
pub fn render(addresses: &[u64], symbols: &Symbols) -> Vec<String> {
    let line = |(number, address): (usize, &u64)| {
        let name = name(number, *address, symbols);
        format!("#{number:<2} {address:#018x}{name}")
    };
    addresses.iter().enumerate().map(line).collect()
}

/// A return address follows its call, and a call that never returns may be a function's last
/// instruction: the byte before the address is what belongs to the caller.
fn name(number: usize, address: u64, symbols: &Symbols) -> String {
    let behind = u64::from(number > 0);
    let found = address
        .checked_sub(behind)
        .and_then(|address| symbols.lookup(address));
    found.map_or_else(String::new, |(name, offset)| {
        format!(" {name}+{:#x}", offset.saturating_add(behind))
    })
}

/// A frame pointer that was checked, and the two words it points at.
struct Frame {
    pointer: u64,
    caller: u64,
    return_address: u64,
}

impl Frame {
    fn at(pointer: u64, read_word: &mut impl FnMut(u64) -> Option<u64>) -> Option<Frame> {
        let second = pointer.checked_add(8)?;
        let is_usable = is_canonical(pointer) && is_canonical(second);
        if pointer == 0 || !pointer.is_multiple_of(8) || !is_usable {
            return None;
        }
        let caller = read_word(pointer)?;
        let return_address = read_word(second)?;
        let is_code = return_address != 0 && is_canonical(return_address);
        is_code.then_some(Frame {
            pointer,
            caller,
            return_address,
        })
    }
}
