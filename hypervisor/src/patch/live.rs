//! The patches there are: from the guest's addresses to the area's, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashMap};
use serde::{Deserialize, Serialize};

use super::Kind;

/// What has to be undone, or done, for the guest to be at the instruction that a [`Step`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Undo {
    /// Nothing.
    Nothing,
    /// RCX is in the save area.
    Rcx,
    /// Likewise, and RSP is eight too low.
    Push,
    /// RSP is eight too low.
    Rsp,
    /// RCX is in the save area, and the flag has its new value: the instruction has to be done.
    Finish,
    /// The flag has its new value: the instruction has to be done.
    FinishPlain,
}

/// Code in the area, up to the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The offset in the patch's code.
    pub at: usize,
    /// The guest's instruction.
    pub rip: u64,
    /// What to undo here.
    pub undo: Undo,
    /// The instruction before was STI: interrupts are let in one instruction later.
    pub after_sti: bool,
}

/// A range of the guest's code that was moved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Patch {
    /// The range's first linear address.
    pub start: u64,
    /// One past its last one.
    pub end: u64,
    /// The frame that it is in.
    pub frame: u64,
    /// Where the code is in the area, linear.
    pub at: u64,
    /// The code.
    pub code: Vec<u8>,
    /// What the code is for the guest, ascending.
    pub steps: Vec<Step>,
    /// The replaced instructions.
    pub sites: Vec<(u64, Kind)>,
    /// The range's bytes before.
    pub before: Vec<u8>,
}

impl Patch {
    /// The instructions that were moved, each with where the code begins.
    fn moved(&self) -> impl Iterator<Item = (u64, u64)> {
        let moved = self.steps.chunk_by(|one, next| one.rip == next.rip);
        let moved = moved.filter_map(|steps| steps.first());
        let moved = moved.filter(|step| step.rip < self.end);
        moved.map(|step| (step.rip, self.at))
    }

    /// Where a guest's instruction is in the area.
    fn address_of(&self, rip: u64) -> Option<u64> {
        let step = self.steps.iter().find(|step| step.rip == rip)?;
        (rip < self.end).then(|| self.at + step.at as u64)
    }
}

/// The patches of a virtual machine. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// By the linear address in the area.
    by_area: Arc<BTreeMap<u64, Arc<Patch>>>,
    /// The area's address, by each moved instruction's linear address.
    by_rip: Arc<FxHashMap<u64, u64>>,
}

impl Live {
    /// These patches.
    pub fn with(patches: Vec<Patch>) -> Self {
        let moved = patches.iter().flat_map(Patch::moved);
        let mut by_rip = FxHashMap::with_capacity_and_hasher(4 * patches.len(), FxBuildHasher);
        moved.for_each(|(rip, at)| {
            by_rip.entry(rip).or_insert(at);
        });
        let by_area = patches.into_iter().map(|patch| (patch.at, Arc::new(patch)));
        Self {
            by_area: Arc::new(by_area.collect()),
            by_rip: Arc::new(by_rip),
        }
    }

    /// Add a patch.
    pub fn add(&mut self, patch: Patch) {
        let by_rip = Arc::make_mut(&mut self.by_rip);
        for (rip, at) in patch.moved() {
            by_rip.entry(rip).or_insert(at);
        }
        Arc::make_mut(&mut self.by_area).insert(patch.at, Arc::new(patch));
    }

    /// All of them, by their place in the area.
    pub fn iter(&self) -> impl Iterator<Item = &Patch> {
        self.by_area.values().map(Arc::as_ref)
    }

    /// Take patches out.
    pub fn remove(&mut self, which: impl Fn(&Patch) -> bool) -> Vec<Arc<Patch>> {
        let chosen = self.by_area.iter().filter(|(_, patch)| which(patch));
        let chosen: Vec<u64> = chosen.map(|(at, _)| *at).collect();
        if chosen.is_empty() {
            return Vec::new();
        }
        let by_area = Arc::make_mut(&mut self.by_area);
        let taken: Vec<Arc<Patch>> = chosen.iter().filter_map(|at| by_area.remove(at)).collect();
        let by_rip = Arc::make_mut(&mut self.by_rip);
        for patch in &taken {
            by_rip.retain(|_, at| *at != patch.at);
        }
        taken
    }

    /// The patch that has moved the instruction at a linear address.
    pub fn of(&self, rip: u64) -> Option<&Patch> {
        self.by_area.get(self.by_rip.get(&rip)?).map(Arc::as_ref)
    }

    /// Where to go on for a guest that is at `rip`, in the middle of the moved range.
    pub fn enter(&self, rip: u64) -> Option<(&Patch, u64)> {
        let patch = self.of(rip)?;
        (rip != patch.start).then_some(())?;
        Some((patch, patch.address_of(rip)?))
    }

    /// What the guest does while the real processor is at an address in the area.
    pub fn leave(&self, at: u64) -> Option<Step> {
        let (_, patch) = self.by_area.range(..=at).next_back()?;
        let offset = usize::try_from(at.checked_sub(patch.at)?).ok()?;
        if offset >= patch.code.len() {
            return None;
        }
        let mut steps = patch.steps.iter().rev();
        steps.find(|step| step.at <= offset).copied()
    }
}
