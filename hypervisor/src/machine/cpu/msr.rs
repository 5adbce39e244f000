//! Model-specific registers that belong to the processor itself (SDM vol. 4; APM vol. 2, appendix A).
//!
//! The clock, the local APIC and what else others own is not here: the door asks its bus.

use super::{Changes, Cpu, Effect, Exception, is_canonical};

/// Numbers of the registers.
pub mod index {
    /// Machine checks of the Pentium's kind: there are none, and writes are ignored.
    pub const P5_MC_ADDR: u32 = 0;
    /// Likewise.
    pub const P5_MC_TYPE: u32 = 1;
    /// Where the local APIC is.
    pub const APIC_BASE: u32 = 0x1b;
    /// Revision of the microcode: 0, and writes are ignored.
    pub const MICROCODE: u32 = 0x8b;
    /// Code selector of SYSENTER.
    pub const SYSENTER_CS: u32 = 0x174;
    /// Stack pointer of SYSENTER.
    pub const SYSENTER_ESP: u32 = 0x175;
    /// Instruction pointer of SYSENTER.
    pub const SYSENTER_EIP: u32 = 0x176;
    /// How many machine-check banks there are: none.
    pub const MCG_CAP: u32 = 0x179;
    /// State of a machine check.
    pub const MCG_STATUS: u32 = 0x17a;
    /// Switches of the processor.
    pub const MISC_ENABLE: u32 = 0x1a0;
    /// Debug control: branch records, of which there are none.
    pub const DEBUGCTL: u32 = 0x1d9;
    /// Page attribute table.
    pub const PAT: u32 = 0x277;
    /// Extended features.
    pub const EFER: u32 = 0xc000_0080;
    /// Selectors of SYSCALL.
    pub const STAR: u32 = 0xc000_0081;
    /// Target of SYSCALL.
    pub const LSTAR: u32 = 0xc000_0082;
    /// Target of SYSCALL from 32-bit code.
    pub const CSTAR: u32 = 0xc000_0083;
    /// Flags that SYSCALL clears.
    pub const SFMASK: u32 = 0xc000_0084;
    /// Base of FS.
    pub const FS_BASE: u32 = 0xc000_0100;
    /// Base of GS.
    pub const GS_BASE: u32 = 0xc000_0101;
    /// What SWAPGS swaps in.
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    /// What RDTSCP shows.
    pub const TSC_AUX: u32 = 0xc000_0103;
}

/// PAT after a reset: WB WT UC- UC, twice.
pub(super) const PAT_START: u64 = 0x0007_0406_0007_0406;
/// APIC at its usual place, enabled, of the boot processor.
pub(super) const APIC_BASE_START: u64 = 0xfee0_0900;
/// Fast strings.
pub(super) const MISC_ENABLE_START: u64 = 1;

/// MISC_ENABLE: fast strings, and "no CPUID above leaf 3", which stays clear.
const MISC_ENABLE_WRITABLE: u64 = 1;
/// APIC_BASE: boot processor, x2APIC, enabled.
const APIC_BOOT: u64 = 1 << 8;
const APIC_X2: u64 = 1 << 10;
const APIC_ON: u64 = 1 << 11;

impl Cpu {
    /// RDMSR; `None` if the register is not the processor's own.
    ///
    /// # Errors
    /// #GP(0) above CPL 0.
    pub fn read_msr(&self, number: u32) -> Result<Option<u64>, Exception> {
        self.require_kernel()?;
        Ok(Some(match number {
            index::APIC_BASE => self.apic_base,
            index::P5_MC_ADDR | index::P5_MC_TYPE => 0,
            index::MICROCODE | index::MCG_CAP | index::MCG_STATUS | index::DEBUGCTL => 0,
            index::SYSENTER_CS => self.sysenter_cs,
            index::SYSENTER_ESP => self.sysenter_esp,
            index::SYSENTER_EIP => self.sysenter_eip,
            index::MISC_ENABLE => self.misc_enable,
            index::PAT => self.pat,
            index::EFER => self.efer,
            index::STAR => self.star,
            index::LSTAR => self.lstar,
            index::CSTAR => self.cstar,
            index::SFMASK => self.sfmask,
            index::FS_BASE => self.fs.base,
            index::GS_BASE => self.gs.base,
            index::KERNEL_GS_BASE => self.kernel_gs_base,
            index::TSC_AUX => self.tsc_aux,
            _ => return Ok(None),
        }))
    }

    /// WRMSR; `None` if the register is not the processor's own.
    ///
    /// # Errors
    /// #GP(0) above CPL 0, for reserved bits, for an address that is not canonical, and for a
    /// register that can only be read.
    pub fn write_msr(&mut self, number: u32, value: u64) -> Result<Option<Effect>, Exception> {
        self.require_kernel()?;
        let refused = Exception::protection(0);
        let must = |holds: bool| if holds { Ok(()) } else { Err(refused) };
        let mut effect = Effect::NONE;
        match number {
            index::APIC_BASE => {
                must(self.is_apic_base(value))?;
                self.apic_base = value;
                effect = Changes::APIC.into();
            }
            index::P5_MC_ADDR | index::P5_MC_TYPE | index::MICROCODE => {}
            index::MCG_CAP => return Err(refused),
            index::MCG_STATUS | index::DEBUGCTL => must(value == 0)?,
            index::SYSENTER_CS => self.sysenter_cs = value & 0xffff_ffff,
            index::SYSENTER_ESP => {
                must(is_canonical(value))?;
                self.sysenter_esp = value;
            }
            index::SYSENTER_EIP => {
                must(is_canonical(value))?;
                self.sysenter_eip = value;
            }
            index::MISC_ENABLE => {
                must(value & !MISC_ENABLE_WRITABLE == 0)?;
                self.misc_enable = value;
            }
            index::PAT => {
                must(value.to_le_bytes().iter().all(|kind| is_memory_type(*kind)))?;
                self.pat = value;
                // Every translation carries a memory type.
                effect = Changes::ALL_PAGES.into();
            }
            index::EFER => effect = self.write_efer(value)?,
            index::STAR => self.star = value,
            index::LSTAR => {
                must(is_canonical(value))?;
                self.lstar = value;
            }
            index::CSTAR => {
                must(is_canonical(value))?;
                self.cstar = value;
            }
            index::SFMASK => {
                must(value >> 32 == 0)?;
                self.sfmask = value;
            }
            index::FS_BASE | index::GS_BASE => {
                must(is_canonical(value))?;
                let segment = if number == index::GS_BASE {
                    &mut self.gs
                } else {
                    &mut self.fs
                };
                segment.base = value;
                effect = Changes::BASES.into();
            }
            index::KERNEL_GS_BASE => {
                must(is_canonical(value))?;
                self.kernel_gs_base = value;
            }
            index::TSC_AUX => {
                must(value >> 32 == 0)?;
                self.tsc_aux = value;
                effect = Changes::TSC_AUX.into();
            }
            _ => return Ok(None),
        }
        Ok(Some(effect))
    }

    /// SDM vol. 3, 10.4.4 and 10.12.1: no reserved bit, no x2APIC that is off, no way back from
    /// x2APIC but through off, no way into it from off.
    fn is_apic_base(&self, value: u64) -> bool {
        let address = ((1 << self.limits.physical_bits) - 1) & !0xfff;
        let reserved = value & !(address | APIC_BOOT | APIC_X2 | APIC_ON);
        let mode = |value: u64| (value & APIC_ON != 0, value & APIC_X2 != 0);
        let step = (mode(self.apic_base), mode(value));
        let legal = !matches!(
            step,
            (_, (false, true)) | ((true, true), (true, false)) | ((false, _), (true, true))
        );
        reserved == 0 && legal
    }
}

/// SDM vol. 3, table 11-10.
fn is_memory_type(kind: u8) -> bool {
    matches!(kind, 0 | 1 | 4..=7)
}
