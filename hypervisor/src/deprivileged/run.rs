//! From an event that the monitor left with to the way back into the guest.

use std::time::Instant;

use iced_x86::{Instruction, Register};

use super::Deprivileged;
use super::aside::Place;
use super::frame::{self, Frame, Left};
use super::memory::{GuestLinear, paging, translate};
use super::page_fault::Outcome;
use super::real;
use crate::doors::trap::{self, Class, Devices, classify};
use crate::error::{GuestFault, HostError};
use crate::machine::cpu::registers::{self, flag};
use crate::machine::cpu::{Changes, Effect, Exception, Fatal, Refusal};
use crate::machine::paging::{Access, PageFault};
use crate::machine::shadow::View;
use crate::memory::Memory;
use crate::monitor::native::layout::{PATCHES, PATCHES_LEN};
use crate::patch::Undo;
use crate::processor;
use crate::vm::Vm;

/// Vectors with an error code (SDM vol. 3, table 6-1).
const WITH_ERROR: u32 =
    1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21;
/// Whether an address is in what patched code uses, which no guest maps.
fn is_flag_page(at: u64) -> bool {
    (PATCHES..PATCHES + PATCHES_LEN).contains(&at)
}

/// How many instructions are emulated in one exit, in mode `patch`, beside the one that trapped. Interrupts wait
/// for them.
const AHEAD: usize = 16;

/// How often handling one event may find the shadow full. Once should do.
pub(super) const RESETS: usize = 3;

/// Why the guest cannot go on, or the host.
pub(super) enum Stop {
    Guest(GuestFault),
    Host(HostError),
}

impl From<HostError> for Stop {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl From<GuestFault> for Stop {
    fn from(fault: GuestFault) -> Self {
        Self::Guest(fault)
    }
}

impl Vm {
    /// Handle the event that the monitor left with. What it was, for the counts.
    ///
    /// # Errors
    /// [`HostError`]; the guest's fault is inside.
    pub(crate) fn trap(&mut self) -> Result<(&'static str, Option<GuestFault>), HostError> {
        let Some(mut guest) = self.deprivileged.take() else {
            return Ok(("trap", None));
        };
        let result = self.handle(&mut guest);
        self.deprivileged = Some(guest);
        match result {
            Ok(kind) => Ok((kind, None)),
            Err(Stop::Guest(fault)) => Ok(("fault", Some(fault))),
            Err(Stop::Host(error)) => Err(error),
        }
    }

    fn handle(&mut self, guest: &mut Deprivileged) -> Result<&'static str, Stop> {
        let left_with = self.vcpu.sync_regs_mut().regs;
        let was_asleep = std::mem::take(&mut guest.is_asleep);
        let left = frame::left(&self.memory, left_with.rip, left_with.rsp, was_asleep);
        let Some(left) = left else {
            return Err(
                GuestFault::Exit(format!("the monitor left at {:#x}", left_with.rip)).into(),
            );
        };
        if !was_asleep {
            guest.regs.general = real::take(&left_with);
        }
        let kind = match left {
            Left::Awake(None) => "awake",
            Left::Awake(Some(vector)) => {
                self.interrupt(guest, vector)?;
                "interrupt"
            }
            Left::Window(vector, frame, rax) => {
                guest.regs.rip = frame.rip;
                guest.regs.general[registers::RSP] = frame.rsp;
                guest.regs.general[registers::RAX] = rax;
                guest.set_real_flags(&self.memory, frame.rflags);
                self.send_back(guest, vector)?;
                self.at_instruction(guest, Exception::protection(0))?
            }
            Left::Syscall { rsp } => {
                self.system_call(guest, rsp)?;
                "syscall"
            }
            Left::Syscall32 => {
                return Err(GuestFault::Unsupported {
                    at: left_with.rcx,
                    instruction: "SYSCALL".to_owned(),
                    what: "system calls of 32-bit code",
                }
                .into());
            }
            Left::Event(vector, frame) => {
                guest.regs.rip = frame.rip;
                guest.regs.general[registers::RSP] = frame.rsp;
                let stepped = guest.set_real_flags(&self.memory, frame.rflags);
                guest.has_stepped = stepped && vector == 1;
                match (stepped, vector) {
                    (true, 1) => self.stepped(guest)?,
                    _ => self.left(guest, vector, &frame, left_with.rsp)?,
                }
            }
        };
        guest.suspend_patches(&self.memory)?;
        self.go_on(guest)?;
        Ok(kind)
    }

    /// The guest left for an event: in the patch area, maybe, and then what it does there decides first.
    fn left(
        &mut self,
        guest: &mut Deprivileged,
        vector: u8,
        frame: &Frame,
        cr2: u64,
    ) -> Result<&'static str, Stop> {
        // An event in an instruction that is executed aside comes before it: it is executed again.
        let _ = guest.leave_aside();
        let step = guest.leave_area(&self.memory);
        guest.was_in_area = step.is_some();
        let Some(step) = step else {
            return self.event(guest, vector, frame, cr2);
        };
        if matches!(step.undo, Undo::Finish | Undo::FinishPlain) {
            // The flag has been written: the instruction is done here, and what came of an interrupt
            // comes after it. A fault of its own it finds again.
            let kind = self.at_instruction(guest, Exception::protection(0))?;
            if vector >= 32 {
                self.send_back(guest, vector)?;
            }
            return Ok(kind);
        }
        if vector == 14 && is_flag_page(cr2) {
            return self.at_instruction(guest, Exception::protection(0));
        }
        if vector >= 32 && step.after_sti {
            self.send_back(guest, vector)?;
            self.in_shadow(guest)?;
            return Ok("interrupt");
        }
        self.event(guest, vector, frame, cr2)
    }

    /// The one instruction was executed that interrupts had to wait for; or a jump to where it was moved
    /// to, and then it is still to come.
    fn stepped(&mut self, guest: &mut Deprivileged) -> Result<&'static str, Stop> {
        let at = guest.regs.rip;
        match guest.leave_aside() {
            Some(Place::Within) => {
                guest.is_stepping = true;
                guest.stays_at = Some(at);
                return Ok("step");
            }
            Some(Place::Before | Place::Behind) => return Ok("step"),
            None => {}
        }
        if guest.leave_area(&self.memory).is_some() && guest.step_from == guest.regs.rip {
            guest.is_stepping = true;
            guest.stays_at = Some(at);
        }
        Ok("step")
    }

    fn event(
        &mut self,
        guest: &mut Deprivileged,
        vector: u8,
        frame: &Frame,
        cr2: u64,
    ) -> Result<&'static str, Stop> {
        let kind = match vector {
            14 => return self.fault(guest, cr2, frame.error as u32),
            13 => return self.protection(guest, frame.error as u32),
            // On kvm_pvm INT n at CPL 3 is an invalid opcode, and so are CLAC and its like on all.
            6 => return self.at_instruction(guest, Exception::invalid_opcode()),
            1 => {
                guest.cpu.dr6 = self.debug_status()?;
                "exception"
            }
            2 | 8 | 18 => {
                return Err(GuestFault::Monitor {
                    vector: u32::from(vector),
                }
                .into());
            }
            3 | 4 => {
                // The frame has the address behind the instruction, which INT n returns to.
                let next = guest.regs.rip;
                let mut memory = GuestLinear::new(&self.memory, &guest.copies);
                let result =
                    guest
                        .cpu
                        .software_interrupt(&mut guest.regs, &mut memory, vector, next);
                guest.written_all(&self.memory, memory.written);
                match result {
                    Ok(effect) => self.settle(guest, effect)?,
                    Err(refusal) => {
                        guest.regs.rip = next.wrapping_sub(1);
                        self.refused(guest, refusal)?;
                    }
                }
                return Ok("exception");
            }
            0..32 => "exception",
            _ => {
                self.interrupt(guest, vector)?;
                return Ok("interrupt");
            }
        };
        let has_error = WITH_ERROR >> vector & 1 == 1;
        let exception = Exception {
            vector,
            error: has_error.then_some(frame.error as u32),
            address: None,
        };
        self.raise(guest, exception)?;
        Ok(kind)
    }

    fn fault(
        &mut self,
        guest: &mut Deprivileged,
        at: u64,
        code: u32,
    ) -> Result<&'static str, Stop> {
        let followed = guest.copies.counts().instructions;
        for _ in 0..RESETS {
            match guest.page_fault(&self.memory, at, code)? {
                Outcome::Hidden if guest.copies.counts().instructions > followed => {
                    return Ok("discovery");
                }
                Outcome::Hidden => {
                    if code & PageFault::WRITE != 0 && guest.writes_its_own_page(&self.memory, at) {
                        self.aside(guest)?;
                    }
                    return Ok("hidden page fault");
                }
                Outcome::True(exception) => {
                    self.raise(guest, exception)?;
                    return Ok("page fault");
                }
                Outcome::Fault(fault) => return Err(fault.into()),
                Outcome::Full => self.reset_shadow(guest)?,
            }
        }
        Err(GuestFault::Unsupported {
            at: guest.regs.rip,
            instruction: format!("an access to {at:#x}"),
            what: "more page tables than the shadow has room for",
        }
        .into())
    }

    /// The kernel's next instruction writes to its own page.
    fn aside(&mut self, guest: &mut Deprivileged) -> Result<(), Stop> {
        let Ok(instruction) = guest.decode(&self.memory) else {
            return Ok(());
        };
        match guest.step_aside(&self.memory, instruction)? {
            true => Ok(()),
            false => Err(GuestFault::Unsupported {
                at: guest.regs.rip,
                instruction: format!("`{instruction}`"),
                what: "a store to its own page by an instruction that cannot be moved",
            }
            .into()),
        }
    }

    /// #GP: an instruction to emulate, code that was not seen yet, or the guest's own fault.
    fn protection(&mut self, guest: &mut Deprivileged, error: u32) -> Result<&'static str, Stop> {
        if guest.view() == View::Kernel {
            let rip = guest.regs.rip;
            if !guest.is_known(&self.memory, rip) {
                let before = guest.copies.counts();
                guest.discover(&self.memory)?;
                let now = guest.copies.counts();
                if now.instructions > before.instructions || now.conflicts > before.conflicts {
                    return Ok("discovery");
                }
            } else if guest.is_overlapped(&self.memory, rip) {
                return Err(GuestFault::Unsupported {
                    at: rip,
                    instruction: "an instruction".to_owned(),
                    what: "code in which a sensitive instruction and another overlap",
                }
                .into());
            }
        }
        self.at_instruction(guest, Exception::protection(error))
    }

    /// An instruction raised an exception: it is to be emulated, or the exception is the guest's own.
    fn at_instruction(
        &mut self,
        guest: &mut Deprivileged,
        exception: Exception,
    ) -> Result<&'static str, Stop> {
        let start = self.door.timing.then(Instant::now);
        let decoded = guest.decode(&self.memory);
        if let Some(start) = start {
            self.door.stats.decode(start.elapsed());
        }
        let instruction = match decoded {
            Ok(instruction) => instruction,
            Err(refusal) => {
                self.refused(guest, refusal)?;
                return Ok("exception");
            }
        };
        // What is no instruction is `hlt` in the copy; `emulate` says that it is #UD.
        if classify(&instruction) == Class::Innocuous && !instruction.is_invalid() {
            if guest.arrived(&self.memory) {
                guest.count_arrival(&self.memory, guest.regs.rip)?;
                return Ok("arrival in a moved range");
            }
            self.raise(guest, exception)?;
            return Ok("exception");
        }
        let at = guest.regs.rip;
        let is_kernel = guest.view() == View::Kernel;
        if is_kernel && guest.patch_late(&self.memory, at, &instruction)? {
            if let Some(trace) = &mut self.door.trace {
                trace.event(format_args!(
                    "patch {} at {at:#x}",
                    trap::name(&instruction)
                ));
            }
            return Ok("first trap of a patched site");
        }
        let kind = self.emulate(guest, &instruction)?;
        if is_kernel {
            guest.trapped(&self.memory, at, &instruction)?;
            self.go_ahead(guest)?;
        }
        Ok(kind)
    }

    /// Mode `patch`: emulate the instructions that come next as well, as long as they would trap.
    fn go_ahead(&mut self, guest: &mut Deprivileged) -> Result<(), Stop> {
        for _ in 0..AHEAD {
            let is_off = self.machine.power.status().is_some();
            if is_off || guest.is_asleep || guest.is_stepping || !guest.may_go_ahead() {
                break;
            }
            let Some(next) = guest.next_that_traps(&self.memory) else {
                break;
            };
            self.emulate(guest, &next)?;
            self.door.stats.ahead += 1;
        }
        Ok(())
    }

    fn emulate(
        &mut self,
        guest: &mut Deprivileged,
        instruction: &Instruction,
    ) -> Result<&'static str, Stop> {
        if instruction.op1_register() == Register::CR8 {
            // The guest may have written the local APIC's register of the same meaning.
            guest.cpu.cr8 = self.task_priority()?;
        }
        if let Some(trace) = &mut self.door.trace {
            let (name, at) = (trap::name(instruction), guest.regs.rip);
            trace.event(format_args!("{name} at {at:#x}"));
        }
        let mut memory = GuestLinear::new(&self.memory, &guest.copies);
        let mut devices = Devices {
            machine: &mut self.machine,
            trace: self.door.trace.as_mut(),
        };
        let cpuid = &guest.cpuid;
        let result = trap::emulate(
            instruction,
            &mut guest.cpu,
            &mut guest.regs,
            &mut memory,
            &mut devices,
            &|leaf, subleaf| processor::cpuid_of(cpuid, leaf, subleaf),
        );
        guest.written_all(&self.memory, memory.written);
        match result {
            Ok(effect) => self.settle(guest, effect)?,
            Err(trap::Stop::Exception(exception)) => self.raise(guest, exception)?,
            Err(trap::Stop::Fault(fault)) => return Err(fault.into()),
        }
        Ok(trap::name(instruction))
    }

    fn system_call(&mut self, guest: &mut Deprivileged, rsp: u64) -> Result<(), Stop> {
        let general = &mut guest.regs.general;
        general[registers::RSP] = rsp;
        let (next, rflags) = (general[registers::RCX], general[registers::R11]);
        guest.regs.rip = next.wrapping_sub(2);
        guest.set_real_flags(&self.memory, rflags);
        match guest.cpu.syscall(&mut guest.regs, next) {
            Ok(effect) => self.settle(guest, effect),
            Err(refusal) => self.refused(guest, refusal.into()),
        }
    }

    fn raise(&mut self, guest: &mut Deprivileged, exception: Exception) -> Result<(), Stop> {
        let mut memory = GuestLinear::new(&self.memory, &guest.copies);
        let result = guest.cpu.raise(&mut guest.regs, &mut memory, exception);
        guest.written_all(&self.memory, memory.written);
        self.delivered(guest, result)
    }

    pub(super) fn delivered(
        &mut self,
        guest: &mut Deprivileged,
        result: Result<Effect, Fatal>,
    ) -> Result<(), Stop> {
        match result {
            Ok(effect) => self.settle(guest, effect),
            Err(fatal) => Err(fatal.verdict(guest.regs.rip).into()),
        }
    }

    /// A verb that was no instruction's of its own refused.
    fn refused(&mut self, guest: &mut Deprivileged, refusal: Refusal) -> Result<(), Stop> {
        match refusal {
            Refusal::Exception(exception) => self.raise(guest, exception),
            Refusal::Unsupported(what) => Err(GuestFault::Unsupported {
                at: guest.regs.rip,
                instruction: "the instruction".to_owned(),
                what,
            }
            .into()),
        }
    }

    /// Have everything follow what a verb did.
    fn settle(&mut self, guest: &mut Deprivileged, effect: Effect) -> Result<(), Stop> {
        let changes = effect.changes;
        if changes.is_empty() {
            return Ok(());
        }
        if changes.contains(Changes::ROOT) {
            guest.shadow.load_root();
        }
        if changes.intersects(Changes::ALL_PAGES | Changes::RIGHTS) {
            guest.shadow.flush_all();
        }
        if let (true, Some(at)) = (changes.contains(Changes::PAGE), effect.page) {
            let paging = paging(&guest.cpu);
            guest.shadow.invalidate(&self.memory, &paging, at);
        }
        self.follow(guest, changes)?;
        if changes.contains(Changes::HALTED) {
            self.halt(guest)?;
        }
        // STI holds no debug trap back, and what comes of one is not the next instruction.
        if changes.contains(Changes::SINGLE_STEP) {
            let exception = guest.cpu.single_step();
            self.raise(guest, exception)?;
        } else if changes.contains(Changes::SHADOW) {
            self.in_shadow(guest)?;
        }
        Ok(())
    }

    fn halt(&mut self, guest: &mut Deprivileged) -> Result<(), Stop> {
        if !guest.regs.has(flag::IF) {
            return Err(GuestFault::Halted.into());
        }
        guest.is_asleep = true;
        Ok(())
    }

    /// Interrupts are let in only after the next instruction (SDM vol. 3, 6.8.3). One that the machine
    /// emulates is done at once. Another is executed alone, if an interrupt waits; while none does,
    /// nobody can tell.
    fn in_shadow(&mut self, guest: &mut Deprivileged) -> Result<(), Stop> {
        if !guest.regs.has(flag::IF) {
            return Ok(());
        }
        if let Some(next) = guest.next_that_traps(&self.memory) {
            return self.emulate(guest, &next).map(|_| ());
        }
        guest.is_stepping = self.interrupt_waits()?;
        guest.step_from = guest.regs.rip;
        Ok(())
    }
}

impl Deprivileged {
    pub(super) fn written_all(&mut self, memory: &Memory, frames: Vec<u64>) {
        for frame in frames {
            self.written(memory, frame);
        }
    }

    /// The kernel's next instruction, if it would trap were it not replaced.
    fn next_that_traps(&mut self, memory: &Memory) -> Option<Instruction> {
        let next = self.decode(memory).ok()?;
        (self.view() == View::Kernel && classify(&next) != Class::Innocuous).then_some(next)
    }

    /// Whether the kernel has arrived in a moved range, where a trap says so. It goes on in the area.
    fn arrived(&self, memory: &Memory) -> bool {
        !self.was_in_area && self.view() == View::Kernel && self.enter_area(memory) != self.regs.rip
    }

    /// Whether the kernel's instruction at `at` cannot be executed, for one that overlaps it.
    fn is_overlapped(&self, memory: &Memory, at: u64) -> bool {
        let fetch = Access {
            execute: true,
            ..Access::default()
        };
        translate(memory, &self.cpu, at, fetch)
            .is_ok_and(|found| self.copies.is_overlapped(found.phys))
    }

    /// Whether the kernel's instruction at `at` is in a copy.
    pub(super) fn is_known(&self, memory: &Memory, at: u64) -> bool {
        let fetch = Access {
            execute: true,
            ..Access::default()
        };
        translate(memory, &self.cpu, at, fetch).is_ok_and(|found| self.copies.is_known(found.phys))
    }
}
