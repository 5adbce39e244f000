//! Mode `patch`: which sites are patched when, and what the copies, the area and the guest's place in
//! it have to do with that.
//!
//! The patches are in the copies of code alone, so the guest's memory stays as it is; a page that the
//! guest writes loses its copy, and its patches with it.

use std::collections::{BTreeMap, HashMap};

use iced_x86::Instruction;

use super::Deprivileged;
use super::making::When;
use super::memory::paging;
use crate::error::HostError;
use crate::machine::cpu::registers::{RCX, RSP, flag};
use crate::machine::paging::Access;
use crate::machine::shadow::View;
use crate::memory::Memory;
use crate::monitor::native::layout;
use crate::patch::{
    Area, Kind, Live, Patch, PatchedSite, Policy, Refusal, Site, State, Step, Undo,
};

const PAGE: u64 = 4096;
/// How many arrivals in the middle of a moved range are often.
const OFTEN: usize = 4;
/// A page table entry for patched code: present, for CPL 3, accessed and dirty, not writable.
const CODE_ENTRY: u64 = 0x65;

/// The patches of a guest, and where it is in them.
#[derive(Clone, Debug)]
pub struct Patching {
    policy: Policy,
    pub area: Area,
    /// Whether a patch found no place because pages of the area share frames: those that begin later have none shared.
    pub is_tight: bool,
    pub live: Live,
    /// What is known of each site, by its linear address.
    pub sites: BTreeMap<u64, Site>,
    /// The linear page at which a frame with patches is executed.
    pub executed_at: HashMap<u64, u64>,
    /// How often the guest arrived at an instruction in a moved range.
    pub arrivals: HashMap<u64, usize>,
    /// Sites that were found, and not looked at yet.
    found: Vec<(u64, Kind)>,
    /// Whether the machine has the code of all patches.
    pub is_put: bool,
    /// Traps of sites, and patches made and taken back.
    news: u64,
}

impl Patching {
    /// No patches yet.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            area: Area::default(),
            is_tight: false,
            live: Live::default(),
            sites: BTreeMap::new(),
            executed_at: HashMap::new(),
            arrivals: HashMap::new(),
            found: Vec::new(),
            is_put: false,
            news: 0,
        }
    }

    /// Whether sites are patched as they are found, ahead of their first trap.
    pub fn is_ahead(&self) -> bool {
        matches!(self.policy, Policy::Found { .. } | Policy::Eager)
    }

    /// Whether a site, where that is so, is patched as soon as it is found. With `Policy::Found` a CLI waits for its first
    /// trap, unless it is moved along with another site: a kernel begins with interrupts off, and leaves most of them out.
    pub fn is_early(&self, kind: Kind) -> bool {
        self.policy == Policy::Eager || kind != Kind::Cli
    }

    /// When sites are patched.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Count something that was learned.
    pub fn learned_more(&mut self) {
        self.news += 1;
    }

    /// How much was learned.
    pub fn news(&self) -> u64 {
        self.news
    }

    /// Forget all but what is in chosen frames.
    pub fn keep(&mut self, is_chosen: impl Fn(u64) -> bool) {
        self.forget(|patch| !is_chosen(patch.frame));
        self.executed_at.retain(|frame, _| is_chosen(*frame));
        (self.news, self.found) = (0, Vec::new());
    }

    /// Forget patches, whose code is gone.
    fn forget(&mut self, which: impl Fn(&Patch) -> bool) {
        for patch in self.live.remove(which) {
            for (at, _) in &patch.sites {
                if let Some(site) = self.sites.get_mut(at) {
                    site.state = State::Trapping(None);
                }
            }
        }
    }

    /// The pages of the area with code: linear and guest-physical address of each.
    pub fn area_pages(&self) -> impl Iterator<Item = (u64, u64)> {
        self.area.pages()
    }

    /// Put a patch's code into the machine.
    pub fn put_code(&self, memory: &Memory, patch: &Patch) -> Result<(), HostError> {
        let (mut at, mut rest) = (patch.at, patch.code.as_slice());
        while let (Some(phys), false) = (self.area.phys(at), rest.is_empty()) {
            let (piece, behind) = rest.split_at(rest.len().min((PAGE - at % PAGE) as usize));
            memory.put(phys, piece)?;
            (at, rest) = (at + piece.len() as u64, behind);
        }
        Ok(())
    }

    /// All sites, and what became of them.
    pub fn listing(&self) -> Vec<PatchedSite> {
        let sites = self.sites.iter().map(|(at, site)| PatchedSite {
            at: *at,
            site: *site,
            patch: self.live.of(*at).cloned(),
        });
        sites.collect()
    }
}

impl Deprivileged {
    /// Where the real processor was, for the guest: out of the area, and at the guest's instruction.
    /// The registers are those of the guest there. `None`: it was not in the area.
    pub(super) fn leave_area(&mut self, memory: &Memory) -> Option<Step> {
        let patching = self.patching.as_ref()?;
        if self.cpu.is_user() {
            return None;
        }
        let step = patching.live.leave(self.regs.rip)?;
        self.regs.rip = step.rip;
        let saved = || {
            let mut bytes = [0; 8];
            // The monitor's page is always there.
            memory.get(layout::phys(layout::SAVE), &mut bytes);
            u64::from_le_bytes(bytes)
        };
        match step.undo {
            Undo::Nothing | Undo::Rsp | Undo::FinishPlain => {}
            Undo::Rcx | Undo::Finish | Undo::Push => {
                self.regs.general[RCX] = saved();
            }
        }
        if matches!(step.undo, Undo::Push | Undo::Rsp) {
            self.regs.general[RSP] = self.regs.general[RSP].wrapping_add(8);
        }
        Some(step)
    }

    /// Where the real processor goes on: in the area, if the guest's next instruction was moved and is
    /// not at the jump.
    pub(super) fn enter_area(&self, memory: &Memory) -> u64 {
        let rip = self.regs.rip;
        let inside = |patching: &Patching| {
            let (patch, at) = patching.live.enter(rip)?;
            (self.view() == View::Kernel && self.frame_of(memory, rip) == Some(patch.frame))
                .then_some(at)
        };
        self.patching.as_ref().and_then(inside).unwrap_or(rip)
    }

    /// An instruction trapped: count it, and patch its site when it is time.
    pub(super) fn trapped(
        &mut self,
        memory: &Memory,
        at: u64,
        instruction: &Instruction,
    ) -> Result<(), HostError> {
        let Some(patching) = &mut self.patching else {
            return Ok(());
        };
        let Some(kind) = Kind::of(instruction) else {
            return Ok(());
        };
        let site = patching.sites.entry(at).or_insert(Site::new(kind));
        site.kind = kind;
        site.traps += 1;
        patching.news += 1;
        let is_time = match patching.policy {
            // A refusal is asked for again, less and less often: more code is known by then.
            Policy::Found { after } | Policy::Adaptive { after } => {
                site.traps >= u64::from(after) && site.traps % site.wait.max(1) == 0
            }
            Policy::Eager => site.traps % site.wait.max(1) == 0,
            Policy::Never => false,
        };
        let is_patched = patching.live.of(at).is_some();
        let is_inside = patching.live.enter(at).is_some();
        match (is_patched, is_inside) {
            (false, _) if is_time => {
                self.patch(memory, (at, kind), When::Trapped)?;
                self.copies.write_back(memory)
            }
            // It was not in the area when it trapped, or its page of the flag is not mapped.
            (true, true) if !self.was_in_area => self.count_arrival(memory, at),
            _ => Ok(()),
        }
    }

    /// A site that was not patched as it was found is about to be emulated, for the first time: patch it now, if nobody
    /// arrives in the middle. Whether that is done: then it is executed where it was moved to, and not emulated.
    pub(super) fn patch_late(
        &mut self,
        memory: &Memory,
        at: u64,
        instruction: &Instruction,
    ) -> Result<bool, HostError> {
        let late = |patching: &Patching| {
            let kind = Kind::of(instruction)?;
            let is_late = patching.is_ahead() && !patching.is_early(kind);
            (is_late && !patching.sites.contains_key(&at)).then_some(kind)
        };
        let Some(kind) = self.patching.as_ref().and_then(late) else {
            return Ok(false);
        };
        self.patch(memory, (at, kind), When::Found)?;
        self.copies.write_back(memory)?;
        let site = self.patching.as_mut();
        let Some(site) = site.and_then(|patching| patching.sites.get_mut(&at)) else {
            return Ok(false);
        };
        site.traps += 1;
        Ok(site.state == State::Patched)
    }

    /// The guest arrived in a moved range, which costs a trap. Once that is often, look for a range that
    /// suits it better.
    pub(super) fn count_arrival(&mut self, memory: &Memory, at: u64) -> Result<(), HostError> {
        let Some(patching) = &mut self.patching else {
            return Ok(());
        };
        let count = patching.arrivals.entry(at).or_insert(0);
        *count += 1;
        if *count < OFTEN || !count.is_power_of_two() {
            return Ok(());
        }
        let count = *count;
        let Some(patch) = patching.live.of(at) else {
            return Ok(());
        };
        let (start, sites) = (patch.start, patch.sites.clone());
        self.copies
            .add_branches(patch.frame, (at % PAGE) as usize, count);
        self.unpatch(memory, None, |patch| patch.start == start)?;
        for (at, kind) in sites {
            if self
                .patching
                .as_ref()
                .is_some_and(|patching| patching.live.of(at).is_none())
            {
                self.patch(memory, (at, kind), When::Trapped)?;
            }
        }
        self.copies.write_back(memory)
    }

    /// While the kernel executes one instruction at a time, nothing is patched: a trap in the middle of
    /// what stands for one instruction would be seen.
    pub(super) fn suspend_patches(&mut self, memory: &Memory) -> Result<(), HostError> {
        match self.is_single_stepping() {
            true => self.unpatch(memory, None, |_| true),
            false => Ok(()),
        }
    }

    /// Whether the kernel's next instruction is to be emulated if it would trap, though it has not trapped: where it
    /// is not patched, in mode `patch`.
    pub(super) fn may_go_ahead(&self) -> bool {
        let is_moved = |patching: &Patching| patching.live.of(self.regs.rip).is_some();
        let is_patchable = |patching: &&Patching| patching.policy != Policy::Never;
        let patching = self.patching.as_ref().filter(is_patchable);
        !self.regs.has(flag::TF) && patching.is_some_and(|patching| !is_moved(patching))
    }

    fn is_single_stepping(&self) -> bool {
        self.view() == View::Kernel && self.regs.has(flag::TF)
    }

    /// Code was taken into the copies: look after what that means for patches.
    pub(super) fn discovered(&mut self, memory: &Memory) -> Result<(), HostError> {
        let sites = self.copies.take_sites();
        for (frame, offset) in self.copies.take_conflicts() {
            self.unpatch(memory, Some(Refusal::Changed), |patch| {
                let start = (patch.start % PAGE) as usize;
                let len = (patch.end - patch.start) as usize;
                patch.frame == frame && (start..start + len).contains(&offset)
            })?;
        }
        if let Some(patching) = &mut self.patching {
            patching.found.extend(sites);
        }
        Ok(())
    }

    /// Patch what was found, where that is done ahead of the first trap.
    pub(super) fn patch_found(&mut self, memory: &Memory) -> Result<(), HostError> {
        let Some(patching) = &mut self.patching else {
            return Ok(());
        };
        let found = std::mem::take(&mut patching.found);
        if !patching.is_ahead() {
            return Ok(());
        }
        let early = found.into_iter();
        let early: Vec<_> = early.filter(|(_, kind)| patching.is_early(*kind)).collect();
        for (at, kind) in early {
            let is_patched = |patching: &Patching| patching.live.of(at).is_some();
            if !self.patching.as_ref().is_some_and(is_patched) {
                self.patch(memory, (at, kind), When::Found)?;
            }
        }
        self.copies.write_back(memory)
    }

    /// Patch a site, if it can be. The copies are still to be written.
    fn patch(
        &mut self,
        memory: &Memory,
        (at, kind): (u64, Kind),
        when: When,
    ) -> Result<(), HostError> {
        if self.is_single_stepping() {
            return Ok(());
        }
        let frame = self.frame_of(memory, at);
        let Some(patching) = &mut self.patching else {
            return Ok(());
        };
        let Some(made) = patching.attempt(&mut self.copies, frame, (at, kind), when) else {
            return Ok(());
        };
        for (linear, phys) in made.pages {
            // It was never present, so KVM need not hear of it.
            memory.put(layout::patch_entry(linear), &entry_of(phys))?;
        }
        if let Some(patch) = patching.live.of(at) {
            patching.put_code(memory, patch)?;
        }
        if let Some(frame) = made.first_of {
            // Another linear page that shows the frame must not execute it any more.
            self.frame_changed(memory, frame);
        }
        Ok(())
    }

    /// Take patches back, and say why their sites trap again.
    pub(super) fn unpatch(
        &mut self,
        memory: &Memory,
        why: Option<Refusal>,
        which: impl Fn(&Patch) -> bool,
    ) -> Result<(), HostError> {
        let Some(patching) = &mut self.patching else {
            return Ok(());
        };
        for patch in patching.live.remove(which) {
            for (at, _) in &patch.sites {
                if let Some(site) = patching.sites.get_mut(at) {
                    site.state = State::Trapping(why);
                    site.is_barred |= why == Some(Refusal::Changed);
                }
            }
            patching.news += 1;
            let start = (patch.start % PAGE) as usize;
            let range = (start, start + (patch.end - patch.start) as usize);
            self.copies.unpatch(memory, patch.frame, range)?;
        }
        Ok(())
    }

    /// A frame is executed at another linear page than its patches were made for: it has none then.
    pub(super) fn executed_elsewhere(
        &mut self,
        memory: &Memory,
        at: u64,
        frame: u64,
    ) -> Result<(), HostError> {
        let page = at & !(PAGE - 1);
        let patching = self.patching.as_ref();
        let known = patching.and_then(|patching| patching.executed_at.get(&frame));
        if known.is_none_or(|known| *known == page || *known == EVERYWHERE) {
            return Ok(());
        }
        self.unpatch(memory, Some(Refusal::Alias), |patch| patch.frame == frame)?;
        if let Some(patching) = &mut self.patching {
            patching.executed_at.insert(frame, EVERYWHERE);
        }
        self.frame_changed(memory, frame);
        Ok(())
    }

    /// The copy of a frame is gone, and so are its patches.
    pub(super) fn copy_gone(&mut self, frame: u64) {
        let Some(patching) = &mut self.patching else {
            return;
        };
        patching.forget(|patch| patch.frame == frame);
        patching.executed_at.remove(&frame);
    }

    /// All copies are gone.
    pub(super) fn copies_gone(&mut self) {
        let Some(patching) = &mut self.patching else {
            return;
        };
        patching.live = Live::default();
        patching.area.clear();
        patching.executed_at.clear();
        for site in patching.sites.values_mut() {
            if site.state == State::Patched {
                site.state = State::Trapping(None);
            }
        }
    }

    /// The frame that the kernel executes a linear address from.
    pub(super) fn frame_of(&self, memory: &Memory, at: u64) -> Option<u64> {
        let fetch = Access {
            execute: true,
            ..Access::default()
        };
        let found = crate::machine::paging::walk(memory, &paging(&self.cpu), at, fetch).ok()?;
        Some(found.phys & !(PAGE - 1))
    }
}

/// The page table entry for a page of patched code.
pub fn entry_of(phys: u64) -> [u8; 8] {
    (phys | CODE_ENTRY).to_le_bytes()
}

/// In place of a linear page: a frame that is executed at several.
pub const EVERYWHERE: u64 = u64::MAX;
