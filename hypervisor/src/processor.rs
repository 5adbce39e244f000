//! The registers that a virtual processor starts with, by mode.

use hypercall_abi::{Mode, layout};
use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_cpuid_entry2,
    kvm_dtable, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs,
};
use kvm_ioctls::{Kvm, VcpuFd};

use crate::error::HostError;
use crate::machine::cpu::Limits;
use crate::monitor::gates::KvmKind;
use crate::monitor::{native, tables};

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

/// What SYSCALL clears in a deprivileged native guest: the VMM sets the flags of the way back, so what
/// hardware needs is right on every KVM.
pub const SYSCALL_MASK: u64 = MASK_HARDWARE;

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
    let deprivileged = mode != Mode::Hvm;
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
        let (idt, idt_limit, descriptors) = match mode {
            Mode::Pv => {
                let at = layout::vcpu_area(0) + layout::AREA_TABLES;
                (at, tables::IDT_LIMIT, at)
            }
            _ => native::descriptors(),
        };
        now.tr.selector = tables::TSS_SELECTOR;
        now.tr.base = descriptors + tables::TSS;
        now.gdt = kvm_dtable {
            base: descriptors + tables::GDT,
            limit: tables::GDT_LIMIT,
            ..Default::default()
        };
        now.idt = kvm_dtable {
            base: idt,
            limit: idt_limit,
            ..Default::default()
        };
        if kind == Some(KvmKind::Hardware) && mode == Mode::Pv {
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

/// The flags that SYSCALL clears in a pv guest, by the kind of KVM.
pub fn syscall_mask(kind: KvmKind) -> u64 {
    match kind {
        KvmKind::Hardware => MASK_HARDWARE,
        KvmKind::Software => MASK_SOFTWARE,
    }
}

/// Set the MSRs that SYSCALL uses. The second target is that from 32-bit code, where AMD's processors
/// go on at CPL 0 (APM vol. 2, 6.1.1): at 0, where it starts, a user may have mapped its own code.
///
/// # Errors
/// [`HostError::Kvm`].
pub fn set_syscall(vcpu: &VcpuFd, mask: u64, targets: (u64, u64)) -> Result<(), HostError> {
    let (target, target_32) = targets;
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

/// What the guest's CPUID shall say: all that KVM supports, x2APIC included. A deprivileged native
/// guest does not see what its virtual processor does not have.
///
/// # Errors
/// [`HostError::Kvm`].
pub fn cpuid(kvm: &Kvm, mode: Mode) -> Result<CpuId, HostError> {
    let mut cpuid = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(HostError::kvm("list the processor's features"))?;
    for entry in cpuid.as_mut_slice() {
        if entry.function == 1 {
            entry.ecx |= X2APIC_FEATURE;
            entry.ebx &= 0x00ff_ffff; // local APIC 0
        }
        if matches!(mode, Mode::Trap | Mode::Patch) {
            hide(entry);
        }
    }
    Ok(cpuid)
}

/// What a deprivileged guest's virtual processor can do, by what its CPUID says.
pub fn limits(cpuid: &CpuId) -> Limits {
    Limits::new(&|leaf, subleaf| cpuid_of(cpuid, leaf, subleaf))
}

/// What CPUID says of a leaf and a subleaf: EAX, EBX, ECX, EDX.
pub fn cpuid_of(cpuid: &CpuId, leaf: u32, subleaf: u32) -> [u32; 4] {
    let mut entries = cpuid.as_slice().iter();
    let found = entries.find(|entry| {
        let is_indexed = entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0;
        entry.function == leaf && (!is_indexed || entry.index == subleaf)
    });
    found.map_or([0; 4], |entry| [entry.eax, entry.ebx, entry.ecx, entry.edx])
}

/// CPUID.1:ECX: x2APIC.
const X2APIC_FEATURE: u32 = 1 << 21;

/// Take from an entry what the machine does not emulate for a deprivileged guest (SDM vol. 2, CPUID).
fn hide(entry: &mut kvm_cpuid_entry2) {
    match (entry.function, entry.index) {
        // MONITOR, VMX, SMX, PCID, x2APIC; global pages.
        (1, _) => {
            entry.ecx &= !(1 << 3 | 1 << 5 | 1 << 6 | 1 << 17 | X2APIC_FEATURE);
            entry.edx &= !(1 << 13);
        }
        // FSGSBASE, SMEP, INVPCID, SMAP; UMIP, PKU, OSPKE, CET shadow stacks, LA57, PKS; CET branch tracking.
        (7, 0) => {
            entry.ebx &= !(1 << 0 | 1 << 7 | 1 << 10 | 1 << 20);
            entry.ecx &= !(1 << 2 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 16 | 1 << 31);
            entry.edx &= !(1 << 20);
        }
        // KVM's own interface: its MSRs are not forwarded.
        (0x4000_0001, _) => (entry.eax, entry.edx) = (0, 0),
        // SVM.
        (0x8000_0001, _) => entry.ecx &= !(1 << 2),
        _ => {}
    }
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
