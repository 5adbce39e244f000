//! Says what this host's KVM can do, and how to mend what it cannot.
//!
//! It never guesses: it opens the node, makes a VM with one vCPU and counts what an exit costs.
//! `Vm::new` asks it for the sentence to show when the same steps fail there.
//!
//! Unsafe rooms: `cpuid` (the instruction) and `exit` (lending memory to the little guest).

mod capability;
#[allow(unsafe_code)]
mod cpuid;
#[allow(unsafe_code)]
mod exit;
mod host;
mod kvm;
mod nested;
mod node;
mod problem;
mod render;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

use serde::Serialize;

pub use capability::Capability;
pub use exit::BareExit;
pub use host::{Extension, Host, HostFacts};
pub use kvm::{KvmFacts, Platform};
pub use problem::{Kind, Problem, Severity};
pub use render::render;

/// The version of [`Document`]; it rises when a field changes its meaning or goes. `docs/doctor.md`
/// has every field.
pub const SCHEMA: u32 = 1;

/// All that the examination found.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// Which version of this structure it is: [`SCHEMA`].
    pub schema: u32,
    /// The KVM node that was examined.
    pub node: String,
    /// Which build measured, as a debug build's figures do not compare with a release's.
    pub build: &'static str,
    /// What the host says of itself, KVM or not.
    pub host: HostFacts,
    /// What KVM says; absent when its node could not be opened or is not KVM's.
    pub kvm: Option<KvmFacts>,
    /// The gates chosen for this host and their cost; whoever probes the gates fills it in.
    pub gates: Option<Vec<GateReport>>,
    /// What is wrong, errors first.
    pub problems: Vec<Problem>,
}

/// The diagnosis for programs: the verdict first.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// Whether a guest can run here.
    pub usable: bool,
    /// What that comes from.
    #[serde(flatten)]
    pub diagnosis: &'a Diagnosis,
}

/// One gate of the hypercall page, as chosen on this host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateReport {
    /// The tier it serves: 0 shared, 1 monitor, 2 machine, 3 batch.
    pub tier: u8,
    /// The instructions behind it, in words.
    pub mechanism: String,
    /// What passing it bare costs, without the monitor's checks, in nanoseconds, where it was
    /// measured.
    pub cost_ns: Option<f64>,
    /// The slot of the hypercall page that holds it.
    pub slot: String,
}

impl Diagnosis {
    /// Whether a guest can run here: no problem is an error.
    pub fn usable(&self) -> bool {
        !self.problems.iter().any(Problem::is_error)
    }

    /// It and its verdict, to be serialized.
    pub fn document(&self) -> Document<'_> {
        Document {
            usable: self.usable(),
            diagnosis: self,
        }
    }

    /// The gravest problem and its mend, in one sentence; `None` on a usable host.
    pub fn first_error(&self) -> Option<String> {
        self.problems
            .iter()
            .find(|problem| problem.is_error())
            .map(Problem::sentence)
    }
}

/// Examines this host's KVM at `node` (usually `/dev/kvm`): takes a few milliseconds.
pub fn examine(node: &Path) -> Diagnosis {
    examine_host(&Host::here(node))
}

/// Examines `host`, which may be a made-up tree of files.
pub fn examine_host(host: &Host) -> Diagnosis {
    let facts = host.facts();
    let mut problems = host::warnings(&facts);
    let kvm = match kvm::open(&host.node) {
        Ok(kvm) => kvm::examine(&kvm, host, &facts, &mut problems),
        Err(error) => {
            problems.push(node::open_problem(host, &facts, &error));
            None
        }
    };
    problems.sort_by_key(|problem| problem.severity);
    Diagnosis {
        schema: SCHEMA,
        node: host.node.display().to_string(),
        build: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        host: facts,
        kvm,
        gates: None,
        problems,
    }
}

/// Why `node` did not open with `error`, and the mend, in one sentence.
pub fn explain_open_error(node: &Path, error: &io::Error) -> String {
    let host = Host::here(node);
    node::open_problem(&host, &host.facts(), error).sentence()
}

/// That `node` opened and is not KVM's, and the mend, in one sentence.
pub fn explain_not_kvm(node: &Path) -> String {
    node::not_kvm(&Host::here(node)).sentence()
}

/// What drives this host's KVM, as its modules and the processor's flags tell, without opening it.
pub fn platform() -> Platform {
    kvm::platform(&Host::here(Path::new(crate::vm::NODE)).facts())
}

/// A capability's name in `linux/kvm.h`, and the least Linux version that has it on x86.
pub(crate) fn capability_name(capability: kvm_ioctls::Cap) -> (&'static str, &'static str) {
    capability::name(capability)
}

/// Why KVM did not create a VM or a vCPU (`thing`) with `error`, and the mend, in one sentence.
pub fn explain_create_error(thing: &str, error: &io::Error) -> String {
    kvm::create_problem(thing, error).sentence()
}
