//! What can go wrong, by who pays: [`HostError`] ends the run, [`GuestFault`] ends one virtual
//! machine, and `hypercall_abi::CallError` returns to the guest.

use std::io;

use hypercall_abi::Mode;

use crate::doctor;
use crate::loader::{FileError, ImageError};

/// The host cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// `/dev/kvm` cannot be opened; the sentence carries the mend.
    #[error("{0}")]
    NoKvm(String),
    /// KVM opens and creates no VM, or no vCPU in it; the sentence carries the mend.
    #[error("{0}")]
    Create(String),
    /// KVM lacks something that Paravane needs.
    #[error("this KVM lacks {name}: {mend}")]
    Capability {
        /// The capability's name in the kernel's documentation.
        name: &'static str,
        /// What helps.
        mend: String,
    },
    /// A KVM operation failed.
    #[error("KVM could not {what}: {source}")]
    Kvm {
        /// The operation, as a verb.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Guest memory cannot be had.
    #[error("cannot map {bytes} bytes of guest memory: {source}; use a smaller --mem")]
    Memory {
        /// How many were asked for.
        bytes: u64,
        /// Why not.
        source: io::Error,
    },
    /// A device cannot be had.
    #[error("cannot attach {device}: {source}")]
    Device {
        /// Which one.
        device: String,
        /// Why not, with the mend.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// More devices than there are places.
    #[error("{count} devices: attach {limit} at most")]
    Devices {
        /// How many were asked for.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A page that Paravane keeps for itself is not in the virtual machine: a bug.
    #[error("the virtual machine lacks {what}: this is a bug of Paravane's, please report it")]
    Missing {
        /// Which page, or pages.
        what: &'static str,
    },
    /// The memory size is not one that a guest can run in.
    #[error(
        "{bytes} bytes of guest memory: use --mem with a multiple of 4 KiB between 8M and 256G"
    )]
    MemorySize {
        /// What was asked for.
        bytes: u64,
    },
    /// An image file is not what it should be.
    #[error(transparent)]
    Image(#[from] FileError),
    /// The image was built for another interface version.
    #[error(
        "{image} speaks version {theirs} of the hypercall interface, this hypervisor version {ours}: rebuild the image with this version's hypercall-abi"
    )]
    Version {
        /// The image's name.
        image: String,
        /// Its version.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// The image needs features that this hypervisor does not offer.
    #[error(
        "{image} needs interface features {missing:#x} that this hypervisor does not offer: use a newer paravane"
    )]
    Features {
        /// The image's name.
        image: String,
        /// The feature bits that are missing.
        missing: u64,
    },
    /// The image and the mode do not go together.
    #[error("{image} is {found}, and --mode {} needs {needed}", mode.name())]
    ImageKind {
        /// The image's name.
        image: String,
        /// What it is.
        found: &'static str,
        /// What the mode needs.
        needed: &'static str,
        /// The mode.
        mode: Mode,
    },
    /// The command line does not fit its page.
    #[error("the guest command line has {len} bytes, the limit is {limit}")]
    CommandLine {
        /// Its length.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// The image needs more boot page tables than low memory has room for.
    #[error("{image} spans too much address space for the boot page tables: keep it under 10 MiB")]
    BootTables {
        /// The image's name.
        image: String,
    },
    /// The guest's output cannot be written.
    #[error("cannot write the guest's output: {0}")]
    Output(io::Error),
    /// The trace cannot be written.
    #[error("cannot write the trace: {0}")]
    Trace(io::Error),
    /// A vendor call was registered under a number that is not free for vendors.
    #[error("call number {number:#x} ({name}) cannot be registered: {reason}")]
    Vendor {
        /// The number.
        number: u64,
        /// The call's name.
        name: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

impl HostError {
    /// An image error in the file of this name.
    pub(crate) fn image(name: &str, error: ImageError) -> Self {
        Self::Image(error.in_file(name))
    }

    /// A `thing`, VM or vCPU, that KVM did not create.
    pub(crate) fn create(thing: &'static str) -> impl Fn(kvm_ioctls::Error) -> Self {
        move |error| {
            let error = io::Error::from_raw_os_error(error.errno());
            Self::Create(doctor::explain_create_error(thing, &error))
        }
    }

    /// A failed KVM operation; `what` completes "KVM could not".
    pub(crate) fn kvm(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Self {
        move |error| Self::Kvm {
            what,
            source: io::Error::from_raw_os_error(error.errno()),
        }
    }
}

/// The guest cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestFault {
    /// The processor shut down: an event could not be delivered (SDM vol. 3, 6.15).
    #[error("triple fault: an exception could not be delivered")]
    TripleFault,
    /// KVM could not emulate an instruction.
    #[error("KVM could not run the instruction {}", hex(bytes))]
    Emulation {
        /// The instruction bytes, where KVM gave them.
        bytes: Vec<u8>,
    },
    /// KVM gave up for another reason.
    #[error("KVM ended with internal error {suberror}")]
    Internal {
        /// `kvm_run.internal.suberror`.
        suberror: u32,
    },
    /// An access to a port that nothing answers at.
    #[error("{} port {port:#x}, {width} bytes: no device is there", if *write { "write to" } else { "read from" })]
    Port {
        /// The port.
        port: u16,
        /// The width in bytes.
        width: usize,
        /// The direction.
        write: bool,
    },
    /// An access to physical memory that nothing answers at.
    #[error("{} guest-physical {at:#x}, {width} bytes: neither memory nor a device is there", if *write { "write to" } else { "read from" })]
    Mmio {
        /// The address.
        at: u64,
        /// The width in bytes.
        width: usize,
        /// The direction.
        write: bool,
    },
    /// The monitor met an event that nothing in this machine raises.
    #[error("the monitor stopped at vector {vector}")]
    Monitor {
        /// The vector.
        vector: u32,
    },
    /// An event came before the guest had named its event entries.
    #[error("event {entry} at {rip:#x}, before the guest has named its event entries")]
    NoEntries {
        /// The entry that it needed: a vector, mostly.
        entry: u64,
        /// The interrupted instruction, for an exception.
        rip: u64,
    },
    /// The batch ring's indices make no sense.
    #[error("the batch ring is corrupt: tail {tail}, head {head}")]
    Ring {
        /// The guest's index.
        tail: u32,
        /// The hypervisor's index.
        head: u32,
    },
    /// The processor halted with interrupts off: nothing can wake it.
    #[error("the processor halted for good")]
    Halted,
    /// KVM refused to enter the guest.
    #[error("KVM refused to enter the guest: reason {reason:#x}")]
    Entry {
        /// The hardware's reason.
        reason: u64,
    },
    /// The architecture would do it, and the virtual processor of modes `trap` and `patch` does not.
    #[error("{instruction} at {at:#x} asks for {what}, which modes trap and patch do not have")]
    Unsupported {
        /// Where.
        at: u64,
        /// The instruction, as an assembler spells it.
        instruction: String,
        /// What it asks for.
        what: &'static str,
    },
    /// An exit that this hypervisor does not know.
    #[error("unexpected exit: {0}")]
    Exit(String),
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "(bytes unknown)".to_owned();
    }
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(" ")
}
