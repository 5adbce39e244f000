//! Copies of pages with code, which the guest's kernel executes in place of its own.
//!
//! A copy starts as nothing but `hlt`, which faults at CPL 3. [`Copies::discover`] follows the code
//! from where the guest arrived, and puts instructions into the copy as it finds them: as they are,
//! but for those that are sensitive and would not fault at CPL 3, which stay a `hlt`. So whatever
//! the guest executes was seen before, without a guess at where code begins; guest memory itself is
//! never changed. Data between code stays readable: what instructions name by their address.
//!
//! Called by the handling of faults. Never decides what an instruction means.

mod follow;
mod packed;
mod page;
mod plain;
mod stored;
mod targets;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::error::HostError;
use crate::memory::Memory;
use crate::monitor::native::layout::{COPIES, END};
use crate::patch::{JUMP, Kind};

pub use follow::Ground;
use page::Copy;
pub use page::{Own, PageCode};
pub use stored::Stored;
use targets::Targets;

/// HLT: one byte, and #GP at CPL 3.
const TRAP: u8 = 0xf4;
const PAGE: u64 = 4096;
/// An instruction's length at most.
const LONGEST: usize = 15;

/// The copies of a virtual machine.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    /// Whether devices write to memory, too.
    has_devices: bool,
    by_frame: FxHashMap<u64, Copy>,
    /// How often copies went.
    changes: u64,
    free: Vec<u64>,
    used: u64,
    /// How many of them the host has backed with memory.
    backed: u64,
    /// Data that code names by address, by frame: ranges of offsets.
    named: Arc<FxHashMap<u64, Vec<(usize, usize)>>>,
    /// Ends of instructions that begin in another frame, by the frame of the end.
    ends: FxHashMap<u64, End>,
    counts: Counts,
    /// Where known branches lead to, by frame.
    targets: Arc<FxHashMap<u64, Targets>>,
    /// Sites of instructions that can be replaced, found and not asked for yet: linear addresses.
    sites: Vec<(u64, Kind)>,
    /// Places in moved ranges that turned out to be code or data of their own: frame, and offset.
    conflicts: Vec<(u64, usize)>,
    /// Frames that got copies.
    made: Vec<u64>,
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
        *self = Self {
            changes: self.changes + 1,
            ..Self::new(self.has_devices)
        };
    }

    /// Take over what another machine's copies have.
    pub fn recall(&mut self, known: Self) {
        *self = Self {
            has_devices: self.has_devices,
            changes: self.changes + 1,
            ..known
        };
    }

    /// Another number than before, and a greater one: copies went. As long as it is the same, so are the guest's own
    /// bytes of what has a copy.
    pub fn changes(&self) -> u64 {
        self.changes
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

    /// What is executed in place of a frame, if it has a copy.
    #[cfg(test)]
    pub fn executed(&self, frame: u64) -> Option<[u8; 4096]> {
        self.by_frame.get(&frame).map(|copy| *copy.bytes())
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

    /// Make the copy of a frame that has none; `own` are its bytes.
    ///
    /// # Errors
    /// [`Full`].
    pub fn add(&mut self, frame: u64, own: Own) -> Result<(), Full> {
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
        let mut copy = Copy::new(page, own);
        let end = self.ends.get(&frame).map(|end| end.bytes.iter());
        for (offset, byte) in end.into_iter().flatten().enumerate() {
            copy.put(offset, *byte);
        }
        for (start, end) in self.named.get(&frame).into_iter().flatten() {
            copy.show(*start, *end);
        }
        self.by_frame.insert(frame, copy);
        self.counts.copies += 1;
        self.made.push(frame);
        Ok(())
    }

    /// Frames that got copies since this was last asked.
    pub fn take_made(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.made)
    }

    /// Drop the copy of a frame that is about to change. True when there was one.
    pub fn forget(&mut self, frame: u64) -> bool {
        // Others may share them: to change one is to copy it.
        if self.named.contains_key(&frame) {
            Arc::make_mut(&mut self.named).remove(&frame);
        }
        if self.targets.contains_key(&frame) {
            Arc::make_mut(&mut self.targets).remove(&frame);
        }
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
                self.changes += 1;
                self.counts.dropped += 1;
                true
            }
            None => false,
        }
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
        targets.entry(frame).or_default().add(offset, count);
    }

    /// Note what branches lead to: physical addresses.
    fn add_targets(&mut self, mut branches: Vec<u64>) {
        // Others may share them: to change none is not to copy them.
        if branches.is_empty() {
            return;
        }
        branches.sort_unstable();
        let all = Arc::make_mut(&mut self.targets);
        let mut offsets = Vec::new();
        for of_frame in branches.chunk_by(|one, next| one / PAGE == next / PAGE) {
            if let Some(first) = of_frame.first() {
                offsets.clear();
                offsets.extend(of_frame.iter().map(|phys| (phys % PAGE) as u16));
                all.entry(split(*first).0).or_default().add_sorted(&offsets);
            }
        }
    }

    /// The guest's own bytes of a range in a frame that has a copy.
    pub fn original(&self, frame: u64, start: usize, end: usize) -> Option<&[u8]> {
        self.by_frame.get(&frame)?.original.get(start..end)
    }

    /// Put a jump in place of a range that was moved. It is still to be written.
    pub fn patch(&mut self, frame: u64, (start, end): (usize, usize), jump: [u8; JUMP]) {
        if let Some(copy) = self.by_frame.get_mut(&frame) {
            copy.patch(start, end, jump);
        }
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
    pub fn take_sites(&mut self) -> Vec<(u64, Kind)> {
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
                memory.put(copy.page, copy.bytes().as_slice())?;
            }
        }
        Ok(())
    }
}
