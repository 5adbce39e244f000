//! What a verb answers: what changed, or why nothing did.

use bitflags::bitflags;

use crate::error::GuestFault;

/// An exception that the guest is to get (SDM vol. 3, chapter 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Its vector.
    pub vector: u8,
    /// The error code, where the vector has one.
    pub error: Option<u32>,
    /// What CR2 becomes: the linear address of a page fault.
    pub address: Option<u64>,
}

impl Exception {
    /// Divide error: no error code, contributory.
    pub const DIVIDE: u8 = 0;
    /// Debug exception.
    pub const DEBUG: u8 = 1;
    /// Breakpoint.
    pub const BREAKPOINT: u8 = 3;
    /// Overflow.
    pub const OVERFLOW: u8 = 4;
    /// Invalid opcode.
    pub const INVALID_OPCODE: u8 = 6;
    /// Double fault.
    pub const DOUBLE_FAULT: u8 = 8;
    /// Invalid TSS.
    pub const INVALID_TSS: u8 = 10;
    /// Segment not present.
    pub const NOT_PRESENT: u8 = 11;
    /// Stack fault.
    pub const STACK: u8 = 12;
    /// General protection.
    pub const PROTECTION: u8 = 13;
    /// Page fault.
    pub const PAGE_FAULT: u8 = 14;

    /// An exception without an error code.
    pub fn plain(vector: u8) -> Self {
        Self {
            vector,
            error: None,
            address: None,
        }
    }

    /// An exception with an error code.
    pub fn with_error(vector: u8, error: u32) -> Self {
        Self {
            vector,
            error: Some(error),
            address: None,
        }
    }

    /// #UD.
    pub fn invalid_opcode() -> Self {
        Self::plain(Self::INVALID_OPCODE)
    }

    /// #GP with this error code.
    pub fn protection(error: u32) -> Self {
        Self::with_error(Self::PROTECTION, error)
    }

    /// #PF at an address.
    pub fn page_fault(error: u32, address: u64) -> Self {
        Self {
            vector: Self::PAGE_FAULT,
            error: Some(error),
            address: Some(address),
        }
    }
}

/// Why a verb did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The guest gets an exception.
    Exception(Exception),
    /// The architecture would do it, and this machine does not. Names the feature.
    Unsupported(&'static str),
}

impl From<Exception> for Refusal {
    fn from(exception: Exception) -> Self {
        Self::Exception(exception)
    }
}

/// Why an event could not be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fatal {
    /// Not even a double fault could be delivered: the processor shuts down.
    TripleFault,
    /// The guest's gate asks for what this machine does not do. Names the feature.
    Unsupported(&'static str),
}

impl Fatal {
    /// The verdict on the guest whose processor is at `rip`.
    pub fn verdict(self, rip: u64) -> GuestFault {
        match self {
            Self::TripleFault => GuestFault::TripleFault,
            Self::Unsupported(what) => GuestFault::Unsupported {
                at: rip,
                instruction: "the delivery of an event".to_owned(),
                what,
            },
        }
    }
}

bitflags! {
    /// What of the virtual processor changed that the real one must follow.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Changes: u32 {
        /// CR3 was loaded.
        const ROOT = 1 << 0;
        /// One page's translation is to be forgotten; see [`Effect::page`].
        const PAGE = 1 << 1;
        /// Every translation is to be forgotten, global ones too.
        const ALL_PAGES = 1 << 2;
        /// CR0.WP or EFER.NXE: what a page-table entry permits.
        const RIGHTS = 1 << 3;
        /// The base of FS or GS.
        const BASES = 1 << 4;
        /// The privilege level, and with it CS and SS.
        const LEVEL = 1 << 5;
        /// EFER.SCE, or a bit of CR0 or CR4 that works at CPL 3 too, such as TS.
        const CONTROL = 1 << 6;
        /// A debug register.
        const DEBUG = 1 << 7;
        /// CR8, the task priority.
        const PRIORITY = 1 << 8;
        /// The APIC base register.
        const APIC = 1 << 9;
        /// XCR0.
        const XCR0 = 1 << 10;
        /// TSC_AUX, which the real RDTSCP shows.
        const TSC_AUX = 1 << 11;
        /// The processor waits for an interrupt, with IF as in RFLAGS.
        const HALTED = 1 << 12;
        /// No interrupt before the next instruction is done (SDM vol. 3, 6.8.3).
        const SHADOW = 1 << 13;
        /// TF was set: #DB is due now. See [`super::Cpu::single_step`].
        const SINGLE_STEP = 1 << 14;
        /// A repeated string instruction has more to do: RIP is still at it.
        const REPEATS = 1 << 15;
    }
}

/// What a verb did, for who loads the real processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "the real processor must follow"]
pub struct Effect {
    /// What changed.
    pub changes: Changes,
    /// With [`Changes::PAGE`], a linear address in that page.
    pub page: Option<u64>,
}

impl Effect {
    /// Nothing that the real processor must know.
    pub const NONE: Self = Self {
        changes: Changes::empty(),
        page: None,
    };

    /// The page of a linear address is to be forgotten.
    pub fn page(at: u64) -> Self {
        Self {
            changes: Changes::PAGE,
            page: Some(at),
        }
    }

    /// These changes, if `condition` holds.
    pub fn when(condition: bool, changes: Changes) -> Self {
        if condition {
            changes.into()
        } else {
            Self::NONE
        }
    }

    /// Both effects. At most one of them names a page.
    pub fn and(self, other: impl Into<Self>) -> Self {
        let other = other.into();
        Self {
            changes: self.changes | other.changes,
            page: self.page.or(other.page),
        }
    }
}

impl From<Changes> for Effect {
    fn from(changes: Changes) -> Self {
        Self {
            changes,
            page: None,
        }
    }
}
