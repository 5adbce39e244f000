//! What the host says of itself in `/proc`, `/sys` and `/etc`. Decides nothing about KVM.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::cpuid;
use super::problem::{Kind, Problem};

/// Where to look: the root of the file tree, the KVM node, and what CPUID said.
#[derive(Debug, Clone)]
pub struct Host {
    /// Where `/proc`, `/sys`, `/etc` and `/lib` are found: `/`, or a made-up tree.
    pub root: PathBuf,
    /// The KVM node, as it is opened (not below `root`).
    pub node: PathBuf,
    /// The signature of the hypervisor that this host runs under: CPUID leaf 0x4000_0000.
    pub hypervisor: Option<String>,
}

/// A processor's virtualization extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Extension {
    /// Intel's, driven by kvm_intel.
    Vmx,
    /// AMD's, driven by kvm_amd.
    Svm,
}

/// What the host says of itself.
#[derive(Debug, Clone, Serialize)]
pub struct HostFacts {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's model name.
    pub cpu: String,
    /// The extension that the processor's flags show.
    pub extension: Option<Extension>,
    /// The vendor modules of KVM that are loaded or built in.
    pub modules: Vec<String>,
    /// Whether this host is itself a virtual machine; absent where it cannot be known.
    pub nested: Option<bool>,
    /// The signature of the hypervisor above, where it gives one.
    pub hypervisor: Option<String>,
    /// The kind of container this runs in.
    pub container: Option<String>,
    /// The setting of transparent huge pages: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
}

impl Extension {
    /// The module that drives it.
    pub fn module(self) -> &'static str {
        match self {
            Self::Vmx => "kvm_intel",
            Self::Svm => "kvm_amd",
        }
    }

    /// What firmware settings call it.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Vmx => "Intel VT-x",
            Self::Svm => "AMD-V (SVM)",
        }
    }
}

impl Host {
    /// The machine this runs on.
    pub fn here(node: &Path) -> Self {
        Self {
            root: PathBuf::from("/"),
            node: node.to_path_buf(),
            hypervisor: cpuid::hypervisor_signature(),
        }
    }

    /// Reads the facts; what cannot be read is absent, never an error.
    pub fn facts(&self) -> HostFacts {
        let cpuinfo = self.text("proc/cpuinfo").unwrap_or_default();
        let flags: Vec<&str> = cpu_field(&cpuinfo, "flags").split_whitespace().collect();
        HostFacts {
            kernel: or_unknown(self.text("proc/sys/kernel/osrelease").as_deref()),
            cpu: or_unknown(Some(cpu_field(&cpuinfo, "model name"))),
            extension: extension(&flags),
            modules: self.vendor_modules(),
            nested: (!flags.is_empty())
                .then(|| flags.contains(&"hypervisor") || self.hypervisor.is_some()),
            hypervisor: self.hypervisor.clone(),
            container: self.container(),
            huge_pages: self.huge_pages(),
        }
    }

    /// A file's text below the root, trimmed; `None` when it cannot be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.root.join(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_string())
    }

    /// Whether something lies at `path` below the root.
    pub(super) fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// Whether the running kernel ships `module`; `None` when its module list is not here.
    pub(super) fn ships(&self, kernel: &str, module: &str) -> Option<bool> {
        let lists = ["modules.dep", "modules.builtin"]
            .map(|list| self.text(&format!("lib/modules/{kernel}/{list}")));
        lists.iter().any(Option::is_some).then(|| {
            let file = format!("/{}.ko", module.replace('_', "-"));
            lists.iter().flatten().any(|list| list.contains(&file))
        })
    }

    fn vendor_modules(&self) -> Vec<String> {
        ["kvm_intel", "kvm_amd", "kvm_pvm"]
            .into_iter()
            .filter(|module| self.has(&format!("sys/module/{module}")))
            .map(String::from)
            .collect()
    }

    fn container(&self) -> Option<String> {
        if self.has("var/run/secrets/kubernetes.io") {
            return Some("kubernetes".into());
        }
        if self.has(".dockerenv") {
            return Some("docker".into());
        }
        if self.has("run/.containerenv") {
            return Some("podman".into());
        }
        let systemd = self.text("run/systemd/container");
        systemd.filter(|kind| !kind.is_empty()).or_else(|| {
            let cgroup = self.text("proc/1/cgroup")?;
            ["docker", "kubepods", "libpod", "containerd", "lxc"]
                .into_iter()
                .find(|kind| cgroup.contains(kind))
                .map(String::from)
        })
    }

    fn huge_pages(&self) -> Option<String> {
        let setting = self.text("sys/kernel/mm/transparent_hugepage/enabled")?;
        let (_, chosen) = setting.split_once('[')?;
        Some(chosen.split_once(']')?.0.to_string())
    }
}

/// What of the host slows guests down without keeping them from running.
pub(super) fn warnings(facts: &HostFacts) -> Vec<Problem> {
    let mut warnings = Vec::new();
    if facts.huge_pages.is_none() && facts.nested.is_some() {
        warnings.push(Problem::warning(
            Kind::HugePages,
            "this kernel has no transparent huge pages, or /sys is not mounted here, so each 4 KiB \
             of guest memory may fault on its own",
            "mount sysfs at /sys, or boot a kernel with CONFIG_TRANSPARENT_HUGEPAGE",
        ));
    }
    if facts.huge_pages.as_deref() == Some("never") {
        warnings.push(Problem::warning(
            Kind::HugePages,
            "transparent huge pages are off, so each 4 KiB of guest memory faults on its own",
            "run `echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled`",
        ));
    }
    warnings
}

fn extension(flags: &[&str]) -> Option<Extension> {
    if flags.contains(&"vmx") {
        Some(Extension::Vmx)
    } else if flags.contains(&"svm") {
        Some(Extension::Svm)
    } else {
        None
    }
}

/// The first processor's value of `field` in `/proc/cpuinfo`.
fn cpu_field<'a>(cpuinfo: &'a str, field: &str) -> &'a str {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == field)
        .map_or("", |(_, value)| value.trim())
}

fn or_unknown(text: Option<&str>) -> String {
    match text {
        Some(text) if !text.is_empty() => text.to_string(),
        _ => "unknown".to_string(),
    }
}
