//! Control registers, EFER and XCR0, and what they permit (SDM vol. 3, 2.5).

use super::{Changes, Cpu, Effect, Exception, cr0, cr4, efer};

/// As `hvm` starts it.
pub(super) const CR0_START: u64 = 0x8005_0033;
/// As `hvm` starts it.
pub(super) const CR4_START: u64 = 0x620;
/// As `hvm` starts it.
pub(super) const EFER_START: u64 = 0xd01;

/// Bits whose change the real CR0 must follow: code at CPL 3 feels them.
const CR0_FELT: u64 = cr0::MP | cr0::EM | cr0::TS | cr0::NE | cr0::AM;
/// Bits whose change the real CR4 must follow.
const CR4_FELT: u64 =
    cr4::TSD | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::FSGSBASE | cr4::OSXSAVE | cr4::PCE;
/// XCR0: the states of x87, SSE and AVX.
const X87: u64 = 1;
const SSE: u64 = 2;
const AVX: u64 = 4;

impl Cpu {
    /// MOV from a control register.
    ///
    /// # Errors
    /// #UD for a register that does not exist; #GP(0) above CPL 0.
    pub fn read_control(&self, number: u8) -> Result<u64, Exception> {
        let value = match number {
            0 => self.cr0,
            2 => self.cr2,
            3 => self.cr3,
            4 => self.cr4,
            8 => self.cr8,
            _ => return Err(Exception::invalid_opcode()),
        };
        self.require_kernel()?;
        Ok(value)
    }

    /// MOV to a control register.
    ///
    /// # Errors
    /// #UD for a register that does not exist; #GP(0) above CPL 0, for reserved bits, for bits that
    /// contradict each other, and for leaving long mode, which 64-bit code cannot.
    pub fn write_control(&mut self, number: u8, value: u64) -> Result<Effect, Exception> {
        if !matches!(number, 0 | 2 | 3 | 4 | 8) {
            return Err(Exception::invalid_opcode());
        }
        self.require_kernel()?;
        match number {
            0 => self.write_cr0(value),
            2 => {
                self.cr2 = value;
                Ok(Effect::NONE)
            }
            3 => self.load_root(value),
            4 => self.write_cr4(value),
            _ => self.write_priority(value),
        }
    }

    fn write_cr0(&mut self, value: u64) -> Result<Effect, Exception> {
        let contradicts = value & cr0::NW != 0 && value & cr0::CD == 0;
        let leaves = value & (cr0::PE | cr0::PG) != cr0::PE | cr0::PG;
        if value >> 32 != 0 || contradicts || leaves {
            return Err(Exception::protection(0));
        }
        let value = value & cr0::ALL | cr0::ET;
        let changed = self.cr0 ^ value;
        self.cr0 = value;
        let rights = Effect::when(changed & cr0::WP != 0, Changes::RIGHTS);
        Ok(rights.and(Effect::when(changed & CR0_FELT != 0, Changes::CONTROL)))
    }

    /// MOV to CR3.
    fn load_root(&mut self, value: u64) -> Result<Effect, Exception> {
        if value >> self.limits.physical_bits != 0 {
            return Err(Exception::protection(0));
        }
        self.cr3 = value;
        Ok(Changes::ROOT.into())
    }

    fn write_cr4(&mut self, value: u64) -> Result<Effect, Exception> {
        if value & !self.limits.cr4 != 0 || value & cr4::PAE == 0 {
            return Err(Exception::protection(0));
        }
        let changed = self.cr4 ^ value;
        self.cr4 = value;
        // SDM vol. 3, 4.10.4.1.
        let flushes = changed & (cr4::PGE | cr4::PSE) != 0;
        let effect = Effect::when(flushes, Changes::ALL_PAGES);
        Ok(effect.and(Effect::when(changed & CR4_FELT != 0, Changes::CONTROL)))
    }

    fn write_priority(&mut self, value: u64) -> Result<Effect, Exception> {
        if value > 15 {
            return Err(Exception::protection(0));
        }
        self.cr8 = value;
        Ok(Changes::PRIORITY.into())
    }

    /// CLTS.
    ///
    /// # Errors
    /// #GP(0) above CPL 0.
    pub fn clear_task_switched(&mut self) -> Result<Effect, Exception> {
        self.require_kernel()?;
        self.write_cr0(self.cr0 & !cr0::TS)
    }

    /// LMSW: the low four bits of CR0. It cannot clear PE.
    ///
    /// # Errors
    /// #GP(0) above CPL 0.
    pub fn load_status_word(&mut self, value: u16) -> Result<Effect, Exception> {
        self.require_kernel()?;
        let low = u64::from(value & 15) | cr0::PE;
        self.write_cr0(self.cr0 & !15 | low)
    }

    /// WRMSR to EFER.
    ///
    /// # Errors
    /// #GP(0) for a bit that does not exist, and for LME, which cannot change while paging is on.
    pub(super) fn write_efer(&mut self, value: u64) -> Result<Effect, Exception> {
        // SDM vol. 4: writes of LMA are ignored.
        let value = value & !efer::LMA | self.efer & efer::LMA;
        let changed = self.efer ^ value;
        if value & !efer::ALL != 0 || changed & efer::LME != 0 {
            return Err(Exception::protection(0));
        }
        self.efer = value;
        let rights = Effect::when(changed & efer::NXE != 0, Changes::RIGHTS);
        Ok(rights.and(Effect::when(changed & efer::SCE != 0, Changes::CONTROL)))
    }

    /// XGETBV of the register that ECX names.
    ///
    /// # Errors
    /// #UD without CR4.OSXSAVE; #GP(0) for a register that does not exist.
    pub fn read_extended(&self, index: u32) -> Result<u64, Exception> {
        if self.cr4 & cr4::OSXSAVE == 0 {
            return Err(Exception::invalid_opcode());
        }
        match index {
            0 => Ok(self.xcr0),
            _ => Err(Exception::protection(0)),
        }
    }

    /// XSETBV of the register that ECX names.
    ///
    /// # Errors
    /// #UD without CR4.OSXSAVE; #GP(0) above CPL 0, for a register that does not exist, and for
    /// states that do not exist or lack one that they need (SDM vol. 1, 13.3).
    pub fn write_extended(&mut self, index: u32, value: u64) -> Result<Effect, Exception> {
        if self.cr4 & cr4::OSXSAVE == 0 {
            return Err(Exception::invalid_opcode());
        }
        self.require_kernel()?;
        let lacks = value & X87 == 0 || (value & AVX != 0 && value & SSE == 0);
        if index != 0 || lacks || value & !self.limits.xcr0 != 0 {
            return Err(Exception::protection(0));
        }
        self.xcr0 = value;
        Ok(Changes::XCR0.into())
    }

    /// HLT.
    ///
    /// # Errors
    /// #GP(0) above CPL 0.
    pub fn halt(&self) -> Result<Effect, Exception> {
        self.require_kernel()?;
        Ok(Changes::HALTED.into())
    }

    /// RDPMC: this machine has no performance counter.
    ///
    /// # Errors
    /// Always #GP(0).
    pub fn read_counter(&self) -> Result<u64, Exception> {
        Err(Exception::protection(0))
    }

    /// RDTSC and RDTSCP are permitted.
    ///
    /// # Errors
    /// #GP(0) above CPL 0 while CR4.TSD is set.
    pub fn check_clock(&self) -> Result<(), Exception> {
        if self.cr4 & cr4::TSD != 0 {
            self.require_kernel()?;
        }
        Ok(())
    }

    /// The root's address in CR3.
    pub fn root(&self) -> u64 {
        self.cr3 & 0x000f_ffff_ffff_f000
    }
}
