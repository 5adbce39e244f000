//! Interrupts of a deprivileged guest: delivered, or sent back until the guest lets them in.
//!
//! In mode `trap` the real interrupt flag is the virtual one, and the local APIC holds what must wait.
//! In mode `patch` the kernel's CLI is a store to a flag in memory, which the real flag does not follow.
//! So an interrupt may arrive while the virtual flag is off. It is *sent back* then: the local APIC has
//! it requested, and not in service, as if it had not arrived. From there on the real flag is off, and
//! the page through which the kernel sets its flag is not mapped: the kernel's next STI or POPF that
//! lets interrupts in faults, and turns the real flag on.

use hypercall_abi::layout::APIC_PHYS;

use super::Deprivileged;
use super::memory::GuestLinear;
use super::run::Stop;
use crate::error::HostError;
use crate::machine::cpu::registers::flag;
use crate::machine::shadow::{Edit, View};
use crate::memory::Memory;
use crate::monitor::gates::KvmKind;
use crate::monitor::native::layout::{self, PATCH_FLAG, PATCH_SET, patch_entry, patch_linear};
use crate::patch::inline;
use crate::vm::Vm;

/// RFLAGS that patched code does not show: while one is set, it faults.
const HIDDEN: u64 = flag::TF | flag::IOPL | flag::NT | flag::AC;
/// A page table entry for the flag: present, writable, for CPL 3, accessed and dirty, not executable.
const FLAG_ENTRY: u64 = layout::phys(layout::FLAG) | 1 << 63 | 0x67;

/// The virtual interrupt flag in memory, and what waits for it.
#[derive(Debug, Default)]
pub struct Flag {
    /// An interrupt was sent back since it was last on.
    waits: bool,
    /// That interrupt is in service yet.
    owes_end: bool,
    /// Whether the page to read and clear it is mapped, and that to set it.
    is_mapped: [bool; 2],
}

impl Deprivileged {
    /// Whether the flag in memory is the virtual interrupt flag now: in the kernel, in mode `patch`.
    fn has_flag(&self) -> bool {
        self.patching.is_some() && self.view() == View::Kernel
    }

    /// Take the virtual interrupt flag from memory, where it is there.
    pub(super) fn read_flag(&mut self, memory: &Memory) {
        if self.has_flag() {
            let mut byte = [0];
            // The monitor's page is always there.
            memory.get(layout::phys(layout::FLAG), &mut byte);
            self.regs.set(flag::IF, byte != [0]);
        }
    }

    /// Put the virtual interrupt flag into memory, and say what the real one is to be.
    pub(super) fn write_flag(&mut self, memory: &Memory) -> Result<bool, HostError> {
        let is_on = self.regs.has(flag::IF);
        self.flag.waits &= !is_on;
        if !self.has_flag() {
            return Ok(is_on);
        }
        let byte = if is_on { inline::ON } else { 0 };
        memory.put(layout::phys(layout::FLAG), &[byte])?;
        Ok(is_on || !self.flag.waits)
    }

    /// Map the flag for a guest that has not begun: no interrupt waits, and no other flag is set.
    ///
    /// # Errors
    /// [`HostError`], when it cannot be written.
    pub(super) fn show_flag(&mut self, memory: &Memory) -> Result<(), HostError> {
        if self.has_flag() {
            for page in [PATCH_FLAG, PATCH_SET] {
                let entry = patch_entry(patch_linear(page));
                memory.put(entry, &FLAG_ENTRY.to_le_bytes())?;
            }
            self.flag.is_mapped = [true; 2];
        }
        Ok(())
    }

    /// What the monitor has to change in the flag's mappings before the kernel goes on.
    pub(super) fn flag_edits(&mut self) -> Vec<Edit> {
        if !self.has_flag() {
            return Vec::new();
        }
        let is_shown = self.regs.rflags & HIDDEN == 0 && !self.is_stepping;
        let wanted = [is_shown, is_shown && !self.flag.waits];
        let pages = [PATCH_FLAG, PATCH_SET].map(patch_linear);
        let now = std::mem::replace(&mut self.flag.is_mapped, wanted);
        let pages = pages.into_iter().zip(now.into_iter().zip(wanted));
        let changed = pages.filter(|(_, (now, wanted))| now != wanted);
        changed
            .map(|(linear, (_, wanted))| Edit {
                entry: patch_entry(linear),
                value: if wanted { FLAG_ENTRY } else { 0 },
                linear,
            })
            .collect()
    }

    /// Whether an interrupt that was sent back is in service yet. The monitor has to end that.
    pub(super) fn owes_end(&mut self) -> bool {
        std::mem::take(&mut self.flag.owes_end)
    }
}

impl Vm {
    /// An interrupt arrived.
    pub(super) fn interrupt(&mut self, guest: &mut Deprivileged, vector: u8) -> Result<(), Stop> {
        if guest.has_flag() && !guest.regs.has(flag::IF) {
            return Ok(self.send_back(guest, vector)?);
        }
        let mut memory = GuestLinear::new(&self.memory, &guest.copies);
        let result = guest.cpu.interrupt(&mut guest.regs, &mut memory, vector);
        guest.written_all(&self.memory, memory.written);
        self.delivered(guest, result)
    }

    /// Have the local APIC request an interrupt again that arrived too early, as if it had not arrived.
    pub(super) fn send_back(
        &mut self,
        guest: &mut Deprivileged,
        vector: u8,
    ) -> Result<(), HostError> {
        // It is in service yet; the monitor ends that before anything else.
        guest.flag.owes_end = guest.kind == KvmKind::Hardware;
        guest.flag.waits = true;
        let msi = kvm_bindings::kvm_msi {
            address_lo: APIC_PHYS as u32, // to local APIC 0, fixed, edge (SDM vol. 3, 11.11)
            data: u32::from(vector),
            ..Default::default()
        };
        let fail = HostError::kvm("request an interrupt again");
        self.fd.signal_msi(msi).map(|_| ()).map_err(fail)
    }

    /// Whether the local APIC has an interrupt to deliver.
    pub(super) fn interrupt_waits(&self) -> Result<bool, HostError> {
        /// Eight registers of 32 bits, 16 bytes apart (SDM vol. 3, 11.8.4).
        const REQUESTED: usize = 0x200;
        let apic = self
            .vcpu
            .get_lapic()
            .map_err(HostError::kvm("read the local APIC"))?;
        let mut rows = apic.regs.chunks(16).skip(REQUESTED / 16).take(8);
        Ok(rows.any(|row| row.iter().take(4).any(|byte| *byte != 0)))
    }
}
