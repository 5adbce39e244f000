//! The native image above the monitor, at CPL 3: modes `trap` and `patch`.
//!
//! In walking order: `run` takes each event that the monitor leaves with to what handles it;
//! `interrupts` delivers and holds interrupts; `patching` is mode `patch`;
//! `making` makes a patch; `study` looks through an image before there is a machine, `learned` is what it and runs know;
//! `page_fault` keeps the shadow and the copies of code; `memory` is the guest's linear memory as the
//! virtual processor sees it; `aside` executes one instruction alone; `copies` are the pages that the guest's kernel executes; `real` has the
//! real processor follow the virtual one; `back` and `frame` are the way back.
//!
//! What an instruction means is decided in `machine::cpu`, what a page table means in
//! `machine::shadow`.

mod aside;
mod back;
mod copies;
mod frame;
mod interrupts;
mod learned;
mod making;
mod memory;
mod page_fault;
mod patching;
mod real;
mod run;
mod stored;
mod study;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::{Duration, Instant};

use iced_x86::Instruction;
use kvm_bindings::{CpuId, kvm_regs, kvm_sregs};

use crate::doors::trap::{Class, Sites, classify};
use crate::error::HostError;
use crate::loader::Placed;
use crate::machine::cpu::{Cpu, Refusal, Registers};
use crate::machine::paging::{Access, walk};
use crate::machine::shadow::{Full, MonitorLink, Shadow, View};
use crate::memory::Memory;
use crate::monitor::gates::KvmKind;
use crate::monitor::native::layout;
use crate::processor;

use crate::patch::{PatchedSite, Policy};
use aside::Aside;
use copies::Copies;
#[cfg(test)]
use copies::Own;
use interrupts::Flag;
pub use learned::{Knowledge, Learned, Text};
use memory::{GuestLinear, Page, PoolWords, paging};
use patching::Patching;
pub use study::{Study, text_of};

/// What a deprivileged native guest has besides its memory.
#[derive(Debug)]
pub struct Deprivileged {
    cpu: Cpu,
    regs: Registers,
    shadow: Shadow<PoolWords>,
    copies: Copies,
    sites: Sites,
    /// Where instructions were fetched lately, by the linear page's low bits, and when (`Shadow::generation`).
    fetched: (u64, [Option<Page>; FETCHED]),
    /// What the machine's CPUID says.
    cpuid: CpuId,
    /// The frame of the page that the guest shares with the hypervisor.
    shared: u64,
    /// The registers of devices.
    devices: [Range<u64>; 2],
    /// The shadow root that is loaded.
    root: u64,
    /// How long it took to make the tables that the guest begins with.
    tables_took: Duration,
    /// Whether the monitor was told to sleep.
    is_asleep: bool,
    /// Whether the real processor stops after the next instruction, with interrupts off, because the
    /// virtual one lets them in after that.
    is_stepping: bool,
    /// The instruction that this is to be.
    step_from: u64,
    /// Where it was moved to, once the jump there is done.
    stays_at: Option<u64>,
    /// Whether the last event was the end of a step.
    has_stepped: bool,
    /// What is executed aside.
    aside: Option<Aside>,
    /// Whether the last event came while the real processor was in the patch area.
    was_in_area: bool,
    /// The kind of KVM.
    kind: KvmKind,
    /// Which of the kernel's traps the monitor may handle (`layout::FAST`).
    fast: u32,
    /// The virtual interrupt flag that patched code uses.
    flag: Flag,
    /// Mode `patch`.
    patching: Option<Patching>,
    /// The image's code.
    image_text: Vec<Text>,
    /// Frames of it: what of them has no copy yet gets one as soon as code is followed there.
    text: Vec<Range<u64>>,
    /// Guest-physical, all of the image.
    image: Range<u64>,
    /// The image itself.
    source: Option<Placed>,
    /// What is known of it from the start.
    learned: Option<Knowledge>,
}

/// What the virtual machine knows when it makes one.
#[derive(Debug)]
pub struct Start {
    /// The image's entry.
    pub entry: u64,
    /// The address of the boot information, for RDI.
    pub argument: u64,
    /// The guest's page tables.
    pub root: u64,
    /// The frame that the guest shares with the hypervisor.
    pub shared: u64,
    /// The guest-physical addresses of devices' registers.
    pub devices: [Range<u64>; 2],
    /// Whether devices write to the guest's memory.
    pub has_devices: bool,
    /// What the machine's CPUID says.
    pub cpuid: CpuId,
    /// The kind of KVM.
    pub kind: KvmKind,
    /// Whether the monitor handles CLI and STI of the kernel.
    pub fast_traps: bool,
    /// In mode `patch`: when sites are patched.
    pub patch: Option<Policy>,
    /// The image's code, where nobody may write.
    pub text: Vec<Text>,
    /// Guest-physical, all of the image.
    pub image: Range<u64>,
    /// The image itself, where it is one.
    pub source: Option<Placed>,
    /// What is known of that very code, with that policy.
    pub learned: Option<Knowledge>,
}

/// How many shadow tables the host backs with memory at once: a boot to the shell's prompt uses as many.
const FIRST_TABLES: u64 = 20;

/// Of how many pages the translation is remembered, for fetching what traps.
const FETCHED: usize = 16;

impl Deprivileged {
    /// A guest that has not begun.
    ///
    /// # Errors
    /// [`HostError`], when the pool's memory is not there.
    pub fn new(memory: &Memory, start: Start) -> Result<Self, HostError> {
        let link = MonitorLink {
            directory: layout::phys(layout::DIRECTORY),
            kernel_directory: layout::phys(layout::KERNEL_DIRECTORY),
            memory: layout::REGION.start..layout::END,
            hole: layout::HOLE,
        };
        let mut regs = Registers {
            rip: start.entry,
            rflags: crate::machine::cpu::registers::flag::FIXED,
            ..Registers::default()
        };
        regs.general[crate::machine::cpu::registers::RDI] = start.argument;
        Ok(Self {
            cpu: Cpu::new(start.root, processor::limits(&start.cpuid)),
            regs,
            shadow: Shadow::new(
                PoolWords::new(memory)?,
                layout::TABLES..layout::COPIES,
                link,
            ),
            copies: Copies::new(start.has_devices),
            sites: Sites::default(),
            fetched: (0, [None; FETCHED]),
            cpuid: start.cpuid,
            shared: start.shared,
            devices: start.devices,
            root: 0,
            tables_took: Duration::ZERO,
            is_asleep: false,
            is_stepping: false,
            step_from: 0,
            has_stepped: false,
            aside: None,
            was_in_area: false,
            stays_at: None,
            kind: start.kind,
            fast: match (start.fast_traps, start.kind) {
                (false, _) => 0,
                (true, KvmKind::Software) => layout::FAST_CLI,
                (true, KvmKind::Hardware) => layout::FAST_BOTH,
            },
            flag: Flag::default(),
            patching: start.patch.map(Patching::new),
            text: start.text.iter().map(|text| text.frames.clone()).collect(),
            image_text: start.text,
            image: start.image,
            source: start.source,
            learned: start.learned,
        })
    }

    /// The shadow root to start with.
    ///
    /// # Errors
    /// [`HostError`], when there is none.
    pub fn first_root(&mut self, memory: &Memory) -> Result<u64, HostError> {
        self.know_code(memory)?;
        let start = Instant::now();
        memory.populate(layout::TABLES, FIRST_TABLES * 4096);
        let root = self.select(memory);
        self.root = root.map_err(|Full| HostError::Missing {
            what: "room for shadow page tables",
        })?;
        self.fill_ahead(memory)?;
        self.tables_took = start.elapsed();
        self.show_flag(memory)?;
        Ok(self.root)
    }

    /// How long it took to make the shadow tables that the guest begins with.
    pub fn tables_took(&self) -> Duration {
        self.tables_took
    }

    /// The shadow root of the virtual processor's tables and level.
    fn select(&mut self, memory: &Memory) -> Result<u64, Full> {
        let view = self.view();
        self.shadow.select(memory, &paging(&self.cpu), view)
    }

    /// Put the virtual processor's registers in place of the real one's, for a report.
    pub fn show(&self, regs: &mut kvm_regs, system: &mut kvm_sregs) {
        let in_monitor = system.cs.dpl == 0;
        let (cpu, own) = (&self.cpu, &self.regs);
        if in_monitor {
            real::give(&own.general, regs);
            (regs.rip, regs.rflags) = (own.rip, own.rflags);
        }
        (system.cr0, system.cr2, system.cr3) = (cpu.cr0, cpu.cr2, cpu.cr3);
        (system.cr4, system.efer) = (cpu.cr4, cpu.efer);
        system.cs.selector = cpu.cs.selector.0;
    }

    /// Where a linear address of the guest's leads; nothing is marked as used.
    pub fn translate(&self, memory: &Memory, at: u64) -> Option<u64> {
        let found = walk(memory, &paging(&self.cpu), at, Access::default());
        found.ok().map(|found| found.phys)
    }

    /// The instruction at RIP.
    fn decode(&mut self, memory: &Memory) -> Result<Instruction, Refusal> {
        let (rip, now) = (self.regs.rip, self.shadow.generation());
        // Each of both only grows.
        let age = now + self.copies.changes();
        let is_kernel = self.cpu.is_64_bit() && !self.cpu.is_user();
        if is_kernel && let Some(held) = self.sites.held(rip, age) {
            return Ok(held);
        }
        let mut linear = GuestLinear::new(memory, &self.copies);
        let (then, pages) = &mut self.fetched;
        if *then != now {
            (*then, *pages) = (now, [None; FETCHED]);
        }
        let slot = (rip >> 12) as usize % FETCHED;
        linear.code = pages.get(slot).copied().flatten();
        let decoded = self.sites.decode(&self.cpu, &mut linear, rip)?;
        if let Some(page) = pages.get_mut(slot) {
            *page = linear.code;
        }
        // A page with a copy cannot be written meanwhile.
        if is_kernel && linear.is_copied(rip, decoded.len()) {
            self.sites.hold(rip, age);
        }
        Ok(decoded)
    }

    /// The sites of mode `patch`, and what became of them.
    pub fn patches(&self) -> Vec<PatchedSite> {
        self.patching
            .as_ref()
            .map(Patching::listing)
            .unwrap_or_default()
    }

    /// Whose tables count now.
    fn view(&self) -> View {
        match self.cpu.is_user() {
            true => View::User,
            false => View::Kernel,
        }
    }
}

/// Whether an instruction of the kernel's would do something else at CPL 3 and not fault.
fn is_silent(instruction: &Instruction) -> bool {
    classify(instruction) == Class::Silent
}
