//! The virtual processor of modes `trap` and `patch`: its state, and what its instructions do.
//!
//! The verbs follow the SDM and know nothing of KVM. A verb changes the state only when it raises
//! no exception. It does not move RIP on, unless it is a transfer: `doors::trap` does that. What
//! the real processor must follow is in the [`Effect`].
//!
//! In walking order: `registers`, `segment`, `bits`, `linear`, `event` (what the verbs stand on),
//! `descriptor` and `load` (tables and segment registers), `transfer`, `iret`, `gate` and `deliver`
//! (events), `syscall`, `control`, `translations`, `bases`, `debug`, `msr`, `tables`, `inspect`,
//! `flags`, `ports`, `cpuid`.
//!
//! Long mode with four levels of page tables is all there is: 64-bit code at CPL 0 and 3, 32-bit
//! code at CPL 3. Alignment checks (#AC) are not made.

mod bases;
mod bits;
mod control;
mod cpuid;
mod debug;
mod deliver;
mod descriptor;
mod event;
mod flags;
mod gate;
mod inspect;
mod iret;
mod linear;
mod load;
mod msr;
mod ports;
pub mod registers;
pub mod segment;
mod syscall;
mod tables;
#[cfg(test)]
pub(crate) mod tests;
mod transfer;
mod translations;

pub use bits::{cr0, cr4, efer};
pub use cpuid::Limits;
pub use event::{Changes, Effect, Exception, Fatal, Refusal};
pub use inspect::Inspection;
pub use linear::{Linear, Place, is_canonical};
pub use registers::Registers;
pub use segment::{Attributes, Descriptor, Segment, SegmentName, Selector};
pub use transfer::Far;

use crate::monitor::tables as start;

/// Where a descriptor table lies: GDTR and IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Its linear address.
    pub base: u64,
    /// The offset of its last byte.
    pub limit: u16,
}

/// The state that system instructions read and change. `Registers` has the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// What this processor can do.
    pub limits: Limits,
    /// Virtual privilege level: 0 or 3.
    pub cpl: u8,
    /// CR0.
    pub cr0: u64,
    /// Address of the last page fault.
    pub cr2: u64,
    /// Root of the page tables.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// Task priority, 0 to 15.
    pub cr8: u64,
    /// EFER.
    pub efer: u64,
    /// XCR0.
    pub xcr0: u64,
    /// DR0 to DR3.
    pub breakpoints: [u64; 4],
    /// DR6.
    pub dr6: u64,
    /// DR7.
    pub dr7: u64,
    /// Code segment.
    pub cs: Segment,
    /// Stack segment.
    pub ss: Segment,
    /// Data segment.
    pub ds: Segment,
    /// Extra segment.
    pub es: Segment,
    /// FS; its base is the MSR FS_BASE.
    pub fs: Segment,
    /// GS; its base is the MSR GS_BASE.
    pub gs: Segment,
    /// Local descriptor table.
    pub ldtr: Segment,
    /// Task register.
    pub tr: Segment,
    /// Global descriptor table.
    pub gdtr: Table,
    /// Interrupt descriptor table.
    pub idtr: Table,
    /// What SWAPGS swaps in.
    pub kernel_gs_base: u64,
    /// Selectors of SYSCALL and SYSRET.
    pub star: u64,
    /// Where SYSCALL of 64-bit code goes.
    pub lstar: u64,
    /// Where SYSCALL of 32-bit code would go; held for the guest to read back.
    pub cstar: u64,
    /// Flags that SYSCALL clears.
    pub sfmask: u64,
    /// Code selector of SYSENTER.
    pub sysenter_cs: u64,
    /// Stack pointer of SYSENTER.
    pub sysenter_esp: u64,
    /// Instruction pointer of SYSENTER.
    pub sysenter_eip: u64,
    /// Page attribute table.
    pub pat: u64,
    /// What RDTSCP and RDPID show.
    pub tsc_aux: u64,
    /// Where the local APIC is, and whether it is on.
    pub apic_base: u64,
    /// IA32_MISC_ENABLE.
    pub misc_enable: u64,
}

impl Cpu {
    /// A processor as a native image finds it in mode `hvm`: 64-bit mode, CPL 0, paging by `root`.
    /// Its flags start as [`registers::flag::FIXED`].
    pub fn new(root: u64, limits: Limits) -> Self {
        let data = Segment::flat_data(Selector(start::MONITOR_SS), 0);
        Self {
            limits,
            cpl: 0,
            cr0: control::CR0_START,
            cr2: 0,
            cr3: root,
            cr4: control::CR4_START,
            cr8: 0,
            efer: control::EFER_START,
            xcr0: 1,
            breakpoints: [0; 4],
            dr6: debug::DR6_FIXED,
            dr7: debug::DR7_FIXED,
            cs: Segment::flat_code(Selector(start::MONITOR_CS), 0),
            ss: data,
            ds: data,
            es: data,
            fs: data,
            gs: data,
            ldtr: Segment::default(),
            tr: Segment {
                limit: start::TSS_LIMIT,
                attributes: Attributes(0x80 | u16::from(segment::system::BUSY_TSS)),
                ..Segment::default()
            },
            gdtr: Table::default(),
            idtr: Table::default(),
            kernel_gs_base: 0,
            star: 0,
            lstar: 0,
            cstar: 0,
            sfmask: 0,
            sysenter_cs: 0,
            sysenter_esp: 0,
            sysenter_eip: 0,
            pat: msr::PAT_START,
            tsc_aux: 0,
            apic_base: msr::APIC_BASE_START,
            misc_enable: msr::MISC_ENABLE_START,
        }
    }

    /// Whether it runs at CPL 3.
    pub fn is_user(&self) -> bool {
        self.cpl == 3
    }

    /// Whether the code is 64-bit code; otherwise it is 32-bit code, in compatibility mode.
    pub fn is_64_bit(&self) -> bool {
        self.cs.attributes.is_long()
    }

    /// A segment register.
    pub fn segment(&self, name: SegmentName) -> &Segment {
        match name {
            SegmentName::Es => &self.es,
            SegmentName::Cs => &self.cs,
            SegmentName::Ss => &self.ss,
            SegmentName::Ds => &self.ds,
            SegmentName::Fs => &self.fs,
            SegmentName::Gs => &self.gs,
        }
    }

    fn segment_mut(&mut self, name: SegmentName) -> &mut Segment {
        match name {
            SegmentName::Es => &mut self.es,
            SegmentName::Cs => &mut self.cs,
            SegmentName::Ss => &mut self.ss,
            SegmentName::Ds => &mut self.ds,
            SegmentName::Fs => &mut self.fs,
            SegmentName::Gs => &mut self.gs,
        }
    }

    /// What a privileged instruction asks first.
    ///
    /// # Errors
    /// #GP(0) above CPL 0.
    pub fn require_kernel(&self) -> Result<(), Exception> {
        if self.cpl == 0 {
            Ok(())
        } else {
            Err(Exception::protection(0))
        }
    }
}
