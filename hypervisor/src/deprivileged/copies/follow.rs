//! Following the guest's code into the copies of its pages: what is an instruction, and what is data that
//! instructions name. Called when the guest arrives where nothing is known yet.

use std::sync::Arc;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};
use rustc_hash::FxHashMap;

use super::{Copies, End, LONGEST, PAGE, split};
use crate::error::HostError;
use crate::memory::Memory;
use crate::patch::Kind;

/// Instructions after which bytes are code rather than data.
const ENOUGH: usize = 2;
/// As many bytes as they have at most.
const LOOK: usize = ENOUGH * LONGEST;
/// Instructions that one discovery takes in at most; the rest is found when the guest gets there.
const AT_ONCE: usize = 1 << 14;

impl Copies {
    /// Follow the code from `rip`, in pages that have copies; `translate` says where the guest's
    /// kernel executes an address from.
    ///
    /// # Errors
    /// [`HostError`], when a copy cannot be written.
    pub fn discover(
        &mut self,
        memory: &Memory,
        rip: u64,
        translate: &mut dyn FnMut(u64) -> Option<u64>,
        is_silent: &dyn Fn(&Instruction) -> bool,
    ) -> Result<(), HostError> {
        self.counts.discoveries += 1;
        let mut frames = FxHashMap::default();
        let translate = &mut |at: u64| {
            let (page, offset) = split(at);
            let frame = *frames.entry(page).or_insert_with(|| translate(page));
            frame.map(|frame| frame + offset as u64)
        };
        let mut waiting = vec![rip];
        let mut left = AT_ONCE;
        while let Some(start) = waiting.pop() {
            let mut next = Some(start);
            while let Some(at) = next {
                next = self.follow_page(memory, at, translate, is_silent, &mut waiting, &mut left);
            }
        }
        self.write_back(memory)
    }

    /// Follow the code from `at` to where it branches away, or to the end of its page: then that is
    /// returned. What it branches to is added to `waiting`.
    fn follow_page(
        &mut self,
        memory: &Memory,
        mut at: u64,
        translate: &mut dyn FnMut(u64) -> Option<u64>,
        is_silent: &dyn Fn(&Instruction) -> bool,
        waiting: &mut Vec<u64>,
        left: &mut usize,
    ) -> Option<u64> {
        let (frame, offset) = split(translate(at)?);
        let copy = self.by_frame.get(&frame)?;
        if copy.starts_at(offset) {
            return None;
        }
        let original = copy.original.clone();
        let mut decoder = Decoder::with_ip(64, original.as_slice(), at, DecoderOptions::NONE);
        decoder.set_position(offset).ok()?;
        loop {
            let offset = (at % PAGE) as usize;
            let copy = self.by_frame.get(&frame)?;
            if *left == 0 || copy.starts_at(offset) {
                return None;
            }
            *left -= 1;
            let mut found = decoder.decode();
            if found.is_invalid() {
                found = self.take_in_across(memory, at, frame, offset, translate, is_silent)?;
            } else {
                self.take_in(&found, frame, offset, is_silent)?;
            }
            let target = found.near_branch_target();
            if target != 0
                && let Some(phys) = translate(target)
            {
                let (frame, offset) = split(phys);
                self.add_branches(frame, offset, 1);
            }
            match found.flow_control() {
                FlowControl::Next
                | FlowControl::Call
                | FlowControl::IndirectCall
                | FlowControl::Interrupt => {
                    if found.is_call_near() {
                        waiting.push(target);
                    }
                }
                FlowControl::ConditionalBranch => waiting.push(target),
                FlowControl::UnconditionalBranch => {
                    if found.is_jmp_short_or_near() {
                        waiting.push(target);
                    }
                    return None;
                }
                FlowControl::IndirectBranch
                | FlowControl::Return
                | FlowControl::XbeginXabortXend
                | FlowControl::Exception => return None,
            }
            waiting.extend(self.show_named(memory, &found, translate));
            let is_here = found.next_ip() / PAGE == at / PAGE;
            at = found.next_ip();
            if !is_here {
                return Some(at);
            }
        }
    }

    /// Put an instruction at an offset of a frame into its copy. `None` where it cannot be.
    fn take_in(
        &mut self,
        found: &Instruction,
        frame: u64,
        offset: usize,
        is_silent: &dyn Fn(&Instruction) -> bool,
    ) -> Option<()> {
        let copy = self.by_frame.get_mut(&frame)?;
        if copy.is_patched(offset, found.len()) {
            self.conflict(frame, offset);
            return None;
        }
        let is_silent = is_silent(found);
        copy.take(offset..offset + found.len(), is_silent);
        self.count(found, is_silent);
        Some(())
    }

    /// The same for an instruction that ends in the next page.
    fn take_in_across(
        &mut self,
        memory: &Memory,
        at: u64,
        begins_in: u64,
        offset: usize,
        translate: &mut dyn FnMut(u64) -> Option<u64>,
        is_silent: &dyn Fn(&Instruction) -> bool,
    ) -> Option<Instruction> {
        let here = self.by_frame.get(&begins_in)?.original.get(offset..)?;
        if here.len() >= LONGEST {
            return None;
        }
        let mut bytes = here.to_vec();
        let in_page = bytes.len();
        let (ends_in, _) = split(translate(at.wrapping_add(in_page as u64))?);
        bytes.resize(LONGEST, 0);
        let rest = bytes.get_mut(in_page..)?;
        match self.by_frame.get(&ends_in) {
            Some(copy) => rest.copy_from_slice(copy.original.get(..rest.len())?),
            None if memory.get(ends_in, rest) => {}
            None => return None,
        }
        let found = decode(&bytes, at)?;
        let beyond = bytes.get(in_page..found.len())?;
        let is_silent = is_silent(&found);
        for (frame, offset, len) in [(begins_in, offset, in_page), (ends_in, 0, beyond.len())] {
            let copy = self.by_frame.get(&frame);
            if copy.is_some_and(|copy| copy.is_patched(offset, len)) {
                self.conflict(frame, offset);
                return None;
            }
        }
        let copy = self.by_frame.get_mut(&begins_in)?;
        copy.take(offset..offset + in_page, is_silent);
        if let Some(copy) = self.by_frame.get_mut(&ends_in) {
            for (offset, byte) in beyond.iter().enumerate() {
                copy.put(offset, *byte);
            }
        }
        let bytes = beyond.to_vec();
        self.ends.insert(ends_in, End { begins_in, bytes });
        self.count(&found, is_silent);
        Some(found)
    }

    fn count(&mut self, found: &Instruction, is_silent: bool) {
        self.counts.instructions += 1;
        self.counts.silent += u64::from(is_silent);
        if Kind::of(found).is_some() {
            self.sites.push(found.ip());
        }
    }

    /// Let the data that an instruction names by its address be read. Where the address is only taken it
    /// may be code's: then that is returned, to be followed.
    fn show_named(
        &mut self,
        memory: &Memory,
        found: &Instruction,
        translate: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Option<u64> {
        if !found.op_kinds().any(|kind| kind == OpKind::Memory) || !found.is_ip_rel_memory_operand()
        {
            return None;
        }
        let at = found.ip_rel_memory_address();
        let (frame, offset) = split(translate(at)?);
        let is_taken = found.mnemonic() == Mnemonic::Lea;
        if is_taken && self.is_code(memory, frame, offset, at) {
            return Some(at);
        }
        let end = match is_taken {
            // How much it is, the instruction does not say: up to the next code, which `show` keeps.
            true => PAGE as usize,
            false => offset + found.memory_size().size().max(1),
        };
        let named = Arc::make_mut(&mut self.named);
        named.entry(frame).or_default().push((offset, end));
        let copy = self.by_frame.get_mut(&frame)?;
        if !copy.show(offset, end) {
            self.conflict(frame, offset);
        }
        None
    }

    /// Whether the guest's own bytes at an offset of a frame look like code.
    fn is_code(&self, memory: &Memory, frame: u64, offset: usize, at: u64) -> bool {
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
        } else if !memory.get(frame + offset as u64, bytes) {
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
        let Some(found) = decode(rest, at) else {
            // At the end of the page the rest of an instruction is in the next one.
            return rest.len() < LONGEST && rest.len() < bytes.len();
        };
        if matches!(
            found.flow_control(),
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Return
        ) {
            return true;
        }
        rest = rest.get(found.len()..).unwrap_or_default();
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
