//! The way back into the guest: the registers, the root to run on, and what is to be changed before.

use hypercall_abi::layout::MONITOR_PHYS;

use super::Deprivileged;
use super::frame::{self, Entry};
use super::real;
use super::run::{RESETS, Stop};
use crate::error::{GuestFault, HostError};
use crate::machine::cpu::registers::{self, flag};
use crate::machine::shadow::{Edits, View};
use crate::memory::Memory;
use crate::monitor::gates::KvmKind;
use crate::monitor::native::layout;
use crate::vm::Vm;

/// RFLAGS of the real processor that are the guest's own, IF included (see `frame`).
const REAL_FLAGS: u64 = 0x25_0fd5;

impl Vm {
    /// Load the way back into the guest.
    pub(super) fn go_on(&mut self, guest: &mut Deprivileged) -> Result<(), Stop> {
        let entry = match guest.is_asleep {
            true => frame::idle(guest.owes_end()),
            false => self.way_back(guest)?,
        };
        let regs = &mut self.vcpu.sync_regs_mut().regs;
        real::give(&guest.regs.general, regs);
        (regs.rip, regs.rsp) = (entry.rip, entry.rsp);
        regs.rflags = flag::FIXED;
        self.vcpu.set_sync_dirty_reg(kvm_ioctls::SyncReg::Register);
        Ok(())
    }

    fn way_back(&mut self, guest: &mut Deprivileged) -> Result<Entry, Stop> {
        let (root, mut edits) = self.root(guest)?;
        if guest.root == 0 {
            // After a reset the real processor's root leads nowhere, the monitor included.
            self.load_root(root)?;
            guest.root = root;
        }
        let interrupts = guest.write_flag(&self.memory)?;
        let regs = &guest.regs;
        let rsp = regs.general[registers::RSP];
        let (rax, rdi) = (regs.general[registers::RAX], regs.general[registers::RDI]);
        let rip = match guest.stays_at.take() {
            Some(at) if guest.is_stepping => at,
            _ => guest.enter_area(&self.memory),
        };
        let flags = guest.real_flags(interrupts);
        // The real flags are the kernel's own then, and it is not stepped.
        let fast = match guest.fast {
            0 => None,
            _ if guest.view() == View::User || flags & flag::TF != 0 => Some(0),
            fast => Some(fast),
        };
        let mut entry = frame::resume(&self.memory, rip, flags, rsp, fast)?;
        edits.list.extend(guest.flag_edits());
        let owes_end = guest.owes_end();
        if owes_end || !edits.list.is_empty() {
            let list = &edits.list;
            entry = frame::with_edits(&self.memory, root, list, owes_end, rax, rdi)?;
        } else if root != guest.root {
            entry = frame::with_root(&self.memory, root)?;
        }
        guest.root = root;
        Ok(entry)
    }

    /// The root to run on, and what is to be changed before.
    fn root(&mut self, guest: &mut Deprivileged) -> Result<(u64, Edits), Stop> {
        for _ in 0..RESETS {
            let root = guest.select(&self.memory);
            guest.fill_ahead(&self.memory)?;
            if let Ok(root) = root
                && let Ok(edits) = guest.shadow.take_edits()
            {
                return Ok((root, edits));
            }
            self.reset_shadow(guest)?;
        }
        Err(GuestFault::Unsupported {
            at: guest.regs.rip,
            instruction: "the guest".to_owned(),
            what: "more page tables than the shadow has room for",
        }
        .into())
    }

    /// Have the real processor use another root, without the monitor.
    fn load_root(&mut self, root: u64) -> Result<(), HostError> {
        let fail = HostError::kvm("set the processor's registers");
        let mut system = self.vcpu.get_sregs().map_err(&fail)?;
        system.cr3 = root;
        self.vcpu.set_sregs(&system).map_err(&fail)
    }

    /// Forget all shadow tables and all copies, here and in KVM.
    pub(super) fn reset_shadow(&mut self, guest: &mut Deprivileged) -> Result<(), HostError> {
        self.memory.clear(layout::POOL)?;
        self.memory.renew(&self.fd, MONITOR_PHYS)?;
        guest.shadow.clear();
        guest.copies.clear();
        guest.copies_gone();
        guest.root = 0;
        Ok(())
    }
}

impl Deprivileged {
    /// Take the flags that the real processor had; IOPL and NT stay the virtual one's. Whether it was
    /// made to stop after one instruction: then IF and TF are the virtual ones, too.
    pub(super) fn set_real_flags(&mut self, memory: &Memory, real: u64) -> bool {
        let stepping = std::mem::take(&mut self.is_stepping);
        let mut theirs = REAL_FLAGS;
        if stepping {
            theirs &= !(flag::IF | flag::TF);
        }
        match self.cpu.is_user() {
            // IOPL is 0 there, so nothing has changed IF; on kvm_pvm R11 after SYSCALL shows the host's,
            // and NT is forgotten.
            true if self.kind == KvmKind::Hardware => theirs = theirs & !flag::IF | flag::NT,
            true => theirs &= !flag::IF,
            false => theirs &= !flag::AC,
        }
        self.regs.rflags = self.regs.rflags & !theirs | real & theirs | flag::FIXED;
        if !stepping {
            self.read_flag(memory);
        }
        stepping && !self.regs.has(flag::TF)
    }

    /// The flags to go on with. The kernel is not checked for alignment (SDM vol. 3, 6.15, #AC), as the
    /// real processor at CPL 3 would be. `interrupts`: what the real interrupt flag is to be.
    fn real_flags(&self, interrupts: bool) -> u64 {
        let mut flags = self.regs.rflags & !flag::IF;
        if interrupts {
            flags |= flag::IF;
        }
        if self.is_stepping {
            flags = flags & !flag::IF | flag::TF;
        }
        if !self.cpu.is_user() {
            flags &= !(flag::AC | flag::NT);
        }
        flags
    }
}
