//! What a virtual machine is made of, as its user says it.

use std::borrow::Cow;
use std::path::PathBuf;

use hypercall_abi::Mode;

use crate::patch::Policy;

/// The size of a guest's memory where none is asked for, in bytes.
pub const DEFAULT_MEMORY: u64 = 64 << 20;

/// A virtual machine to build.
#[derive(Clone, Debug)]
pub struct Config {
    /// The way to run the guest.
    pub mode: Mode,
    /// The guest image, an ELF file.
    pub image: Cow<'static, [u8]>,
    /// The image's name in messages.
    pub image_name: String,
    /// Guest memory, in bytes.
    pub memory_bytes: u64,
    /// The guest's command line.
    pub command_line: String,
    /// The initial ramdisk.
    pub initrd: Option<Cow<'static, [u8]>>,
    /// Whether a person sits at the console.
    pub interactive: bool,
    /// Whether exits and calls are timed, not only counted.
    pub timing: bool,
    /// In mode `patch`: when sites are patched.
    pub patch: Policy,
    /// The device node that gives access to KVM.
    pub kvm_node: PathBuf,
}

impl Config {
    /// A virtual machine with this image, and defaults for the rest.
    pub fn new(
        mode: Mode,
        image: impl Into<Cow<'static, [u8]>>,
        image_name: impl Into<String>,
    ) -> Self {
        Self {
            mode,
            image: image.into(),
            image_name: image_name.into(),
            memory_bytes: DEFAULT_MEMORY,
            command_line: String::new(),
            initrd: None,
            interactive: false,
            timing: false,
            patch: Policy::default(),
            kvm_node: crate::vm::NODE.into(),
        }
    }
}
