//! IRET (SDM vol. 2, IRET/IRETD/IRETQ, IA-32e mode).

use super::registers::{self, flag};
use super::{Cpu, Effect, Exception, Linear, Refusal, Registers, Selector};

impl Cpu {
    /// Return through a frame of words of `size` bytes, to the same level or an outer one.
    ///
    /// # Errors
    /// #GP(0) while NT is set, and for an address that is not canonical; #GP, #NP, #SS by the
    /// frame's selectors; faults of stack and tables; unsupported levels.
    pub fn iret(
        &mut self,
        regs: &mut Registers,
        memory: &mut dyn Linear,
        size: usize,
    ) -> Result<Effect, Refusal> {
        if regs.has(flag::NT) {
            // There are no nested tasks in long mode.
            return Err(Exception::protection(0).into());
        }
        let is_64_bit = self.is_64_bit();
        // 64-bit code takes the stack from the frame whatever the level, so all of it is read.
        let [rip, cs, rflags, rsp, ss] = if is_64_bit {
            self.peek_words(regs, memory, size)?
        } else {
            let [rip, cs, rflags] = self.peek_words(regs, memory, size)?;
            [rip, cs, rflags, 0, 0]
        };
        let to = self.return_target(memory, Selector(cs as u16), rip)?;
        let flags = self.returned_flags(regs, rflags, size);
        // 32-bit code is a program's, and has no outer level to return to.
        let (rsp, ss) = if is_64_bit {
            (rsp, self.return_stack(memory, Selector(ss as u16), &to)?)
        } else {
            let frame = 3 * size as u64;
            (regs.general[registers::RSP].wrapping_add(frame), self.ss)
        };
        let effect = self.resume(regs, to, ss);
        regs.rflags = flags;
        regs.general[registers::RSP] = self.stack_offset(rsp);
        Ok(effect)
    }

    /// What RFLAGS becomes: by the level that returns, not the one it returns to.
    fn returned_flags(&self, regs: &Registers, frame: u64, size: usize) -> u64 {
        let mut loaded = flag::ANY_LEVEL | flag::RF;
        if self.cpl <= regs.iopl() {
            loaded |= flag::IF;
        }
        if self.cpl == 0 {
            loaded |= flag::IOPL;
        }
        if size == 2 {
            loaded &= 0xffff;
        }
        regs.rflags & !loaded | frame & loaded | flag::FIXED
    }
}
