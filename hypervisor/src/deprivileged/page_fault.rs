//! Page faults of a deprivileged guest: the shadow's, the copies', or the guest's own.

use std::cell::Cell;
use std::sync::Arc;

use hypercall_abi::layout::MONITOR_GIB;

use super::copies::{Full, Ground, Own};
use super::memory::{Owner, paging, translate};
use super::{Deprivileged, is_silent};
use crate::error::{GuestFault, HostError};
use crate::loader::Placed;
use crate::machine::cpu::{Exception, is_canonical};
use crate::machine::paging::entry::ACCESSED;
use crate::machine::paging::{Access, PageFault, Step, walk};
use crate::machine::shadow::{Resolution, View};
use crate::memory::Memory;
use crate::monitor::native::layout::EDITS;

const FRAME: u64 = !0xfff;
const PAGE: usize = 4096;

/// How many pages get copies at once, once they are mapped: the monitor has to change their mappings, and can make
/// no more changes than [`EDITS`]. The rest gets them when the guest is there.
pub(super) const NEW_COPIES: usize = 12;
/// How often each was mapped then, in boots of the built-in kernel.
const MAPPED: usize = 3;
const _: () = assert!((NEW_COPIES + 1) * MAPPED < EDITS);

/// What of an address says which last-level page table it goes through.
fn table_of(at: u64) -> u64 {
    at & !0x1f_ffff
}

/// What a page fault was.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The shadow's affair: the guest goes on at the same instruction.
    Hidden,
    /// The guest's affair.
    True(Exception),
    /// The guest cannot go on.
    Fault(GuestFault),
    /// The shadow or the copies are full: reset, and try again.
    Full,
}

impl Deprivileged {
    /// Handle a page fault at `at`, of the error code that the real processor gave.
    ///
    /// # Errors
    /// [`HostError`], when copies cannot be written.
    pub(super) fn page_fault(
        &mut self,
        memory: &Memory,
        at: u64,
        code: u32,
    ) -> Result<Outcome, HostError> {
        let view = self.view();
        let access = Access {
            write: code & PageFault::WRITE != 0,
            execute: code & PageFault::FETCH != 0,
            user: view == View::User,
        };
        let is_kernel_code = access.execute && view == View::Kernel;
        if (is_kernel_code || access.write)
            && let Ok(found) = translate(memory, &self.cpu, at, access)
        {
            let frame = found.phys & FRAME;
            if access.write {
                self.written(memory, frame);
            } else if memory.is_ram(frame) && self.fetched(memory, at, frame)?.is_err() {
                return Ok(Outcome::Full);
            }
        }
        let mut owner = Owner {
            memory,
            copies: &self.copies,
            executed_at: self.patching.as_ref().map(|patching| &patching.executed_at),
            shared: self.shared,
            devices: &self.devices,
        };
        let paging = paging(&self.cpu);
        let resolution = self
            .shadow
            .fault(memory, &paging, view, at, code, &mut owner);
        Ok(match resolution {
            Resolution::Filled => {
                if is_kernel_code && !self.is_known(memory, self.regs.rip) {
                    self.discover(memory)?;
                }
                Outcome::Hidden
            }
            Resolution::True(fault) => Outcome::True(Exception::page_fault(fault.code, at)),
            Resolution::Monitor => Outcome::Fault(GuestFault::Unsupported {
                at: self.regs.rip,
                instruction: format!("an access to {at:#x}"),
                what: "the gigabyte of the monitor",
            }),
            Resolution::Refused { .. } => Outcome::Fault(GuestFault::Unsupported {
                at,
                instruction: "an instruction".to_owned(),
                what: "code outside of memory",
            }),
            Resolution::Full => Outcome::Full,
        })
    }

    /// The kernel fetches an instruction at `at`, from a frame of memory: have a copy of it.
    fn fetched(
        &mut self,
        memory: &Memory,
        at: u64,
        frame: u64,
    ) -> Result<Result<(), Full>, HostError> {
        self.recall(memory)?;
        if self.copies.is_stale(memory, frame) {
            self.written(memory, frame);
        }
        let copied = self.copy(memory, frame);
        // Also where nothing is to be discovered: a copy that is mapped and not written is no trap.
        self.copies.write_back(memory)?;
        if copied.is_ok() {
            self.executed_elsewhere(memory, at, frame)?;
        }
        Ok(copied)
    }

    /// Know the code that the kernel begins with. What is wrong with it, the first fault says.
    ///
    /// # Errors
    /// [`HostError`], when copies cannot be written.
    pub(super) fn know_code(&mut self, memory: &Memory) -> Result<(), HostError> {
        let at = self.regs.rip;
        if let Some(frame) = self.frame_of(memory, at)
            && memory.is_ram(frame)
            && self.fetched(memory, at, frame)?.is_ok()
            && !self.copies.is_known(frame + at % PAGE as u64)
        {
            self.discover(memory)?;
        }
        Ok(())
    }

    /// Where a root leads to nothing yet, the kernel's next instructions would fault: fill what the first one needs
    /// ahead of it, and what registers point to. What is wrong with it, the fault says.
    ///
    /// # Errors
    /// [`HostError`], when copies cannot be written.
    pub(super) fn fill_ahead(&mut self, memory: &Memory) -> Result<(), HostError> {
        if !self.shadow.take_blank() || self.view() != View::Kernel {
            return Ok(());
        }
        self.page_fault(memory, self.regs.rip, PageFault::FETCH)?;
        let mut tables = vec![table_of(self.regs.rip)];
        for at in self.regs.general {
            if is_canonical(at) && !tables.contains(&table_of(at)) && self.was_used(memory, at) {
                tables.push(table_of(at));
                self.page_fault(memory, at, 0)?;
            }
        }
        Ok(())
    }

    /// Whether the kernel's page tables lead an address somewhere, and have led somebody there before.
    fn was_used(&self, memory: &Memory, at: u64) -> bool {
        let found = walk(memory, &paging(&self.cpu), at, Access::default());
        let is_used = |step: &Step| step.value & ACCESSED != 0;
        at < MONITOR_GIB && found.is_ok_and(|found| found.path.steps().iter().all(is_used))
    }

    /// Have a copy of a frame.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn copy(&mut self, memory: &Memory, frame: u64) -> Result<(), Full> {
        if self.copies.page_of(frame).is_none() {
            let own = own_of(memory, self.source.as_ref(), frame);
            self.copies.add(frame, own)?;
            self.copies_made(memory);
        }
        Ok(())
    }

    /// Frames with new copies are to be mapped in another way.
    fn copies_made(&mut self, memory: &Memory) {
        for frame in self.copies.take_made() {
            self.frame_changed(memory, frame);
        }
    }

    /// A frame is about to be written, or was: a copy of it is stale.
    pub(super) fn written(&mut self, memory: &Memory, frame: u64) {
        if self.copies.forget(frame) {
            self.copy_gone(frame);
            self.frame_changed(memory, frame);
        }
        for frame in self.copies.take_begun() {
            self.copy_gone(frame);
        }
    }

    /// A frame is to be mapped in another way than before.
    pub(super) fn frame_changed(&mut self, memory: &Memory, frame: u64) {
        let mut owner = Owner {
            memory,
            copies: &self.copies,
            executed_at: self.patching.as_ref().map(|patching| &patching.executed_at),
            shared: self.shared,
            devices: &self.devices,
        };
        self.shadow.frame_changed(frame, &mut owner);
    }

    /// Take what the kernel is about to execute into the copies.
    pub(super) fn discover(&mut self, memory: &Memory) -> Result<(), HostError> {
        self.discover_from(memory, self.regs.rip)?;
        self.patch_found(memory)
    }

    /// Follow the code from an address.
    fn discover_from(&mut self, memory: &Memory, from: u64) -> Result<(), HostError> {
        let cpu = &self.cpu;
        let fetch = Access {
            execute: true,
            ..Access::default()
        };
        let mut frame_at = |page: u64| {
            let found = translate(memory, cpu, page, fetch).ok()?;
            Some(found.phys & FRAME)
        };
        // Before the guest begins nothing is mapped that would have to be changed.
        let room = Cell::new(if self.root == 0 {
            usize::MAX
        } else {
            NEW_COPIES
        });
        let begin = |frame| {
            let is_text = self.text.iter().any(|text| text.contains(&frame));
            if !is_text || !memory.is_ram(frame) {
                return None;
            }
            room.set(room.get().checked_sub(1)?);
            Some(own_of(memory, self.source.as_ref(), frame))
        };
        let read = |at, bytes: &mut [u8]| memory.get(at, bytes);
        let pointer_at = |at| {
            let mut pointer = [0; 8];
            // Nothing is marked as used.
            let found = walk(memory, &paging(cpu), at, Access::default()).ok()?;
            let is_there = memory.get(found.phys, &mut pointer);
            is_there.then(|| u64::from_le_bytes(pointer))
        };
        let ground = Ground {
            read: &read,
            pointer_at: &pointer_at,
            frame_at: &mut frame_at,
            is_silent: &is_silent,
            begin: &begin,
        };
        self.copies.discover(ground, from);
        self.copies.write_back(memory)?;
        self.copies_made(memory);
        self.discovered(memory)
    }
}

/// The guest's own bytes of a frame: the image's, where it is part of this program and they are the same.
fn own_of(memory: &Memory, source: Option<&Placed>, frame: u64) -> Own {
    let mut bytes = [0; PAGE];
    // A frame outside memory reads as zeros; its execution faults elsewhere.
    memory.get(frame, &mut bytes);
    match source.and_then(|source| source.built_in_page(frame)) {
        Some(same) if *same == bytes => Own::BuiltIn(same),
        _ => Own::Kept(Arc::new(bytes)),
    }
}
