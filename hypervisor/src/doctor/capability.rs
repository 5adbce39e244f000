//! The KVM capabilities that Paravane uses, what each is for, and what is lost without it.

use kvm_ioctls::{Cap, Kvm};
use serde::Serialize;

use super::problem::{Kind, Problem};

/// A capability as KVM answered for it.
#[derive(Debug, Clone, Serialize)]
pub struct Capability {
    /// Its name in `linux/kvm.h`.
    pub name: &'static str,
    /// What Paravane does with it.
    pub purpose: &'static str,
    /// Whether no guest runs without it.
    pub required: bool,
    /// The least Linux version that has it on x86.
    pub since: &'static str,
    /// KVM's answer: 0 for absent, else a number or bits.
    pub value: i32,
    /// Whether the answer is all that Paravane needs.
    pub present: bool,
}

/// What an answer must be.
#[derive(Clone, Copy)]
enum Wanted {
    Positive,
    Bits(i32),
}

type Row = (Cap, &'static str, bool, &'static str, Wanted, &'static str);

use Wanted::{Bits, Positive};

/// `KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS`.
const SYNC_ALL: Wanted = Bits(0b111);

#[rustfmt::skip]
const ROWS: [Row; 17] = [
    // capability            name                          needed  since     answer    purpose
    (Cap::UserMemory,       "KVM_CAP_USER_MEMORY",         true,  "2.6.25", Positive, "the guest's memory"),
    (Cap::ExtCpuid,         "KVM_CAP_EXT_CPUID",           true,  "2.6.25", Positive, "the guest's CPUID"),
    (Cap::MpState,          "KVM_CAP_MP_STATE",            true,  "2.6.26", Positive, "idle vCPUs and snapshots"),
    (Cap::IrqRouting,       "KVM_CAP_IRQ_ROUTING",         true,  "2.6.30", Positive, "routes from irqfd to vectors"),
    (Cap::Irqfd,            "KVM_CAP_IRQFD",               true,  "2.6.32", Positive, "device interrupts without an exit"),
    (Cap::Ioeventfd,        "KVM_CAP_IOEVENTFD",           true,  "2.6.32", Positive, "doorbells without an exit"),
    (Cap::VcpuEvents,       "KVM_CAP_VCPU_EVENTS",         true,  "2.6.33", Positive, "exceptions into the guest"),
    (Cap::Xsave,            "KVM_CAP_XSAVE",               true,  "2.6.36", Positive, "vector registers in snapshots"),
    (Cap::Xcrs,             "KVM_CAP_XCRS",                true,  "2.6.36", Positive, "vector instructions in guests"),
    (Cap::GetTscKhz,        "KVM_CAP_GET_TSC_KHZ",         true,  "3.0",    Positive, "the guest's clock scale"),
    (Cap::SignalMsi,        "KVM_CAP_SIGNAL_MSI",          true,  "3.5",    Positive, "interrupts from the VMM"),
    (Cap::SplitIrqchip,     "KVM_CAP_SPLIT_IRQCHIP",       true,  "4.4",    Positive, "local APICs in the kernel, devices in the VMM"),
    (Cap::ImmediateExit,    "KVM_CAP_IMMEDIATE_EXIT",      true,  "4.11",   Positive, "stopping a vCPU without a race"),
    (Cap::SyncRegs,         "KVM_CAP_SYNC_REGS",           true,  "4.17",   SYNC_ALL, "registers at exits without an ioctl"),
    (Cap::TscDeadlineTimer, "KVM_CAP_TSC_DEADLINE_TIMER",  false, "3.3",    Positive, "the TSC deadline timer"),
    (Cap::SetGuestDebug,    "KVM_CAP_SET_GUEST_DEBUG",     false, "2.6.30", Positive, "the debugger's stub"),
    (Cap::X86UserSpaceMsr,  "KVM_CAP_X86_USER_SPACE_MSR",  false, "5.10",   Positive, "reporting MSRs that a guest should not touch"),
];

/// The name of a capability in `linux/kvm.h`, and the least Linux version that has it on x86; of one that
/// Paravane does not use, words to that effect.
pub(super) fn name(capability: Cap) -> (&'static str, &'static str) {
    let row = ROWS.iter().find(|row| row.0 as u32 == capability as u32);
    row.map_or(("a capability that is not listed", "4.17"), |row| {
        (row.1, row.3)
    })
}

/// Asks KVM for each.
pub(super) fn survey(kvm: &Kvm) -> Vec<Capability> {
    ROWS.into_iter()
        .map(|row| answered(row, kvm.check_extension_int(row.0)))
        .collect()
}

/// The problem for each that is missing.
pub(super) fn judge<'a>(
    capabilities: &'a [Capability],
    kernel: &'a str,
) -> impl Iterator<Item = Problem> + 'a {
    capabilities
        .iter()
        .filter(|capability| !capability.present)
        .map(|capability| missing(capability, kernel))
}

fn answered((_, name, required, since, wanted, purpose): Row, value: i32) -> Capability {
    let present = match wanted {
        Positive => value > 0,
        Bits(mask) => value > 0 && value & mask == mask,
    };
    Capability {
        name,
        purpose,
        required,
        since,
        value,
        present,
    }
}

fn missing(capability: &Capability, kernel: &str) -> Problem {
    let Capability { name, since, .. } = capability;
    let what = format!("KVM lacks {name} ({})", capability.purpose);
    let mend = if version(kernel) >= version(since) {
        format!(
            "use KVM as upstream Linux {since} and later have it: this kernel, {kernel}, is new \
             enough but its KVM leaves it out"
        )
    } else {
        format!("boot Linux {since} or later: this is {kernel}")
    };
    if capability.required {
        Problem::error(Kind::Capability, what, mend)
    } else {
        Problem::warning(Kind::Capability, what, mend)
    }
}

/// The leading numbers of a release such as `6.18.44-fc`.
fn version(release: &str) -> Vec<u32> {
    release
        .split(['.', '-', '+', '_'])
        .map_while(|part| part.parse().ok())
        .take(3)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> Row {
        let found = ROWS.into_iter().find(|row| row.1 == name);
        found.expect("the table has that row")
    }

    #[test]
    fn a_missing_required_capability_names_the_least_kernel() {
        let missing = [answered(row("KVM_CAP_SYNC_REGS"), 0)];
        let problems: Vec<_> = judge(&missing, "4.9.0-13-amd64").collect();
        assert!(problems[0].is_error());
        assert!(problems[0].what.contains("KVM_CAP_SYNC_REGS"));
        assert!(problems[0].mend.contains("Linux 4.17 or later"));
        assert!(problems[0].mend.contains("4.9.0-13-amd64"));
    }

    #[test]
    fn a_new_kernel_is_not_told_to_be_newer() {
        let missing = [answered(row("KVM_CAP_IRQFD"), 0)];
        let problems: Vec<_> = judge(&missing, "6.18.44-fc").collect();
        assert!(problems[0].mend.contains("leaves it out"));
    }

    #[test]
    fn half_of_the_synchronized_registers_is_not_enough() {
        assert!(!answered(row("KVM_CAP_SYNC_REGS"), 0b011).present);
        assert!(answered(row("KVM_CAP_SYNC_REGS"), 0b1111).present);
        assert!(!answered(row("KVM_CAP_IRQFD"), -1).present);
    }

    #[test]
    fn what_every_machine_begins_with_is_listed() {
        for (capability, expected) in [
            (Cap::SyncRegs, ("KVM_CAP_SYNC_REGS", "4.17")),
            (Cap::SplitIrqchip, ("KVM_CAP_SPLIT_IRQCHIP", "4.4")),
            (Cap::SignalMsi, ("KVM_CAP_SIGNAL_MSI", "3.5")),
            (Cap::GetTscKhz, ("KVM_CAP_GET_TSC_KHZ", "3.0")),
        ] {
            assert_eq!(name(capability), expected);
        }
    }

    #[test]
    fn a_missing_optional_capability_is_a_warning() {
        let missing = [answered(row("KVM_CAP_X86_USER_SPACE_MSR"), 0)];
        assert!(judge(&missing, "5.4.0").all(|problem| !problem.is_error()));
        assert_eq!(judge(&missing, "5.4.0").count(), 1);
    }
}
