//! The chain of frame pointers of the kernel's own stacks. Called by reports.

use core::arch::asm;

use crate::mm;

/// A report shows at most this many callers.
pub const DEPTH: usize = 24;

/// This function's frame pointer, which is its caller's when it is inlined.
#[inline(always)]
pub fn frame_pointer() -> u64 {
    let rbp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    rbp
}

/// Visit the return addresses above a frame pointer, innermost first.
pub fn backtrace(rbp: u64, visit: impl FnMut(u64)) {
    let text = mm::image().text;
    let returns = chain(rbp, read_pair);
    returns
        .take(DEPTH)
        .take_while(|address| text.contains(address))
        .for_each(visit);
}

/// The return addresses of a chain of frames, each read as (caller's frame pointer, return address).
fn chain(rbp: u64, read: impl Fn(u64) -> Option<(u64, u64)>) -> impl Iterator<Item = u64> {
    let mut next = Some(rbp);
    core::iter::from_fn(move || {
        let at = next?;
        let (caller, address) = read(at)?;
        // A stack grows down, so callers are above: the chain cannot loop.
        next = (caller > at).then_some(caller);
        Some(address)
    })
}

/// The two words at a frame pointer, if it points into a stack.
fn read_pair(rbp: u64) -> Option<(u64, u64)> {
    let stack = mm::stacks::around(rbp)?;
    if !rbp.is_multiple_of(8) || stack.end - rbp < 16 {
        return None;
    }
    let words = rbp as *const u64;
    // SAFETY: `around` names memory that is mapped as long as a thread uses it, and both words are
    // in it. They may be anything; nobody writes them now, for this is the only processor.
    unsafe { Some((words.read_volatile(), words.add(1).read_volatile())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_chain_ends_where_it_stops_making_sense() {
        let frames = [
            (0x100, (0x140, 1)),
            (0x140, (0x180, 2)),
            (0x180, (0x140, 3)),
        ];
        let read = |at| frames.iter().find(|f| f.0 == at).map(|f| f.1);
        assert_eq!(chain(0x100, read).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(chain(0x101, read).count(), 0);
        let loops = |_| Some((0x100, 9));
        assert_eq!(chain(0x100, loops).count(), 1);
    }

    #[test]
    fn only_stacks_are_read() {
        assert_eq!(read_pair(0), None);
        assert_eq!(read_pair(u64::MAX - 7), None);
        assert_eq!(read_pair(mm::image().data.end - 8), None);
        assert_eq!(read_pair(mm::STACKS), None);
    }
}
