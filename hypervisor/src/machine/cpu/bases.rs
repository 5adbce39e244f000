//! The bases of FS and GS: RDFSBASE and its like (SDM vol. 2, each).

use super::{Changes, Cpu, Effect, Exception, cr4, is_canonical};

impl Cpu {
    /// RDFSBASE or RDGSBASE: see [`Self::write_base`].
    ///
    /// # Errors
    /// #UD without CR4.FSGSBASE, and in 32-bit code.
    pub fn read_base(&self, gs: bool) -> Result<u64, Exception> {
        self.require_bases()?;
        Ok(if gs { self.gs.base } else { self.fs.base })
    }

    /// WRFSBASE or WRGSBASE.
    ///
    /// # Errors
    /// #UD without CR4.FSGSBASE, and in 32-bit code; #GP(0) for an address that is not canonical.
    pub fn write_base(&mut self, gs: bool, value: u64) -> Result<Effect, Exception> {
        self.require_bases()?;
        if !is_canonical(value) {
            return Err(Exception::protection(0));
        }
        let segment = if gs { &mut self.gs } else { &mut self.fs };
        segment.base = value;
        Ok(Changes::BASES.into())
    }

    fn require_bases(&self) -> Result<(), Exception> {
        if self.cr4 & cr4::FSGSBASE == 0 || !self.is_64_bit() {
            return Err(Exception::invalid_opcode());
        }
        Ok(())
    }
}
