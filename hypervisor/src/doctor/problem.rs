//! A problem is what is wrong and what mends it; it never comes without the mend.

use serde::Serialize;

/// How grave a problem is. Errors sort before warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No guest can run.
    Error,
    /// Guests run, slower or without a named feature.
    Warning,
}

/// What a problem is about, for programs: unlike the sentences, these names stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// There is no node, though KVM is there.
    NodeMissing,
    /// The node is something else than KVM's.
    NodeWrong,
    /// The kernel's part of KVM is not loaded or not built.
    ModuleMissing,
    /// The processor shows no extension, and this is no virtual machine.
    NoExtension,
    /// This is a virtual machine, and its hypervisor offers no extension.
    NoNesting,
    /// This user may not open the node.
    Permission,
    /// A container, service or security module keeps KVM away.
    Policy,
    /// Another hypervisor holds the processor's extension.
    Busy,
    /// Too many files are open.
    Files,
    /// Memory is short.
    Memory,
    /// KVM speaks another version of its interface.
    Version,
    /// KVM lacks something that Paravane uses.
    Capability,
    /// KVM refused, and does not say why.
    Refused,
    /// A guest was made and did not run.
    Broken,
    /// The probe of the hypercall gates failed.
    Gates,
    /// Guest memory gets no huge pages.
    HugePages,
}

/// Something wrong with the host, and its mend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it is about.
    pub kind: Kind,
    /// How grave it is.
    pub severity: Severity,
    /// What is wrong: a clause without a full stop.
    pub what: String,
    /// What to do about it: a clause that starts with the verb, without a full stop.
    pub mend: String,
}

impl Problem {
    /// A problem that keeps every guest from running.
    pub fn error(kind: Kind, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(kind, Severity::Error, what.into(), mend.into())
    }

    /// A problem that guests survive.
    pub fn warning(kind: Kind, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(kind, Severity::Warning, what.into(), mend.into())
    }

    /// Whether no guest can run.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The problem and its mend as one sentence, without a full stop so that it can be embedded.
    pub fn sentence(&self) -> String {
        format!("{}; to mend it, {}", self.what, self.mend)
    }

    fn new(kind: Kind, severity: Severity, what: String, mend: String) -> Self {
        Self {
            kind,
            severity,
            what,
            mend,
        }
    }
}
