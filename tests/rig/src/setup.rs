//! What every run in the rig needs: the programs and the kernel of this machine, and an archive with
//! init, busybox, this program as the agent, and the modules. Called by `program` and `suite`.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::archive::{self, Archive};
use crate::error::RigError;
use crate::kernel::{self, Kernel};
use crate::machine::{Hardware, Machine};
use crate::modules::Modules;
use crate::packages::{self, Programs};
use crate::plan::{self, Plan};

/// This very program.
const OWN: &str = "/proc/self/exe";
/// What KVM on SVM takes.
const KVM: &str = "kvm_amd";
/// What a network of a test's own takes.
const TAP: &str = "tun";
/// What a scratch disk takes.
const DISK: [&str; 2] = ["virtio_pci", "virtio_blk"];

/// How the rig is made: options of each subcommand that boots it.
#[derive(Args, Clone, Debug)]
pub struct RigOptions {
    /// Processors of the rig
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub cpus: u8,
    /// Memory of the rig, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 3072, value_parser = clap::value_parser!(u32).range(256..=1_048_576))]
    pub memory: u32,
    /// Carry a file or folder, under its own path; may be given again
    #[arg(long, value_name = "PATH")]
    pub carry: Vec<PathBuf>,
    /// Load a kernel module and what it needs, such as tun or virtio_net; may be given again
    #[arg(long, value_name = "NAME")]
    pub module: Vec<String>,
    /// A scratch disk of so many MiB, empty, as /dev/vda
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub disk: Option<u32>,
    /// Set a variable for what runs; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// Boot this kernel instead of Debian's
    #[arg(long, value_name = "VMLINUZ", requires = "modules")]
    pub kernel: Option<PathBuf>,
    /// The folder with the modules and the modules.dep of --kernel
    #[arg(long, value_name = "DIR", requires = "kernel")]
    pub modules: Option<PathBuf>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("give NAME=VALUE".to_owned()),
    }
}

/// A rig that is about to be booted: callers add to its archive.
#[derive(Debug)]
pub struct Setup {
    /// What goes in.
    pub archive: Archive,
    /// A folder for what lives as long as the rig.
    pub folder: tempfile::TempDir,
    programs: Programs,
    kernel: Kernel,
    modules: Vec<String>,
    /// How many programs were stripped.
    stripped: usize,
    options: RigOptions,
}

impl Setup {
    /// Find, or fetch, what a rig takes, and pack what is in every rig.
    ///
    /// # Errors
    /// What is missing, with the mend.
    pub fn new(options: &RigOptions) -> Result<Self, RigError> {
        let programs = packages::ensure()?;
        let kernel = match (&options.kernel, &options.modules) {
            (Some(image), Some(modules)) => Kernel {
                image: image.clone(),
                modules: modules.clone(),
            },
            _ => kernel::find(&programs.busybox)?,
        };
        if let Err(error) = File::open(&kernel.image) {
            return Err(RigError::file("read", &kernel.image)(error));
        }
        let folder = tempfile::Builder::new()
            .prefix("paravane-rig-")
            .tempdir()
            .map_err(RigError::file("make a folder in", &std::env::temp_dir()))?;
        let mut setup = Self {
            archive: Archive::default(),
            folder,
            programs,
            kernel,
            modules: Vec::new(),
            stripped: 0,
            options: options.clone(),
        };
        setup.pack()?;
        Ok(setup)
    }

    fn pack(&mut self) -> Result<(), RigError> {
        for folder in ["/proc", "/sys", "/dev", "/tmp", "/root"] {
            self.archive.folder(Path::new(folder));
        }
        let init = include_bytes!("init.sh").to_vec();
        self.archive.bytes(Path::new("/init"), init, 0o755);
        let busybox = self.programs.busybox.clone();
        self.archive
            .program_at(Path::new("/bin/busybox"), &busybox)?;
        // By this name it is there even if cargo has just replaced the file.
        let own = self.folder.path().join("own");
        fs::copy(OWN, &own).map_err(RigError::file("copy", Path::new(OWN)))?;
        self.stripped_program(Path::new(plan::AGENT), &own)?;
        for path in &self.options.carry {
            self.archive.carry(path)?;
        }
        let all = Modules::read(&self.kernel.modules)?;
        let mut names = vec![KVM, TAP];
        if self.options.disk.is_some() {
            names.extend(DISK);
        }
        names.extend(self.options.module.iter().map(String::as_str));
        for file in all.resolve(&names)? {
            self.modules.push(self.archive.module(&file)?);
        }
        Ok(())
    }

    /// Add a program, without what only a debugger reads, and its libraries.
    ///
    /// # Errors
    /// It cannot be read, or lacks a library.
    pub fn stripped_program(&mut self, path: &Path, from: &Path) -> Result<(), RigError> {
        let copy = self
            .folder
            .path()
            .join(format!("program-{}", self.stripped));
        self.stripped += 1;
        let from = if archive::strip(from, &copy) {
            &copy
        } else {
            from
        };
        self.archive.program_at(path, from)
    }

    /// The variables that the user set.
    pub fn env(&self) -> Vec<(String, String)> {
        self.options.env.clone()
    }

    /// Write the initramfs and boot the rig with a plan.
    ///
    /// # Errors
    /// A file's, or QEMU's.
    pub fn boot(mut self, mut plan: Plan) -> Result<Machine, RigError> {
        plan.modules = self.modules;
        let text = serde_json::to_vec(&plan)
            .map_err(|error| RigError::Agent(format!("no plan can be written: {error}")))?;
        self.archive.bytes(Path::new(plan::PLAN), text, 0o644);
        let initramfs = self.folder.path().join("initramfs");
        let failed = RigError::file("write", &initramfs);
        let file = File::create(&initramfs).map_err(failed)?;
        self.archive.write(BufWriter::new(file))?;
        let disk = self.options.disk.map(|mib| u64::from(mib) << 20);
        let hardware = Hardware {
            qemu: self.programs.qemu,
            kernel: self.kernel.image,
            initramfs,
            cpus: self.options.cpus,
            memory_mib: self.options.memory,
            disk_bytes: disk,
        };
        Machine::start(&hardware, self.folder)
    }
}
