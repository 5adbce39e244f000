//! Following the guest's code into the copies of its pages: what is an instruction, and what is data that
//! instructions name. Called when the guest arrives where nothing is known yet.

use std::sync::Arc;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};
use rustc_hash::FxHashMap;

use super::page::Own;
use super::plain::Plain;
use super::{Copies, End, LONGEST, PAGE, split};
use crate::patch::Kind;

/// Instructions after which bytes are code rather than data.
const ENOUGH: usize = 2;
/// As many bytes as they have at most.
const LOOK: usize = ENOUGH * LONGEST;
/// Instructions that one discovery takes in at most; the rest is found when the guest gets there.
const AT_ONCE: usize = 1 << 14;

/// What discovery has to know of the machine.
pub struct Ground<'a> {
    /// Guest-physical memory; false where there is none.
    pub read: &'a dyn Fn(u64, &mut [u8]) -> bool,
    /// The pointer that the guest's kernel reads at a linear address.
    pub pointer_at: &'a dyn Fn(u64) -> Option<u64>,
    /// Where the guest's kernel executes a linear page from.
    pub frame_at: &'a mut dyn FnMut(u64) -> Option<u64>,
    /// Whether an instruction has to stay a trap.
    pub is_silent: &'a dyn Fn(&Instruction) -> bool,
    /// The guest's own bytes of a frame without a copy, if it is to have one: then the code in it is followed.
    pub begin: &'a dyn Fn(u64) -> Option<Own>,
}

/// A discovery on its way.
struct Walk<'a> {
    ground: Ground<'a>,
    /// What is known of `Ground::frame_at`.
    frames: FxHashMap<u64, Option<u64>>,
    /// Where to go on: linear and guest-physical addresses.
    waiting: Vec<(u64, u64)>,
    /// What is branched to, physical.
    branches: Vec<u64>,
    /// Addresses that instructions name, for once the code around them is known.
    named: Vec<Named>,
    /// How many instructions may come yet.
    left: usize,
}

/// An address that an instruction names.
#[derive(Clone, Copy)]
enum Named {
    /// It reads or writes so many bytes there.
    Data(u64, usize),
    /// It takes the address.
    Taken(u64),
    /// It branches to where a pointer there leads.
    Pointer(u64),
}

impl Named {
    fn of(found: &Instruction) -> Option<Self> {
        let is_named = found.is_ip_rel_memory_operand();
        let at = is_named.then(|| found.ip_rel_memory_address())?;
        Some(match (found.mnemonic(), found.flow_control()) {
            (Mnemonic::Lea, _) => Self::Taken(at),
            (_, FlowControl::IndirectCall | FlowControl::IndirectBranch) => Self::Pointer(at),
            _ => Self::Data(at, found.memory_size().size().max(1)),
        })
    }
}

/// How a piece of code ends.
enum Last {
    /// It branches away, or to what is known.
    Done,
    /// It goes on in the next page.
    Next,
    /// In an instruction that is not whole in its page, or is none.
    Across,
}

impl Walk<'_> {
    fn translate(&mut self, at: u64) -> Option<u64> {
        let (page, offset) = split(at);
        let frame_at = &mut *self.ground.frame_at;
        let frame = *self.frames.entry(page).or_insert_with(|| frame_at(page));
        frame.map(|frame| frame + offset as u64)
    }

    /// What waits last, as an offset in a page, if it is there and not known.
    fn next_in(
        &mut self,
        page: u64,
        frame: u64,
        is_known: &dyn Fn(usize) -> bool,
    ) -> Option<usize> {
        while let Some((at, phys)) = self.waiting.last().copied() {
            let offset = (at % PAGE) as usize;
            if at - at % PAGE != page || phys - phys % PAGE != frame {
                return None;
            }
            self.waiting.pop();
            if !is_known(offset) {
                return Some(offset);
            }
        }
        None
    }

    /// Note what a near branch leads to.
    fn branch_to(&mut self, target: u64) {
        if let Some(phys) = self.translate(target) {
            self.branches.push(phys);
            self.waiting.push((target, phys));
        }
    }

    /// Note where an instruction leads to, and what it names; whether the next one may come after it.
    fn lead(&mut self, found: &Instruction) -> bool {
        let target = found.near_branch_target();
        if target != 0 {
            self.branch_to(target);
        }
        self.named.extend(Named::of(found));
        matches!(
            found.flow_control(),
            FlowControl::Next
                | FlowControl::Call
                | FlowControl::IndirectCall
                | FlowControl::Interrupt
                | FlowControl::ConditionalBranch
        )
    }
}

impl Copies {
    /// Follow the code from `rip`, in pages that have copies or get them. The copies are still to be written.
    pub fn discover(&mut self, ground: Ground<'_>, rip: u64) {
        self.counts.discoveries += 1;
        let mut walk = Walk {
            ground,
            frames: FxHashMap::default(),
            waiting: Vec::new(),
            branches: Vec::new(),
            named: Vec::new(),
            left: AT_ONCE,
        };
        let first = walk.translate(rip).map(|phys| (rip, phys));
        walk.waiting.extend(first);
        while let Some(start) = walk.waiting.pop() {
            let mut next = Some(start);
            while let Some((at, phys)) = next {
                next = self.follow_page(&mut walk, at, phys);
            }
        }
        self.add_targets(walk.branches);
    }

    /// Follow the code from `at`, and what waits in the same page, to where it branches away, or to the end of its
    /// page: then where it goes on is returned. What it branches to is added to what waits.
    fn follow_page(&mut self, walk: &mut Walk<'_>, at: u64, phys: u64) -> Option<(u64, u64)> {
        let (frame, mut start) = split(phys);
        let page = at - start as u64;
        if !self.by_frame.contains_key(&frame) {
            self.add(frame, (walk.ground.begin)(frame)?).ok()?;
        }
        let copy = self.by_frame.get_mut(&frame)?;
        if copy.starts_at(start) || walk.left == 0 {
            return None;
        }
        let (shown, own) = copy.change();
        let mut decoder = Decoder::with_ip(64, own, page, DecoderOptions::NONE);
        let mut found = Instruction::default();
        let (last, offset) = loop {
            let mut offset = start;
            let last = loop {
                if walk.left == 0 || shown.starts.has(offset) {
                    break Last::Done;
                }
                walk.left -= 1;
                let window = own.get(offset..).and_then(|rest| rest.first_chunk());
                let plain = window.and_then(Plain::of);
                let len = match plain {
                    Some(plain) => plain.len,
                    None => {
                        decoder.set_position(offset).ok()?;
                        decoder.set_ip(page + offset as u64);
                        decoder.decode_out(&mut found);
                        if found.is_invalid() {
                            break Last::Across;
                        }
                        found.len()
                    }
                };
                let end = offset + len;
                if shown.patched.first(offset..end).is_some() {
                    self.counts.conflicts += 1;
                    self.conflicts.push((frame, offset));
                    break Last::Done;
                }
                let is_silent = plain.is_none() && (walk.ground.is_silent)(&found);
                shown.begin(own, offset..end, is_silent);
                self.counts.instructions += 1;
                self.counts.silent += u64::from(is_silent);
                let goes_on = match plain {
                    Some(plain) => {
                        if let Some(far) = plain.branch {
                            walk.branch_to((page + end as u64).wrapping_add_signed(far.into()));
                        }
                        plain.goes_on
                    }
                    None => {
                        if let Some(kind) = Kind::of(&found) {
                            self.sites.push((found.ip(), kind));
                        }
                        walk.lead(&found)
                    }
                };
                offset = end;
                if !goes_on {
                    break Last::Done;
                }
                if offset as u64 == PAGE {
                    break Last::Next;
                }
            };
            shown.fill(own, start..offset);
            if !matches!(last, Last::Done) {
                break (last, offset);
            }
            let is_known = |offset| shown.starts.has(offset);
            let Some(next) = walk.next_in(page, frame, &is_known) else {
                break (last, offset);
            };
            start = next;
        };
        // The last page of all addresses ends at the first one.
        let at = page.wrapping_add(offset as u64);
        let goes_on = match last {
            Last::Done => None,
            Last::Next => Some(at),
            Last::Across => {
                let found = self.take_in_across(walk, at, frame, offset);
                found.and_then(|found| walk.lead(&found).then(|| found.next_ip()))
            }
        };
        for named in std::mem::take(&mut walk.named) {
            self.show_named(walk, named);
        }
        let at = goes_on?;
        Some((at, walk.translate(at)?))
    }

    /// Take in an instruction that ends in the next page.
    fn take_in_across(
        &mut self,
        walk: &mut Walk<'_>,
        at: u64,
        begins_in: u64,
        offset: usize,
    ) -> Option<Instruction> {
        let here = self.by_frame.get(&begins_in)?.original.get(offset..)?;
        if here.len() >= LONGEST {
            return None;
        }
        let mut bytes = here.to_vec();
        let in_page = bytes.len();
        let (ends_in, _) = split(walk.translate(at.wrapping_add(in_page as u64))?);
        bytes.resize(LONGEST, 0);
        let rest = bytes.get_mut(in_page..)?;
        match self.by_frame.get(&ends_in) {
            Some(copy) => rest.copy_from_slice(copy.original.get(..rest.len())?),
            None if (walk.ground.read)(ends_in, rest) => {}
            None => return None,
        }
        let found = decode(&bytes, at)?;
        let beyond = bytes.get(in_page..found.len())?;
        let is_silent = (walk.ground.is_silent)(&found);
        for (frame, offset, len) in [(begins_in, offset, in_page), (ends_in, 0, beyond.len())] {
            let copy = self.by_frame.get(&frame);
            if copy.is_some_and(|copy| copy.is_patched(offset, len)) {
                self.conflict(frame, offset);
                return None;
            }
        }
        let copy = self.by_frame.get_mut(&begins_in)?;
        let (shown, own) = copy.change();
        shown.begin(own, offset..offset + in_page, is_silent);
        shown.fill(own, offset..offset + in_page);
        if let Some(copy) = self.by_frame.get_mut(&ends_in) {
            for (offset, byte) in beyond.iter().enumerate() {
                copy.put(offset, *byte);
            }
        }
        let bytes = beyond.to_vec();
        self.ends.insert(ends_in, End { begins_in, bytes });
        self.counts.instructions += 1;
        self.counts.silent += u64::from(is_silent);
        Some(found)
    }

    /// Let the data that an instruction names by its address be read. Where the address is only taken it
    /// may be code's, as is where a pointer leads: then that is followed.
    fn show_named(&mut self, walk: &mut Walk<'_>, named: Named) -> Option<()> {
        let (at, size) = match named {
            Named::Taken(at) => {
                if self.follow_later(walk, at) {
                    return None;
                }
                // How much it is, the instruction does not say: up to the next code, which `show` keeps.
                (at, PAGE as usize)
            }
            Named::Pointer(at) => {
                if let Some(target) = (walk.ground.pointer_at)(at) {
                    self.follow_later(walk, target);
                }
                (at, size_of::<u64>())
            }
            Named::Data(at, size) => (at, size),
        };
        let (frame, offset) = split(walk.translate(at)?);
        let end = offset.saturating_add(size).min(PAGE as usize);
        let named = Arc::make_mut(&mut self.named);
        named.entry(frame).or_default().push((offset, end));
        let copy = self.by_frame.get_mut(&frame)?;
        if !copy.show(offset, end) {
            self.conflict(frame, offset);
        }
        None
    }

    /// Have what is at an address followed, if it looks like code.
    fn follow_later(&self, walk: &mut Walk<'_>, at: u64) -> bool {
        let Some(phys) = walk.translate(at) else {
            return false;
        };
        let is_code = self.is_code(walk.ground.read, split(phys), at);
        if is_code {
            walk.waiting.push((at, phys));
        }
        is_code
    }

    /// Whether the guest's own bytes at an offset of a frame look like code.
    fn is_code(
        &self,
        read: &dyn Fn(u64, &mut [u8]) -> bool,
        (frame, offset): (u64, usize),
        at: u64,
    ) -> bool {
        let mut bytes = [0; LOOK];
        let len = LOOK.min((PAGE as usize).saturating_sub(offset));
        let Some(bytes) = bytes.get_mut(..len) else {
            return false;
        };
        if let Some(copy) = self.by_frame.get(&frame) {
            let Some(own) = copy.original.get(offset..offset + len) else {
                return false;
            };
            bytes.copy_from_slice(own);
        } else if !read(frame + offset as u64, bytes) {
            return false;
        }
        looks_like_code(bytes, at)
    }
}

/// Whether bytes look like code: instructions, up to one that does not go on. What does not is data, and
/// shown; but what is shown is executed as it is, so the doubt is for code.
fn looks_like_code(bytes: &[u8], at: u64) -> bool {
    /// Two instructions of zeros: `add [rax], al` is no code that anybody writes.
    const ZEROS: [u8; 4] = [0; 4];
    let mut rest = bytes;
    for _ in 0..ENOUGH {
        if rest.starts_with(&ZEROS) {
            return false;
        }
        let (len, ends) = if let Some(plain) = rest.first_chunk().and_then(Plain::of) {
            (plain.len, !plain.goes_on)
        } else if let Some(found) = decode(rest, at) {
            let ends = matches!(
                found.flow_control(),
                FlowControl::UnconditionalBranch
                    | FlowControl::IndirectBranch
                    | FlowControl::Return
            );
            (found.len(), ends)
        } else {
            // At the end of the page the rest of an instruction is in the next one.
            return rest.len() < LONGEST && rest.len() < bytes.len();
        };
        if ends {
            return true;
        }
        rest = rest.get(len..).unwrap_or_default();
    }
    true
}

/// The instruction that bytes begin with, if it is a whole one.
pub(super) fn decode(bytes: &[u8], at: u64) -> Option<Instruction> {
    let instruction = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

#[cfg(test)]
mod tests {
    use super::looks_like_code;

    #[test]
    fn code_goes_on_to_a_branch_and_data_does_not() {
        // push rbp; mov rbp, rsp; xor eax, eax; pop rbp; ret
        let code = [0x55, 0x48, 0x89, 0xe5, 0x31, 0xc0, 0x5d, 0xc3, 0x06];
        assert!(looks_like_code(&code, 0x1000));
        // A descriptor table, and bytes with an invalid opcode.
        assert!(!looks_like_code(&[0, 0, 0, 0, 0, 0, 0, 0, 0xff], 0x1000));
        assert!(!looks_like_code(&[0x07, 0x12, 0x34, 0x56], 0x1000));
    }
}
