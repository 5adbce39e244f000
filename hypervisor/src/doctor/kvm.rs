//! Asks KVM itself: version, limits, capabilities, and one VM that runs to its first exits.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use kvm_ioctls::Kvm;
use serde::Serialize;

use super::capability::{self, Capability};
use super::exit::{self, BareExit, ExitError};
use super::host::{Extension, Host, HostFacts};
use super::node;
use super::problem::{Kind, Problem};

/// The only version there has been since Linux 2.6.22.
const API_VERSION: i32 = 12;

/// What drives KVM on this host; it decides which gates are cheap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// Intel's extension.
    Vmx,
    /// AMD's extension.
    Svm,
    /// Software KVM, without either.
    KvmPvm,
    /// KVM answers, but nothing tells what drives it.
    Unknown,
}

impl Platform {
    /// The platform in a word, for programs: as it is serialized.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Vmx => "vmx",
            Self::Svm => "svm",
            Self::KvmPvm => "kvm_pvm",
            Self::Unknown => "unknown",
        }
    }

    /// The platform in words, for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vmx => "VMX (kvm_intel)",
            Self::Svm => "SVM (kvm_amd)",
            Self::KvmPvm => "kvm_pvm (software KVM, neither VMX nor SVM)",
            Self::Unknown => "unknown: no module of KVM's and no processor flag shows",
        }
    }
}

/// What KVM says.
#[derive(Debug, Clone, Serialize)]
pub struct KvmFacts {
    /// `KVM_GET_API_VERSION`.
    pub api_version: i32,
    /// What drives it, told by its module and the processor's flags.
    pub platform: Platform,
    /// The guest's TSC frequency, in kHz.
    pub tsc_khz: Option<u32>,
    /// How many vCPUs a VM may have.
    pub max_vcpus: usize,
    /// How many memory slots a VM may have.
    pub memory_slots: usize,
    /// Each capability that Paravane uses.
    pub capabilities: Vec<Capability>,
    /// What one exit to the VMM and back costs; absent when no guest ran.
    pub bare_exit: Option<BareExit>,
}

/// Opens the node.
pub(super) fn open(node: &Path) -> io::Result<Kvm> {
    let path = CString::new(node.as_os_str().as_bytes())?;
    Ok(Kvm::new_with_path(path)?)
}

/// Asks an open KVM everything; `None` when it is not KVM that answers.
pub(super) fn examine(
    kvm: &Kvm,
    host: &Host,
    facts: &HostFacts,
    problems: &mut Vec<Problem>,
) -> Option<KvmFacts> {
    let api_version = kvm.get_api_version();
    if api_version < 0 {
        problems.push(node::not_kvm(host));
        return None;
    }
    let mut found = KvmFacts {
        api_version,
        platform: platform(facts),
        tsc_khz: None,
        max_vcpus: kvm.get_max_vcpus(),
        memory_slots: kvm.get_nr_memslots(),
        capabilities: capability::survey(kvm),
        bare_exit: None,
    };
    if let Some(problem) = version_problem(api_version) {
        problems.push(problem);
        return Some(found);
    }
    problems.extend(capability::judge(&found.capabilities, &facts.kernel));
    match exit::measure(kvm) {
        Ok((bare_exit, tsc_khz)) => {
            found.bare_exit = Some(bare_exit);
            found.tsc_khz = tsc_khz;
        }
        Err(error) => problems.push(run_problem(&error, facts)),
    }
    Some(found)
}

/// The cause of a VM or vCPU (`thing`) that could not be created.
pub(super) fn create_problem(thing: &str, error: &io::Error) -> Problem {
    let what = format!("KVM cannot create a {thing}: {error}");
    let (kind, mend) = match error.raw_os_error() {
        Some(libc::ENOMEM) => (
            Kind::Memory,
            "free memory on the host, or raise the memory limit of this container or service",
        ),
        Some(libc::EBUSY | libc::EIO) => (
            Kind::Busy,
            "stop the other hypervisor that holds the processor's extension: close VirtualBox or \
             VMware, or run `sudo modprobe -r vboxdrv`",
        ),
        Some(libc::EMFILE | libc::ENFILE) => (
            Kind::Files,
            "raise the limit of open files with `ulimit -n 4096`, or run fewer VMs",
        ),
        Some(libc::EPERM | libc::EACCES) => (
            Kind::Policy,
            "allow KVM's ioctls in the seccomp filter or security module that confines this process",
        ),
        _ => (
            Kind::Refused,
            "read the kernel's word on it with `sudo dmesg | grep -i kvm`",
        ),
    };
    Problem::error(kind, what, mend)
}

pub(super) fn version_problem(api_version: i32) -> Option<Problem> {
    (api_version != API_VERSION).then(|| {
        Problem::error(
            Kind::Version,
            format!("KVM speaks API version {api_version}, not {API_VERSION}"),
            "boot an upstream Linux kernel, 4.17 or later",
        )
    })
}

pub(super) fn run_problem(error: &ExitError, facts: &HostFacts) -> Problem {
    match error {
        ExitError::Create { thing, source } => create_problem(thing, source),
        ExitError::Memory(reason) => Problem::error(
            Kind::Memory,
            format!("no memory for a guest: {reason}"),
            "free memory on the host, or raise the memory limit of this container or service",
        ),
        ExitError::Setup { step, source } => Problem::error(
            Kind::Refused,
            format!("KVM refused to {step}: {source}"),
            "read the kernel's word on it with `sudo dmesg | grep -i kvm`",
        ),
        ExitError::Ran(outcome) => broken(
            format!("KVM made a VM, but a guest of one instruction ended in {outcome}"),
            facts,
        ),
        ExitError::Hung(limit) => broken(
            format!("KVM made a VM, but its guest did not leave within {limit:?}"),
            facts,
        ),
    }
}

fn broken(what: String, facts: &HostFacts) -> Problem {
    let mend = match facts.nested {
        Some(true) => {
            "report it to whoever runs the hypervisor above this VM: its nested virtualization does \
             not work"
        }
        _ => "read the kernel's word on it with `sudo dmesg | grep -i kvm` and update it",
    };
    Problem::error(Kind::Broken, what, mend)
}

/// The loaded module tells; where none shows, the flags of the processor do.
pub(super) fn platform(facts: &HostFacts) -> Platform {
    let loaded = |module: &str| facts.modules.iter().any(|name| name == module);
    if loaded("kvm_pvm") {
        Platform::KvmPvm
    } else if loaded("kvm_intel") {
        Platform::Vmx
    } else if loaded("kvm_amd") {
        Platform::Svm
    } else {
        match facts.extension {
            Some(Extension::Vmx) => Platform::Vmx,
            Some(Extension::Svm) => Platform::Svm,
            None => Platform::Unknown,
        }
    }
}
