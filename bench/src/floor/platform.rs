//! Which kind of KVM this is: it decides which gate leads from CPL 3 to CPL 0.

use std::time::Duration;

use kvm_bindings::kvm_regs;
use serde::{Deserialize, Serialize};

use super::error::FloorError;
use super::tables::Ring;
use super::vm::{Duty, Start, Vm};
use super::watchdog::Watchdog;
use super::{code, layout};

/// A kind of KVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// VMX or SVM, or an emulation of them: SYSCALL at CPL 3 arrives at CPL 0.
    Hardware,
    /// A software KVM that runs CPL 3 natively and interprets CPL 0: SYSCALL stays at CPL 3.
    KvmPvm,
}

impl Platform {
    /// Executes one SYSCALL at CPL 3 and looks where it arrived.
    pub fn detect() -> Result<Self, FloorError> {
        let mut vm = Vm::new(layout::MEMORY_LEN)?;
        vm.prepare(&Start {
            ring: Ring::User,
            gates: &[],
            // The target is user code: it must run at either level.
            syscall: Some((code::probe_target(), Self::KvmPvm.syscall_mask())),
            timer: None,
            regs: kvm_regs {
                rip: code::probe(),
                rsp: layout::USER_STACK_TOP,
                rflags: 2,
                rbp: layout::DOORBELL,
                ..Default::default()
            },
        })?;
        vm.run(Duty::Answer, &Watchdog::start(Duration::from_secs(10))?)?;
        Ok(match vm.system_registers()?.cs.dpl {
            0 => Self::Hardware,
            _ => Self::KvmPvm,
        })
    }

    /// The flags that SYSCALL clears.
    pub(super) fn syscall_mask(self) -> u64 {
        match self {
            // RSP is still the caller's at CPL 0: no interrupt, no trap before the stub is done.
            Self::Hardware => 0x4_7700,
            // At CPL 3 nobody could set IF again.
            Self::KvmPvm => 0x4_7500,
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hardware => "hardware",
            Self::KvmPvm => "kvm_pvm",
        })
    }
}
