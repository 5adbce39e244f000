//! Does an instruction of a kernel at CPL 3 need the hypervisor, and does it say so by itself?

use iced_x86::{Instruction, Mnemonic};

use crate::audit::{self, class_of};

/// What an instruction of the kernel's does at CPL 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The same as at CPL 0, or the fault that the guest is to get.
    Innocuous,
    /// It faults with #GP, or #UD for those that do not exist above CPL 0 (CLAC, MONITOR) or while
    /// a bit of the real CR4 is clear. The fault is to be emulated.
    Privileged,
    /// It need not fault and means something else: it must be made to trap.
    Silent,
}

/// The class of an instruction.
///
/// The table is the audit's (`audit::SENSITIVE` has each group's reason). What is sensitive for a
/// pv image is innocuous here where the real processor already shows the guest's own value:
/// - `rdtsc`, `rdtscp`: the real clock is the guest's, and the real TSC_AUX follows the guest's;
/// - `xgetbv`: the real XCR0 follows the guest's;
/// - `rdpkru`, `wrpkru`: CPUID hides protection keys, and with CR4.PKE clear both are #UD.
///
/// `rdfsbase` and its like are silent: where the real CR4.FSGSBASE is clear they raise #UD and can
/// be emulated from there, where it is set they change a base that the virtual processor then does
/// not know.
pub fn classify(instruction: &Instruction) -> Class {
    match class_of(instruction.code()) {
        Some(audit::Class::Privileged) => Class::Privileged,
        Some(audit::Class::Sensitive) if !shows_the_guests_own(instruction.mnemonic()) => {
            Class::Silent
        }
        _ => Class::Innocuous,
    }
}

fn shows_the_guests_own(mnemonic: Mnemonic) -> bool {
    use Mnemonic::{Rdpkru, Rdtsc, Rdtscp, Wrpkru, Xgetbv};
    matches!(mnemonic, Rdtsc | Rdtscp | Xgetbv | Rdpkru | Wrpkru)
}
