//! What a virtual machine is made of, as its user says it.

use std::borrow::Cow;
use std::path::PathBuf;

use hypercall_abi::Mode;

use crate::deprivileged::Learned;
use crate::io::{Device, Wiring};
use crate::loader::Image;
use crate::monitor::gates::KvmKind;
use crate::patch::Policy;

/// The size of a guest's memory where none is asked for, in bytes.
pub const DEFAULT_MEMORY: u64 = 64 << 20;

/// Whether the monitor handles CLI and STI of a kernel in mode `trap` by itself, without an exit. On
/// kvm_pvm that is CLI alone: its interpreter does not show in time what STI would let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FastTraps {
    /// On VMX and SVM, where an exit is taken to cost more than a dozen instructions, which is not
    /// measured yet. Not on kvm_pvm, which interprets the monitor: measured, it is slower there.
    #[default]
    Auto,
    /// Yes.
    On,
    /// No.
    Off,
}

impl FastTraps {
    /// Whether it does, on a kind of KVM.
    pub(crate) fn is_on(self, kind: KvmKind) -> bool {
        match self {
            Self::Auto => kind == KvmKind::Hardware,
            Self::On => true,
            Self::Off => false,
        }
    }
}

/// What a guest's devices are, beside the mode in which it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoKind {
    /// Made for guests: virtio, doorbells and interrupts without an exit.
    #[default]
    Pv,
    /// Those of a PC: an exit for each register access. Devices that no PC has stay virtio.
    Trapped,
}

/// A virtual machine to build.
#[derive(Clone, Debug)]
pub struct Config {
    /// The way to run the guest.
    pub mode: Mode,
    /// The guest image, an ELF file.
    pub image: Image,
    /// The image's name in messages.
    pub image_name: String,
    /// Guest memory, in bytes.
    pub memory_bytes: u64,
    /// The guest's command line.
    pub command_line: String,
    /// The initial ramdisk.
    pub initrd: Option<Cow<'static, [u8]>>,
    /// Devices to attach, in the order in which the guest finds them.
    pub devices: Vec<Device>,
    /// What those are to the guest.
    pub io: IoKind,
    /// How virtio devices are connected.
    pub wiring: Wiring,
    /// Whether a person sits at the console.
    pub interactive: bool,
    /// Whether exits and calls are timed, not only counted.
    pub timing: bool,
    /// In mode `patch`: when sites are patched.
    pub patch: Policy,
    /// In modes `trap` and `patch`: where to keep what is learned of the image's code, and what was learned by
    /// machines before. `None`: each machine begins anew.
    pub learned: Option<Learned>,
    /// In mode `trap`: whether the monitor handles the hottest traps by itself.
    pub fast_traps: FastTraps,
    /// The device node that gives access to KVM.
    pub kvm_node: PathBuf,
}

impl Config {
    /// A virtual machine with this image, and defaults for the rest.
    pub fn new(mode: Mode, image: impl Into<Image>, image_name: impl Into<String>) -> Self {
        Self {
            mode,
            image: image.into(),
            image_name: image_name.into(),
            memory_bytes: DEFAULT_MEMORY,
            command_line: String::new(),
            initrd: None,
            devices: Vec::new(),
            io: IoKind::default(),
            wiring: Wiring::default(),
            interactive: false,
            timing: false,
            patch: Policy::default(),
            learned: None,
            fast_traps: FastTraps::default(),
            kvm_node: crate::vm::NODE.into(),
        }
    }
}
