//! The registers that a virtual processor starts with, by mode.

use hypercall_abi::{Mode, layout};
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_dtable, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs,
};
use kvm_ioctls::{Kvm, VcpuFd};

use crate::error::HostError;
use crate::monitor::gates::KvmKind;
use crate::monitor::tables;

/// CR0: paging, write protection, numeric errors, protection (SDM vol. 3, 2.5).
const CR0: u64 = 0x8005_0033;
/// CR4: PAE, OSFXSR, OSXMMEXCPT. PGE stays off: a kernel page of the pv guest is user-accessible,
/// and a global entry would survive the switch to a user root.
const CR4: u64 = 0x620;
/// EFER: NXE, LMA, LME, SCE.
const EFER: u64 = 0xd01;
const EFER_SCE: u64 = 1;

const MSR_TSC: u32 = 0x10;
const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_CSTAR: u32 = 0xc000_0083;
const MSR_SYSCALL_MASK: u32 = 0xc000_0084;
/// SYSCALL loads CS 0x10, SS 0x18; SYSRET to 64-bit code loads CS 0x33, SS 0x2b.
const STAR: u64 = 0x0023_0010_0000_0000;
/// Where SYSCALL reaches CPL 0, IF and TF must be clear there: RSP is still the caller's.
const MASK_HARDWARE: u64 = 0x47700;
/// Where SYSCALL stays at CPL 3, IF must survive: CPL 3 cannot set it again.
const MASK_SOFTWARE: u64 = 0x47500;

const X2APIC: u64 = 1 << 10;

fn code(selector: u16, dpl: u8) -> kvm_segment {
    kvm_segment {
        limit: u32::MAX,
        selector,
        type_: 11,
        present: 1,
        dpl,
        s: 1,
        l: 1,
        g: 1,
        ..Default::default()
    }
}

fn data(selector: u16, dpl: u8) -> kvm_segment {
    kvm_segment {
        limit: u32::MAX,
        selector,
        type_: 3,
        present: 1,
        dpl,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    }
}

/// Segments, control registers and tables for a mode; `kind` is `None` while it does not matter, or
/// is not known.
pub fn system_registers(
    mut now: kvm_sregs,
    mode: Mode,
    kind: Option<KvmKind>,
    root: u64,
) -> kvm_sregs {
    let area = layout::vcpu_area(0);
    let deprivileged = mode == Mode::Pv;
    let (cs, ss) = if deprivileged {
        (code(layout::USER_CS, 3), data(layout::USER_SS, 3))
    } else {
        (code(tables::MONITOR_CS, 0), data(tables::MONITOR_SS, 0))
    };
    now.cs = cs;
    for segment in [
        &mut now.ds,
        &mut now.es,
        &mut now.fs,
        &mut now.gs,
        &mut now.ss,
    ] {
        *segment = ss;
    }
    // A reset processor has a local descriptor table of 64 KiB at address 0: in a user root that
    // would be the user's own memory, and a call gate in it a way to CPL 0.
    now.ldt = kvm_segment {
        type_: 2,
        unusable: 1,
        ..Default::default()
    };
    now.tr = kvm_segment {
        type_: 11,
        present: 1,
        limit: tables::TSS_LIMIT,
        ..Default::default()
    };
    if deprivileged {
        let at = area + layout::AREA_TABLES;
        now.tr.selector = tables::TSS_SELECTOR;
        now.tr.base = at + tables::TSS;
        now.gdt = kvm_dtable {
            base: at + tables::GDT,
            limit: tables::GDT_LIMIT,
            ..Default::default()
        };
        now.idt = kvm_dtable {
            base: at,
            limit: tables::IDT_LIMIT,
            ..Default::default()
        };
        if kind == Some(KvmKind::Hardware) {
            now.apic_base |= X2APIC;
        }
    } else {
        now.gdt = kvm_dtable::default();
        now.idt = kvm_dtable::default();
    }
    now.cr0 = CR0;
    now.cr3 = root;
    now.cr4 = CR4;
    now.efer = EFER;
    if kind == Some(KvmKind::Software) {
        // kvm_pvm leads SYSCALL of 64-bit code to LSTAR, at CPL 3, whether this is set or not. Where
        // it is set, it emulates SYSCALL of 32-bit code: at CPL 0, and with the target cut to 32
        // bits, which is an address that a user may have mapped.
        now.efer &= !EFER_SCE;
    }
    now
}

/// General registers at the guest's entry.
pub fn entry_registers(entry: u64) -> kvm_regs {
    kvm_regs {
        rip: entry,
        rflags: 0x2,
        rdi: layout::DIRECT_MAP + layout::BOOT_INFO,
        ..Default::default()
    }
}

/// At CPL 3 the processor's interrupt flag starts set; the shared page's flag holds interrupts.
pub fn deprivileged(mut registers: kvm_regs) -> kvm_regs {
    registers.rflags |= 0x200;
    registers
}

/// Set the MSRs that SYSCALL uses. `target_32` is its target from 32-bit code, where AMD's processors
/// go on at CPL 0 (APM vol. 2, 6.1.1): at 0, where it starts, a user may have mapped its own code.
///
/// # Errors
/// [`HostError::Kvm`].
pub fn set_syscall(
    vcpu: &VcpuFd,
    kind: KvmKind,
    target: u64,
    target_32: u64,
) -> Result<(), HostError> {
    let mask = if kind == KvmKind::Hardware {
        MASK_HARDWARE
    } else {
        MASK_SOFTWARE
    };
    let entries = [
        (MSR_STAR, STAR),
        (MSR_LSTAR, target),
        (MSR_CSTAR, target_32),
        (MSR_SYSCALL_MASK, mask),
    ]
    .map(|(index, data)| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    });
    let fail = HostError::kvm("set the SYSCALL registers");
    let msrs =
        Msrs::from_entries(&entries).map_err(|_| fail(kvm_ioctls::Error::new(libc::ENOMEM)))?;
    match vcpu.set_msrs(&msrs).map_err(&fail)? {
        set if set == entries.len() => Ok(()),
        _ => Err(fail(kvm_ioctls::Error::new(libc::EINVAL))),
    }
}

/// The guest's time-stamp counter now.
///
/// # Errors
/// [`HostError::Kvm`].
pub fn time_stamp(vcpu: &VcpuFd) -> Result<u64, HostError> {
    let fail = HostError::kvm("read the time-stamp counter");
    let entry = kvm_msr_entry {
        index: MSR_TSC,
        ..Default::default()
    };
    let mut msrs =
        Msrs::from_entries(&[entry]).map_err(|_| fail(kvm_ioctls::Error::new(libc::ENOMEM)))?;
    vcpu.get_msrs(&mut msrs).map_err(&fail)?;
    Ok(msrs.as_slice().first().map_or(0, |entry| entry.data))
}

/// What the guest's CPUID shall say: all that KVM supports, x2APIC included.
///
/// # Errors
/// [`HostError::Kvm`].
pub fn cpuid(kvm: &Kvm) -> Result<CpuId, HostError> {
    let mut cpuid = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(HostError::kvm("list the processor's features"))?;
    for entry in cpuid.as_mut_slice() {
        if entry.function == 1 {
            entry.ecx |= 1 << 21; // x2APIC
            entry.ebx &= 0x00ff_ffff; // local APIC 0
        }
    }
    Ok(cpuid)
}

/// Registers of the local APIC in a pv guest, which never programs them itself: enabled, with the
/// timer in one-shot mode and the local pins masked (SDM vol. 3, table 11-1).
pub fn apic_registers(set: &mut kvm_bindings::kvm_lapic_state) {
    const MASKED: u32 = 1 << 16;
    for (register, value) in [
        (0xf0, 0x100 | u32::from(layout::SPURIOUS_VECTOR)),
        (0x320, u32::from(layout::TIMER_VECTOR)),
        (0x350, MASKED),
        (0x360, MASKED),
        (0x370, MASKED),
        (0x3e0, 0b1011), // divide by 1
    ] {
        for (byte, from) in set.regs.iter_mut().skip(register).zip(value.to_le_bytes()) {
            *byte = from as libc::c_char;
        }
    }
}
