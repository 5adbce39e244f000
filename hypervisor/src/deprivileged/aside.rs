//! One instruction executed aside: one that writes to the page that it is in.
//!
//! The kernel executes copies, and a page is written or executed, never both: so such an instruction
//! would fault for ever, for its fetch and its store in turn. It is executed in a page of its own, alone
//! (by TF), while its own page is mapped to be written.

use super::{Deprivileged, is_silent};
use crate::error::HostError;
use crate::machine::cpu::registers::RSP;
use crate::machine::shadow::View;
use crate::memory::Memory;
use crate::monitor::native::layout::{self, PATCH_ASIDE, patch_linear};
use crate::patch::{Plan, Step, Undo, relocate};

const FRAME: u64 = !0xfff;
/// Where it is executed.
const AT: u64 = patch_linear(PATCH_ASIDE);

/// The instruction that is executed aside.
#[derive(Debug)]
pub struct Aside {
    steps: Vec<Step>,
    /// The length of its code.
    len: u64,
    /// The address of the guest's next instruction.
    next: u64,
}

/// Where the real processor is in it.
pub enum Place {
    /// At the guest's instruction, which is still to come.
    Before,
    /// Behind it.
    Behind,
    /// In the middle of what stands for it.
    Within,
}

impl Deprivileged {
    /// Whether the kernel's instruction stores to the page that it is in: it faulted at `at`.
    pub(super) fn writes_its_own_page(&self, memory: &Memory, at: u64) -> bool {
        let frames = [at, self.regs.rip].map(|at| self.frame_for_data(memory, at));
        self.view() == View::Kernel && frames[0].is_some() && frames[0] == frames[1]
    }

    fn frame_for_data(&self, memory: &Memory, at: u64) -> Option<u64> {
        self.translate(memory, at).map(|phys| phys & FRAME)
    }

    /// Execute the next instruction aside. False when it cannot be had elsewhere.
    ///
    /// # Errors
    /// [`HostError`], when the page cannot be written.
    pub(super) fn step_aside(
        &mut self,
        memory: &Memory,
        instruction: iced_x86::Instruction,
    ) -> Result<bool, HostError> {
        let next = instruction.next_ip();
        let plan = Plan::of_one(instruction);
        let Ok((code, steps)) = relocate(&plan, AT, next, &is_silent) else {
            return Ok(false);
        };
        memory.put(layout::phys(layout::ASIDE), &code)?;
        self.aside = Some(Aside {
            steps,
            len: code.len() as u64,
            next,
        });
        self.is_stepping = true;
        self.step_from = u64::MAX;
        self.stays_at = Some(AT);
        Ok(true)
    }

    /// Lead from the page aside to the guest's instruction. `None`: the real processor was not there.
    pub(super) fn leave_aside(&mut self) -> Option<Place> {
        let aside = self.aside.take()?;
        let offset = self
            .regs
            .rip
            .checked_sub(AT)
            .filter(|at| *at <= aside.len)?;
        if offset == aside.len {
            self.regs.rip = aside.next;
            return Some(Place::Behind);
        }
        let step = aside.steps.iter().find(|step| step.at as u64 == offset)?;
        if offset > 0 && self.has_stepped {
            self.aside = Some(aside);
            return Some(Place::Within);
        }
        // The second half of a call faulted: its first, the push, is undone.
        if step.undo == Undo::Rsp {
            self.regs.general[RSP] = self.regs.general[RSP].wrapping_add(8);
        }
        self.regs.rip = step.rip;
        Some(Place::Before)
    }
}
