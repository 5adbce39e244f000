//! A guest's memory, its shadow, and a processor that uses the shadow as badly as it may: it
//! remembers every translation that it could have seen, until it is told to forget it.

use std::collections::{HashMap, VecDeque};

use super::reference::{self, Control, Memo, Ram};
use crate::machine::paging::{Access, PageFault, Paging};
use crate::machine::shadow::{
    Backing, Edits, Frames, MonitorLink, Place, Resolution, Shadow, Tables, View,
};

pub const P: u64 = 1;
pub const W: u64 = 2;
pub const U: u64 = 4;
pub const A: u64 = 0x20;
pub const D: u64 = 0x40;
pub const PS: u64 = 0x80;
pub const NX: u64 = 1 << 63;
pub const PHYS_BITS: u32 = 40;

pub const RAM_FRAMES: u64 = 16;
pub const POOL: u64 = 0x4000_0000;
pub const MONITOR: u64 = 0x5000_0000;
pub const HOLE: u64 = 0x6000_0000;
pub const COPIES: u64 = 0x7000_0000;
pub const DEVICE: u64 = 0x00ff_0000;
pub const DIRECTORY: u64 = MONITOR + 0x2000;

/// What a test breaks, to see that the checks find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    #[default]
    None,
    /// Leaves are stored with the write bit.
    GrantWrite,
    /// Leaves are stored without the no-execute bit.
    GrantExecute,
    /// The monitor makes no store that takes an entry out.
    LoseDrops,
    /// The monitor stores, and invalidates nothing.
    LoseInvalidations,
    /// The monitor invalidates each address, and never all.
    LoseFlushes,
    /// INVLPG is not told.
    LoseInvlpg,
    /// Loads of CR3 are not told.
    LoseLoads,
    /// CR0.WP is told to be clear.
    LoseWp,
    /// Changes of what a frame is are not told.
    LoseFrameChanges,
    /// The guest's dirty bits are not set.
    LoseDirty,
}

/// The pool's words. A store by the VMM over a present entry is one that KVM does not see.
#[derive(Debug)]
pub struct Words {
    pub words: Vec<u64>,
    pub stores: usize,
    sabotage: Sabotage,
}

impl Words {
    fn slot(at: u64) -> usize {
        assert!(at >= POOL && at.is_multiple_of(8));
        ((at - POOL) / 8) as usize
    }
}

impl Tables for Words {
    fn read(&self, at: u64) -> u64 {
        self.words[Self::slot(at)]
    }

    fn write(&mut self, at: u64, value: u64) {
        let value = match self.sabotage {
            Sabotage::GrantWrite if value & P != 0 => value | W,
            Sabotage::GrantExecute => value & !NX,
            _ => value,
        };
        let old = &mut self.words[Self::slot(at)];
        let is_upgrade = (*old ^ value) & !(W | NX | A | D) == 0
            && (value & W >= *old & W)
            && value & NX <= *old & NX;
        assert!(*old == 0 || is_upgrade, "store over {old:#x} of {value:#x}");
        *old = value;
        self.stores += 1;
    }
}

/// What frames are: the kernel's code runs from copies, a page of which there is one is read-only.
#[derive(Debug, Default)]
pub struct Owner {
    pub pool_bytes: u64,
    pub copied: Vec<u64>,
    pub changed: Vec<u64>,
    pub asked: usize,
}

impl Owner {
    pub fn is_ram(frame: u64) -> bool {
        frame < RAM_FRAMES * 4096
    }

    /// Where an access to a frame ends, by the rules of this test.
    pub fn phys(&self, frame: u64, view: View) -> u64 {
        let hidden = [POOL..POOL + self.pool_bytes, MONITOR..MONITOR + (1 << 20)];
        if hidden.iter().any(|range| range.contains(&frame)) {
            HOLE
        } else if self.copied.contains(&frame) && view == View::Kernel {
            COPIES + frame
        } else {
            frame
        }
    }
}

impl Frames for Owner {
    fn backing(&mut self, frame: u64, _: Place, view: View, access: Access) -> Backing {
        self.asked += 1;
        assert_eq!(frame % 4096, 0);
        assert_eq!(self.phys(frame, View::User), frame, "a hidden frame");
        if frame == DEVICE {
            return Backing::Device { phys: DEVICE };
        }
        if !Self::is_ram(frame) {
            return Backing::Nothing;
        }
        let is_copied = self.copied.contains(&frame);
        if access.write && is_copied {
            self.copied.retain(|copied| *copied != frame);
            self.changed.push(frame);
        } else if access.execute && view == View::Kernel && !is_copied {
            self.copied.push(frame);
            self.changed.push(frame);
        }
        let is_copied = self.copied.contains(&frame);
        Backing::Ram {
            phys: self.phys(frame, view),
            may_write: !is_copied,
            may_execute: is_copied || view == View::User,
        }
    }
}

#[derive(Debug)]
pub struct World {
    pub ram: Ram,
    pub shadow: Shadow<Words>,
    pub paging: Paging,
    pub owner: Owner,
    pub memo: Memo,
    pub resets: usize,
    pub faults: usize,
    pub edits: usize,
    sabotage: Sabotage,
    /// Edits that the monitor has not made yet.
    batches: VecDeque<Edits>,
    /// What the processor remembers: the leaf for a page.
    tlb: HashMap<u64, u64>,
    loaded: Option<u64>,
}

impl World {
    pub fn new(pages: &[u64], pool_pages: u64, sabotage: Sabotage) -> Self {
        let words = Words {
            words: vec![0; pool_pages as usize * 512],
            stores: 0,
            sabotage,
        };
        let monitor = MonitorLink {
            directory: DIRECTORY,
            kernel_directory: DIRECTORY,
            memory: MONITOR..MONITOR + (1 << 20),
            hole: HOLE,
        };
        let mut world = Self {
            ram: Ram::new(RAM_FRAMES),
            shadow: Shadow::new(words, POOL..POOL + pool_pages * 4096, monitor),
            paging: Paging {
                root: 0x1000,
                write_protect: true,
                no_execute: true,
                phys_bits: PHYS_BITS,
            },
            owner: Owner {
                pool_bytes: pool_pages * 4096,
                ..Owner::default()
            },
            memo: Memo::new(pages),
            resets: 0,
            faults: 0,
            edits: 0,
            sabotage,
            batches: VecDeque::new(),
            tlb: HashMap::new(),
            loaded: None,
        };
        world.memo.forget(&world.ram, world.control(), None);
        world
    }

    /// Lower the limits, so that a few pages reach them.
    pub fn limit(&mut self, edits: usize, drops: usize) {
        self.shadow.pool.waiting.limit = edits;
        self.shadow.max_drops = drops;
    }

    pub fn control(&self) -> Control {
        Control {
            root: self.paging.root,
            wp: self.paging.write_protect,
            nxe: self.paging.no_execute,
            phys_bits: self.paging.phys_bits,
        }
    }

    /// What the shadow is told of the control bits.
    fn told(&self) -> Paging {
        let write_protect = self.paging.write_protect && self.sabotage != Sabotage::LoseWp;
        Paging {
            write_protect,
            ..self.paging
        }
    }

    /// The guest stores to one of its tables.
    pub fn store(&mut self, frame: u64, slot: u64, value: u64) {
        self.ram.set(frame, slot, value);
        self.memo.note(&self.ram, self.control());
    }

    pub fn invlpg(&mut self, page: u64) {
        if self.sabotage != Sabotage::LoseInvlpg {
            self.shadow.invalidate(&self.ram, &self.paging, page + 123);
        }
        self.memo.forget(&self.ram, self.control(), Some(page));
    }

    pub fn load(&mut self, frame: u64) {
        self.paging.root = frame * 4096;
        if self.sabotage != Sabotage::LoseLoads {
            self.shadow.load_root();
        }
        self.memo.forget(&self.ram, self.control(), None);
    }

    pub fn control_bits(&mut self, write_protect: bool, no_execute: bool) {
        self.paging.write_protect = write_protect;
        self.paging.no_execute = no_execute;
        self.shadow.flush_all();
        self.memo.forget(&self.ram, self.control(), None);
    }

    /// The owner changes what a frame is, on its own account.
    pub fn change_frame(&mut self, frame: u64) {
        if self.owner.copied.contains(&frame) {
            self.owner.copied.retain(|copied| *copied != frame);
        } else {
            self.owner.copied.push(frame);
        }
        self.frame_changed(frame);
    }

    fn frame_changed(&mut self, frame: u64) {
        if self.sabotage != Sabotage::LoseFrameChanges {
            self.shadow.frame_changed(frame, &mut self.owner);
        }
    }

    /// Take what edits there are, to be made later.
    pub fn take_edits(&mut self) {
        match self.shadow.take_edits() {
            Ok(edits) => {
                assert!(edits.list.len() <= super::super::MAX_EDITS);
                self.edits += edits.list.len();
                self.batches.push_back(edits);
            }
            Err(_) => self.reset(),
        }
    }

    fn reset(&mut self) {
        self.resets += 1;
        self.shadow.words_mut().words.fill(0);
        self.shadow.clear();
        self.batches.clear();
        self.tlb.clear();
        self.loaded = None;
    }

    /// The guest goes on: the root is loaded, edits are made, and the processor sees what it can.
    pub fn enter(&mut self, view: View) {
        let paging = self.told();
        let select = |world: &mut Self| world.shadow.select(&world.ram, &paging, view);
        let root = match select(self) {
            Ok(root) => root,
            Err(_) => {
                self.reset();
                select(self).expect("room in an empty pool")
            }
        };
        let resets = self.resets;
        self.take_edits();
        let root = match self.resets == resets {
            true => root,
            false => select(self).expect("room in an empty pool"),
        };
        while let Some(batch) = self.batches.pop_front() {
            self.make(&batch);
        }
        if self.loaded != Some(root) {
            self.tlb.clear();
            self.loaded = Some(root);
        }
        let seen = |(page, _): &(u64, _)| Some((*page, self.hardware_walk(root, *page)?));
        let seen: Vec<_> = self.memo.pages.iter().filter_map(seen).collect();
        for (page, leaf) in seen {
            self.tlb.entry(page).or_insert(leaf);
            self.mark(root, page);
        }
    }

    /// What the monitor does at CPL 0.
    fn make(&mut self, batch: &Edits) {
        for edit in &batch.list {
            if self.sabotage != Sabotage::LoseDrops || edit.value != 0 {
                let slot = Words::slot(edit.entry);
                self.shadow.words_mut().words[slot] = edit.value;
            }
            if self.sabotage != Sabotage::LoseInvalidations {
                self.tlb.remove(&(edit.linear >> 12 << 12));
            }
        }
        let is_lost = [Sabotage::LoseInvalidations, Sabotage::LoseFlushes].contains(&self.sabotage);
        if batch.flush && !is_lost {
            self.tlb.clear();
        }
    }

    /// The real processor's walk at CPL 3.
    pub fn hardware_walk(&self, root: u64, page: u64) -> Option<u64> {
        let pool = &self.shadow.pool.words;
        let mut table = root;
        for shift in [39, 30, 21] {
            let entry = pool.read(table + (page >> shift) % 512 * 8);
            if entry & (P | U) != P | U {
                return None;
            }
            assert_eq!(entry & 0xfff & !A, P | W | U, "an upper entry");
            table = entry & 0x000f_ffff_ffff_f000;
        }
        let leaf = pool.read(table + (page >> 12) % 512 * 8);
        (leaf & (P | U) == P | U).then_some(leaf & !(A | D))
    }

    /// The processor notes in the shadow's entries that it has used them.
    fn mark(&mut self, root: u64, page: u64) {
        let words = &mut self.shadow.words_mut().words;
        let mut table = root;
        for shift in [39, 30, 21, 12] {
            let entry = &mut words[Words::slot(table + (page >> shift) % 512 * 8)];
            let is_written = shift == 12 && *entry & W != 0;
            *entry |= if is_written { A | D } else { A };
            table = *entry & 0x000f_ffff_ffff_f000;
        }
    }

    /// The first thing that the processor remembers and must not.
    pub fn check(&self, view: View) -> Result<(), String> {
        for (page, leaf) in &self.tlb {
            let facts = self.memo.facts(*page);
            if !facts.iter().any(|fact| self.explains(*fact, *leaf, view)) {
                return Err(format!(
                    "{view:?} {page:#x}: {leaf:#x} is not explained by {facts:x?}, {:?}",
                    self.paging
                ));
            }
        }
        Ok(())
    }

    fn explains(&self, fact: reference::Fact, leaf: u64, view: View) -> bool {
        let (write, execute) = (leaf & W != 0, leaf & NX == 0);
        let user = view == View::User;
        let is_copied = self.owner.copied.contains(&fact.frame);
        let may_execute = Owner::is_ram(fact.frame) && (is_copied || user);
        leaf & 0x000f_ffff_ffff_f000 == self.owner.phys(fact.frame, view)
            && reference::allows(self.control(), fact, user, write, execute)
            && fact.accessed
            && (fact.dirty || !write)
            && (!is_copied || !write)
            && (may_execute || !execute)
    }

    /// Code accesses a page: what the shadow does about it must be what the architecture does.
    pub fn access(
        &mut self,
        view: View,
        page: u64,
        write: bool,
        execute: bool,
    ) -> Result<(), String> {
        self.enter(view);
        self.check(view)?;
        let user = view == View::User;
        let can = |leaf: u64| (!write || leaf & W != 0) && (!execute || leaf & NX == 0);
        if self.tlb.get(&page).is_some_and(|leaf| can(*leaf)) {
            return Ok(());
        }
        let resets = self.resets;
        self.faults += 1;
        self.tlb.remove(&page);
        let c = self.control();
        let expected = reference::fault(&self.ram, c, page, (user, write, execute));
        let after = self.ram.clone();
        if expected.is_none() {
            let marked = reference::look_up(&after, c, page, Some(write));
            marked.expect("it is mapped");
        }
        let code = 4 | u32::from(write) << 1 | u32::from(execute) << 4;
        let paging = self.told();
        let ask = |world: &mut Self| {
            let at = page + 0xabc;
            let (shadow, owner) = (&mut world.shadow, &mut world.owner);
            shadow.fault(&world.ram, &paging, view, at, code, owner)
        };
        let mut answer = ask(self);
        if answer == Resolution::Full {
            self.reset();
            answer = ask(self);
        }
        if self.sabotage == Sabotage::LoseDirty {
            self.ram.clear_bits(D);
        }
        if self.ram != after {
            return Err(format!("{page:#x}: accessed and dirty bits differ"));
        }
        self.memo.forget(&self.ram, c, Some(page));
        for frame in std::mem::take(&mut self.owner.changed) {
            self.frame_changed(frame);
        }
        match answer {
            Resolution::True(PageFault { code }) if expected == Some(code) => {}
            Resolution::Filled if expected.is_none() => {
                self.enter(view);
                if self.resets > resets {
                    // Nothing is present after a reset, so there is nothing to edit.
                    return self.access(view, page, write, execute);
                }
                let leaf = self.tlb.get(&page).copied();
                let fact = reference::look_up(&self.ram, c, page, None);
                let fact = fact.map_err(|code| format!("{code}"))?;
                if !leaf.is_some_and(|leaf| can(leaf) && self.explains(fact, leaf, view)) {
                    return Err(format!("{page:#x}: filled with {leaf:x?} for {fact:x?}"));
                }
            }
            Resolution::Refused { frame } if expected.is_none() => {
                if !execute || Owner::is_ram(frame) {
                    return Err(format!("{page:#x}: refused {frame:#x}"));
                }
            }
            other => return Err(format!("{page:#x}: {other:x?}, not {expected:x?}")),
        }
        self.enter(view);
        self.check(view)
    }
}
