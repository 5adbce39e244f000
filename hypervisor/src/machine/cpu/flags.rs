//! CLI, STI, PUSHF and POPF: the virtual interrupt flag (SDM vol. 2, each).

use super::registers::{self, flag};
use super::{Changes, Cpu, Effect, Exception, Linear, Refusal, Registers};

impl Cpu {
    /// CLI.
    ///
    /// # Errors
    /// #GP(0) above IOPL.
    pub fn disable_interrupts(&self, regs: &mut Registers) -> Result<Effect, Exception> {
        self.require_io_level(regs)?;
        regs.set(flag::IF, false);
        Ok(Effect::NONE)
    }

    /// STI. If IF was clear, the next instruction still runs without interrupts.
    ///
    /// # Errors
    /// #GP(0) above IOPL.
    pub fn enable_interrupts(&self, regs: &mut Registers) -> Result<Effect, Exception> {
        self.require_io_level(regs)?;
        let shadow = Effect::when(!regs.has(flag::IF), Changes::SHADOW);
        regs.set(flag::IF, true);
        Ok(shadow)
    }

    /// PUSHF of `size` bytes. RF and VM read as 0.
    ///
    /// # Errors
    /// Faults of the stack.
    pub fn push_flags(
        &self,
        regs: &mut Registers,
        memory: &mut dyn Linear,
        size: usize,
    ) -> Result<(), Refusal> {
        let image = regs.rflags & !(flag::RF | flag::VM);
        self.push(regs, memory, image, size)
    }

    /// POPF of `size` bytes. With too little privilege IF and IOPL keep their values, and nothing
    /// faults.
    ///
    /// # Errors
    /// Faults of the stack.
    pub fn pop_flags(
        &self,
        regs: &mut Registers,
        memory: &mut dyn Linear,
        size: usize,
    ) -> Result<(), Refusal> {
        let image = self.peek(regs, memory, 0, size)?;
        let mut loaded = flag::ANY_LEVEL;
        if self.cpl <= regs.iopl() {
            loaded |= flag::IF;
        }
        if self.cpl == 0 {
            loaded |= flag::IOPL;
        }
        if size == 2 {
            loaded &= 0xffff;
        }
        regs.rflags = (regs.rflags & !loaded | image & loaded | flag::FIXED) & !flag::RF;
        let top = regs.general[registers::RSP].wrapping_add(size as u64);
        regs.general[registers::RSP] = self.stack_offset(top);
        Ok(())
    }

    fn require_io_level(&self, regs: &Registers) -> Result<(), Exception> {
        if self.cpl <= regs.iopl() {
            Ok(())
        } else {
            Err(Exception::protection(0))
        }
    }
}
