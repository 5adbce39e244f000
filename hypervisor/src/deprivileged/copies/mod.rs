//! Copies of pages with code, which the guest's kernel executes in place of its own.
//!
//! A copy starts as nothing but `hlt`, which faults at CPL 3. [`Copies::discover`] follows the code
//! from where the guest arrived, and puts instructions into the copy as it finds them: as they are,
//! but for those that are sensitive and would not fault at CPL 3, which stay a `hlt`. So whatever
//! the guest executes was seen before, without a guess at where code begins; guest memory itself is
//! never changed. Data between code stays readable: what instructions name by their address.
//!
//! Called by the handling of faults. Never decides what an instruction means.

mod page;

use std::sync::Arc;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};
use rustc_hash::FxHashMap;

use crate::error::HostError;
use crate::memory::Memory;
use crate::monitor::native::layout::{COPIES, END};
use crate::patch::{JUMP, Kind};

use page::Copy;
pub use page::PageCode;

/// HLT: one byte, and #GP at CPL 3.
const TRAP: u8 = 0xf4;
const PAGE: u64 = 4096;
/// An instruction's length at most.
const LONGEST: usize = 15;
/// Instructions after which bytes are code rather than data.
const ENOUGH: usize = 2;
/// As many bytes as they have at most.
const LOOK: usize = ENOUGH * LONGEST;
/// Instructions that one discovery takes in at most; the rest is found when the guest gets there.
const AT_ONCE: usize = 1 << 14;

/// The copies of a virtual machine.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    /// Whether devices write to memory, too.
    has_devices: bool,
    by_frame: FxHashMap<u64, Copy>,
    free: Vec<u64>,
    used: u64,
    /// How many of them the host has backed with memory.
    backed: u64,
    /// Data that code names by address, by frame: ranges of offsets.
    named: Arc<FxHashMap<u64, Vec<(usize, usize)>>>,
    /// Ends of instructions that begin in another frame, by the frame of the end.
    ends: FxHashMap<u64, End>,
    counts: Counts,
    /// Where known branches lead to, and how many: offsets, by frame.
    targets: Arc<FxHashMap<u64, FxHashMap<usize, usize>>>,
    /// Sites of instructions that can be replaced, found and not asked for yet: linear addresses.
    sites: Vec<u64>,
    /// Places in moved ranges that turned out to be code or data of their own: frame, and offset.
    conflicts: Vec<(u64, usize)>,
    /// Frames whose copies were begun anew.
    begun: Vec<u64>,
}

/// The end of an instruction that begins at the end of another page.
#[derive(Clone, Debug)]
struct End {
    /// The frame that it begins in.
    begins_in: u64,
    /// The bytes from the frame's start.
    bytes: Vec<u8>,
}

/// What was done, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Copies made.
    pub copies: u64,
    /// Copies dropped, because the guest wrote to the page.
    pub dropped: u64,
    /// Instructions taken into copies.
    pub instructions: u64,
    /// Of them, sensitive ones that would not have faulted.
    pub silent: u64,
    /// Discoveries.
    pub discoveries: u64,
    /// Places in moved ranges that turned out to be something else.
    pub conflicts: u64,
}

/// The copies are full: 8 MiB of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The frame and the offset of a physical address.
fn split(phys: u64) -> (u64, usize) {
    (phys & !(PAGE - 1), (phys % PAGE) as usize)
}

impl Copies {
    /// No copies. `has_devices`: whether the machine has devices that write to its memory.
    pub fn new(has_devices: bool) -> Self {
        Self {
            has_devices,
            ..Self::default()
        }
    }

    /// No copies again.
    pub fn clear(&mut self) {
        *self = Self::new(self.has_devices);
    }

    /// Take over what another machine's copies have.
    pub fn recall(&mut self, known: &Self) {
        *self = Self {
            has_devices: self.has_devices,
            ..known.clone()
        };
    }

    /// Whether a device has written to a frame since its copy was made. The guest's own stores take the copy away.
    pub fn is_stale(&self, memory: &Memory, frame: u64) -> bool {
        let copy = self.by_frame.get(&frame).filter(|_| self.has_devices);
        copy.is_some_and(|copy| {
            let mut now = [0; PAGE as usize];
            memory.get(frame, &mut now) && now != *copy.original
        })
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The page that holds the copy of a frame, if it has one.
    pub fn page_of(&self, frame: u64) -> Option<u64> {
        self.by_frame.get(&frame).map(|copy| copy.page)
    }

    /// Whether a known instruction starts at a physical address.
    pub fn is_known(&self, phys: u64) -> bool {
        let (frame, offset) = split(phys);
        let copy = self.by_frame.get(&frame);
        copy.is_some_and(|copy| copy.starts_at(offset))
    }

    /// These copies for another machine: of what is known, in chosen frames alone.
    pub fn of_frames(&self, is_chosen: impl Fn(u64) -> bool) -> Self {
        let chosen = |frame: &u64| is_chosen(*frame);
        let known = self.by_frame.iter().filter(|(_, copy)| !copy.is_blank());
        let known = known.map(|(frame, _)| *frame);
        let mut frames: Vec<u64> = known.filter(chosen).collect();
        frames.sort_unstable();
        let pages = (COPIES..).step_by(PAGE as usize);
        let copy_of = |frame, page| {
            let mut copy = self.by_frame.get(&frame)?.clone();
            (copy.page, copy.is_changed) = (page, true);
            Some((frame, copy))
        };
        let used = frames.len() as u64;
        let by_frame = frames.into_iter().zip(pages);
        let ends = self.ends.iter();
        let ends = ends.filter(|(frame, end)| chosen(frame) && chosen(&end.begins_in));
        Self {
            by_frame: by_frame
                .filter_map(|(frame, page)| copy_of(frame, page))
                .collect(),
            used,
            named: self.named.clone(),
            ends: ends.map(|(frame, end)| (*frame, end.clone())).collect(),
            targets: self.targets.clone(),
            ..Self::default()
        }
    }

    /// The frames that have copies, each with the guest's own bytes.
    pub fn originals(&self) -> impl Iterator<Item = (u64, &[u8; 4096])> {
        self.by_frame
            .iter()
            .map(|(frame, copy)| (*frame, &*copy.original))
    }

    /// The frames with data that code names by its address.
    pub fn named_frames(&self) -> impl Iterator<Item = u64> {
        self.named.keys().copied()
    }

    /// Make the copy of a frame, and return its page.
    ///
    /// # Errors
    /// [`Full`].
    pub fn make(&mut self, memory: &Memory, frame: u64) -> Result<u64, Full> {
        if let Some(page) = self.page_of(frame) {
            return Ok(page);
        }
        let page = match self.free.pop() {
            Some(page) => page,
            None => {
                let page = COPIES + self.used * PAGE;
                if page >= END {
                    return Err(Full);
                }
                self.used += 1;
                page
            }
        };
        let mut original = [0; 4096];
        // A frame outside memory reads as zeros; its execution faults elsewhere.
        memory.get(frame, &mut original);
        let mut copy = Copy::new(page, Arc::new(original));
        let end = self.ends.get(&frame).map(|end| end.bytes.iter());
        for (offset, byte) in end.into_iter().flatten().enumerate() {
            copy.put(offset, *byte);
        }
        for (start, end) in self.named.get(&frame).into_iter().flatten() {
            copy.show(*start, *end);
        }
        self.by_frame.insert(frame, copy);
        self.counts.copies += 1;
        Ok(page)
    }

    /// Drop the copy of a frame that is about to change. True when there was one.
    pub fn forget(&mut self, frame: u64) -> bool {
        Arc::make_mut(&mut self.named).remove(&frame);
        Arc::make_mut(&mut self.targets).remove(&frame);
        // An instruction that ends here was seen with bytes that are about to change: begin anew.
        if let Some(end) = self.ends.remove(&frame)
            && let Some(copy) = self.by_frame.get_mut(&end.begins_in)
        {
            copy.hide();
            self.begun.push(end.begins_in);
            for (start, end) in self.named.get(&end.begins_in).into_iter().flatten() {
                copy.show(*start, *end);
            }
        }
        match self.by_frame.remove(&frame) {
            Some(copy) => {
                self.free.push(copy.page);
                self.counts.dropped += 1;
                true
            }
            None => false,
        }
    }

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
        let original = Arc::clone(&copy.original);
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

    /// Whether an instruction at a physical address cannot be executed, for one that overlaps it.
    pub fn is_overlapped(&self, phys: u64) -> bool {
        let (frame, offset) = split(phys);
        let copy = self.by_frame.get(&frame);
        copy.is_some_and(|copy| copy.overlaps_at(offset))
    }

    /// The code of a frame, as it is executed at a linear page.
    pub fn code(&self, frame: u64, linear: u64) -> Option<PageCode<'_>> {
        let copy = self.by_frame.get(&frame)?;
        let targets = self.targets.get(&frame);
        Some(PageCode {
            copy,
            targets,
            linear,
        })
    }

    /// Note that an instruction is branched to.
    pub fn add_branches(&mut self, frame: u64, offset: usize, count: usize) {
        let targets = Arc::make_mut(&mut self.targets);
        let targets = targets.entry(frame).or_default();
        *targets.entry(offset).or_default() += count;
    }

    /// The guest's own bytes of a range in a frame that has a copy.
    pub fn original(&self, frame: u64, start: usize, end: usize) -> Option<&[u8]> {
        self.by_frame.get(&frame)?.original.get(start..end)
    }

    /// Put a jump in place of a range that was moved.
    ///
    /// # Errors
    /// [`HostError`], when the copy cannot be written.
    pub fn patch(
        &mut self,
        memory: &Memory,
        frame: u64,
        (start, end): (usize, usize),
        jump: [u8; JUMP],
    ) -> Result<(), HostError> {
        if let Some(copy) = self.by_frame.get_mut(&frame) {
            copy.patch(start, end, jump);
        }
        self.write_back(memory)
    }

    /// Put a range back that was moved.
    ///
    /// # Errors
    /// [`HostError`], when the copy cannot be written.
    pub fn unpatch(
        &mut self,
        memory: &Memory,
        frame: u64,
        (start, end): (usize, usize),
    ) -> Result<(), HostError> {
        if let Some(copy) = self.by_frame.get_mut(&frame) {
            copy.unpatch(start, end);
            for (start, end) in self.named.get(&frame).into_iter().flatten() {
                copy.show(*start, *end);
            }
        }
        self.write_back(memory)
    }

    /// Sites of instructions that can be replaced, found since this was last asked.
    pub fn take_sites(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.sites)
    }

    /// Places in moved ranges that turned out to be code or data of their own, since this was last
    /// asked: frame, and offset.
    pub fn take_conflicts(&mut self) -> Vec<(u64, usize)> {
        std::mem::take(&mut self.conflicts)
    }

    /// Frames whose copies were begun anew since this was last asked.
    pub fn take_begun(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.begun)
    }

    fn conflict(&mut self, frame: u64, offset: usize) {
        self.counts.conflicts += 1;
        self.conflicts.push((frame, offset));
    }

    /// Have the host back the pages that are new, at once: it is quicker than page by page.
    fn populate(&mut self, memory: &Memory) {
        if self.backed < self.used {
            let new = (self.used - self.backed) * PAGE;
            memory.populate(COPIES + self.backed * PAGE, new);
            self.backed = self.used;
        }
    }

    /// Write what changed into the machine's pages of copies.
    ///
    /// # Errors
    /// [`HostError`], when a copy cannot be written.
    pub fn write_back(&mut self, memory: &Memory) -> Result<(), HostError> {
        self.populate(memory);
        for copy in self.by_frame.values_mut() {
            if std::mem::take(&mut copy.is_changed) {
                memory.put(copy.page, copy.bytes())?;
            }
        }
        Ok(())
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
fn decode(bytes: &[u8], at: u64) -> Option<Instruction> {
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
