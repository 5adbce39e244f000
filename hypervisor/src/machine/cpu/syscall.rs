//! SYSCALL, SYSRET, SYSENTER, SYSEXIT and SWAPGS (SDM vol. 2, each).

use super::registers::{self, flag};
use super::{Changes, Cpu, Effect, Exception, Registers, Segment, Selector, efer, is_canonical};

/// The flags that SYSRET takes from R11: neither RF nor VM nor reserved ones.
const RETURNED: u64 = 0x3c_7fd7;

/// #DB after SYSCALL and SYSRET, by the TF that they leave.
fn stepped(regs: &Registers) -> Effect {
    Effect::when(regs.has(flag::TF), Changes::SINGLE_STEP)
}

impl Cpu {
    /// SYSCALL; `next` is the address of the next instruction. If TF is left set, #DB is due at once:
    /// unlike with other instructions, TF counts as it is afterwards.
    ///
    /// # Errors
    /// #UD while EFER.SCE is clear, and from 32-bit code, as on Intel's processors.
    pub fn syscall(&mut self, regs: &mut Registers, next: u64) -> Result<Effect, Exception> {
        if self.efer & efer::SCE == 0 || !self.is_64_bit() {
            return Err(Exception::invalid_opcode());
        }
        regs.general[registers::RCX] = next;
        regs.general[registers::R11] = regs.rflags & !flag::RF;
        regs.rip = self.lstar;
        regs.rflags = regs.rflags & !self.sfmask & !flag::RF | flag::FIXED;
        let selector = Selector((self.star >> 32) as u16);
        Ok(self.enter_flat(selector).and(stepped(regs)))
    }

    /// SYSRET to 64-bit code, or to 32-bit code. If R11 has TF set, #DB is due at once: it is for the
    /// SYSCALL that the program made, and SFMASK had put off.
    ///
    /// # Errors
    /// #UD while EFER.SCE is clear; #GP(0) above CPL 0, or to an address that is not canonical.
    pub fn sysret(&mut self, regs: &mut Registers, to_64_bit: bool) -> Result<Effect, Exception> {
        if self.efer & efer::SCE == 0 || !self.is_64_bit() {
            return Err(Exception::invalid_opcode());
        }
        self.require_kernel()?;
        let rip = regs.general[registers::RCX];
        if to_64_bit && !is_canonical(rip) {
            return Err(Exception::protection(0));
        }
        regs.rip = if to_64_bit { rip } else { rip & 0xffff_ffff };
        regs.rflags = regs.general[registers::R11] & RETURNED | flag::FIXED;
        let base = (self.star >> 48) as u16;
        let code = if to_64_bit {
            base.wrapping_add(16)
        } else {
            base
        };
        let stack = Selector(base.wrapping_add(8));
        let effect = self.leave_flat(Selector(code), stack, to_64_bit);
        Ok(effect.and(stepped(regs)))
    }

    /// SYSENTER.
    ///
    /// # Errors
    /// #GP(0) while the guest has not set its code selector.
    pub fn sysenter(&mut self, regs: &mut Registers) -> Result<Effect, Exception> {
        let selector = self.sysenter_selector()?;
        regs.set(flag::VM | flag::IF | flag::RF, false);
        regs.rip = self.sysenter_eip;
        regs.general[registers::RSP] = self.sysenter_esp;
        Ok(self.enter_flat(selector))
    }

    /// SYSEXIT to 64-bit code, or to 32-bit code: RIP from RDX, RSP from RCX.
    ///
    /// # Errors
    /// #GP(0) above CPL 0, without a code selector, or to an address that is not canonical.
    pub fn sysexit(&mut self, regs: &mut Registers, to_64_bit: bool) -> Result<Effect, Exception> {
        let base = self.sysenter_selector()?.0;
        self.require_kernel()?;
        let (rip, rsp) = (regs.general[registers::RDX], regs.general[registers::RCX]);
        let (code, mask) = if to_64_bit {
            if !is_canonical(rip) || !is_canonical(rsp) {
                return Err(Exception::protection(0));
            }
            (base.wrapping_add(32), u64::MAX)
        } else {
            (base.wrapping_add(16), u64::from(u32::MAX))
        };
        (regs.rip, regs.general[registers::RSP]) = (rip & mask, rsp & mask);
        let stack = Selector(code.wrapping_add(8));
        Ok(self.leave_flat(Selector(code), stack, to_64_bit))
    }

    /// SWAPGS.
    ///
    /// # Errors
    /// #UD in 32-bit code; #GP(0) above CPL 0.
    pub fn swap_gs(&mut self) -> Result<Effect, Exception> {
        if !self.is_64_bit() {
            return Err(Exception::invalid_opcode());
        }
        self.require_kernel()?;
        std::mem::swap(&mut self.gs.base, &mut self.kernel_gs_base);
        Ok(Changes::BASES.into())
    }

    fn sysenter_selector(&self) -> Result<Selector, Exception> {
        let selector = Selector(self.sysenter_cs as u16);
        if selector.is_null() {
            Err(Exception::protection(0))
        } else {
            Ok(selector.with_rpl(0))
        }
    }

    /// Flat segments of CPL 0: the code selector, and the next one as the stack.
    fn enter_flat(&mut self, selector: Selector) -> Effect {
        let code = selector.with_rpl(0);
        self.cs = Segment::flat_code(code, 0);
        self.ss = Segment::flat_data(Selector(code.0.wrapping_add(8)), 0);
        self.level(0)
    }

    /// Flat segments of CPL 3.
    fn leave_flat(&mut self, code: Selector, stack: Selector, to_64_bit: bool) -> Effect {
        self.cs = if to_64_bit {
            Segment::flat_code(code.with_rpl(3), 3)
        } else {
            Segment::flat_code_32(code.with_rpl(3), 3)
        };
        self.ss = Segment::flat_data(stack.with_rpl(3), 3);
        self.level(3)
    }

    fn level(&mut self, cpl: u8) -> Effect {
        let changed = self.cpl != cpl;
        self.cpl = cpl;
        Effect::when(changed, Changes::LEVEL)
    }
}
