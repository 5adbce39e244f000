//! The real processor follows the virtual one, in what works at CPL 3 too.

use kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs};

use super::Deprivileged;
use crate::error::HostError;
use crate::machine::cpu::{Changes, cr0, cr4};
use crate::vm::Vm;

const MSR_FS_BASE: u32 = 0xc000_0100;
const MSR_GS_BASE: u32 = 0xc000_0101;
const MSR_TSC_AUX: u32 = 0xc000_0103;

/// CR0's bits that mean the same for the real processor: MP, EM, TS, NE.
const CR0_FOLLOWS: u64 = cr0::MP | cr0::EM | cr0::TS | cr0::NE;
/// CR4's bits likewise: TSD, DE, PCE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE.
const CR4_FOLLOWS: u64 =
    cr4::TSD | cr4::DE | cr4::PCE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::FSGSBASE | cr4::OSXSAVE;

/// The general registers of the real processor, by their numbers.
pub(super) fn take(real: &kvm_regs) -> [u64; 16] {
    [
        real.rax, real.rcx, real.rdx, real.rbx, real.rsp, real.rbp, real.rsi, real.rdi, real.r8,
        real.r9, real.r10, real.r11, real.r12, real.r13, real.r14, real.r15,
    ]
}

/// Give the real processor general registers.
pub(super) fn give(general: &[u64; 16], real: &mut kvm_regs) {
    let to = [
        &mut real.rax,
        &mut real.rcx,
        &mut real.rdx,
        &mut real.rbx,
        &mut real.rsp,
        &mut real.rbp,
        &mut real.rsi,
        &mut real.rdi,
        &mut real.r8,
        &mut real.r9,
        &mut real.r10,
        &mut real.r11,
        &mut real.r12,
        &mut real.r13,
        &mut real.r14,
        &mut real.r15,
    ];
    for (to, from) in to.into_iter().zip(general) {
        *to = *from;
    }
}

impl Vm {
    /// Have the real processor follow what changed.
    pub(super) fn follow(
        &mut self,
        guest: &Deprivileged,
        changes: Changes,
    ) -> Result<(), HostError> {
        let cpu = &guest.cpu;
        if changes.contains(Changes::BASES) {
            self.set_msrs(&[(MSR_FS_BASE, cpu.fs.base), (MSR_GS_BASE, cpu.gs.base)])?;
        }
        if changes.contains(Changes::TSC_AUX) {
            self.set_msrs(&[(MSR_TSC_AUX, cpu.tsc_aux)])?;
        }
        if changes.intersects(Changes::CONTROL | Changes::PRIORITY | Changes::APIC) {
            let fail = HostError::kvm("follow the guest's control registers");
            let mut system = self.vcpu.get_sregs().map_err(&fail)?;
            system.cr0 = system.cr0 & !CR0_FOLLOWS | cpu.cr0 & CR0_FOLLOWS;
            system.cr4 = system.cr4 & !CR4_FOLLOWS | cpu.cr4 & CR4_FOLLOWS;
            system.cr8 = cpu.cr8;
            system.apic_base = cpu.apic_base;
            self.vcpu.set_sregs(&system).map_err(&fail)?;
        }
        if changes.contains(Changes::XCR0) {
            let fail = HostError::kvm("follow the guest's XCR0");
            let mut registers = self.vcpu.get_xcrs().map_err(&fail)?;
            for register in registers.xcrs.iter_mut().take(1) {
                register.value = cpu.xcr0;
            }
            self.vcpu.set_xcrs(&registers).map_err(&fail)?;
        }
        if changes.contains(Changes::DEBUG) {
            let fail = HostError::kvm("follow the guest's debug registers");
            let mut registers = self.vcpu.get_debug_regs().map_err(&fail)?;
            registers.db = cpu.breakpoints;
            registers.dr6 = cpu.dr6;
            registers.dr7 = cpu.dr7;
            self.vcpu.set_debug_regs(&registers).map_err(&fail)?;
        }
        Ok(())
    }

    /// The task priority, as CR8 shows it.
    pub(super) fn task_priority(&self) -> Result<u64, HostError> {
        self.vcpu
            .get_sregs()
            .map(|system| system.cr8)
            .map_err(HostError::kvm("read the task priority"))
    }

    /// The real DR6, after a debug exception.
    pub(super) fn debug_status(&self) -> Result<u64, HostError> {
        self.vcpu
            .get_debug_regs()
            .map(|registers| registers.dr6)
            .map_err(HostError::kvm("read the debug registers"))
    }

    fn set_msrs(&self, values: &[(u32, u64)]) -> Result<(), HostError> {
        let fail = HostError::kvm("follow the guest's model-specific registers");
        let entries: Vec<_> = values
            .iter()
            .map(|(index, data)| kvm_msr_entry {
                index: *index,
                data: *data,
                ..Default::default()
            })
            .collect();
        let msrs =
            Msrs::from_entries(&entries).map_err(|_| fail(kvm_ioctls::Error::new(libc::ENOMEM)))?;
        match self.vcpu.set_msrs(&msrs).map_err(&fail)? {
            set if set == entries.len() => Ok(()),
            _ => Err(fail(kvm_ioctls::Error::new(libc::EINVAL))),
        }
    }
}
