//! Far transfers: RET, JMP and CALL (SDM vol. 2, each; vol. 3, 5.8).

use super::segment::system;
use super::{
    Changes, Cpu, Effect, Exception, Linear, Refusal, Registers, Segment, SegmentName, Selector,
    is_canonical, registers,
};

/// A far pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Far {
    /// The code segment.
    pub selector: Selector,
    /// The instruction pointer in it.
    pub offset: u64,
}

/// Where a return leads, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Return {
    pub cs: Segment,
    pub cpl: u8,
    pub rip: u64,
}

impl Cpu {
    /// RETF with words of `size` bytes, releasing `release` bytes of arguments.
    ///
    /// # Errors
    /// #GP, #NP, #SS by the frame's selectors; faults of stack and tables; unsupported levels.
    pub fn far_return(
        &mut self,
        regs: &mut Registers,
        memory: &mut dyn Linear,
        size: usize,
        release: u16,
    ) -> Result<Effect, Refusal> {
        let word = size as u64;
        let rip = self.peek(regs, memory, 0, size)?;
        let selector = Selector(self.peek(regs, memory, word, size)? as u16);
        let to = self.return_target(memory, selector, rip)?;
        let release = u64::from(release);
        if to.cpl == self.cpl {
            let top = regs.general[registers::RSP].wrapping_add(2 * word + release);
            regs.general[registers::RSP] = self.stack_offset(top);
            return Ok(self.resume(regs, to, self.ss));
        }
        let rsp = self.peek(regs, memory, 2 * word + release, size)?;
        let stack = Selector(self.peek(regs, memory, 3 * word + release, size)? as u16);
        let ss = self.return_stack(memory, stack, &to)?;
        let effect = self.resume(regs, to, ss);
        regs.general[registers::RSP] = self.stack_offset(rsp.wrapping_add(release));
        Ok(effect)
    }

    /// JMP to a far pointer.
    ///
    /// # Errors
    /// #GP, #NP by the selector; a call gate is unsupported.
    pub fn far_jump(
        &mut self,
        regs: &mut Registers,
        memory: &mut dyn Linear,
        to: Far,
    ) -> Result<Effect, Refusal> {
        let cs = self.jump_target(memory, to)?;
        (self.cs, regs.rip) = (cs, to.offset);
        Ok(Effect::NONE)
    }

    /// CALL to a far pointer, whose return address `next` takes two words of `size` bytes.
    ///
    /// # Errors
    /// As [`Self::far_jump`], and of writing the stack.
    pub fn far_call(
        &mut self,
        regs: &mut Registers,
        memory: &mut dyn Linear,
        to: Far,
        size: usize,
        next: u64,
    ) -> Result<Effect, Refusal> {
        let cs = self.jump_target(memory, to)?;
        let words = [next, u64::from(self.cs.selector.0)];
        let frame: Vec<u8> = words
            .iter()
            .flat_map(|word| word.to_le_bytes().into_iter().take(size))
            .collect();
        regs.general[registers::RSP] = self.store_below(regs, memory, &frame)?;
        (self.cs, regs.rip) = (cs, to.offset);
        Ok(Effect::NONE)
    }

    /// The code segment of JMP and CALL, at the level that holds.
    fn jump_target(&self, memory: &mut dyn Linear, to: Far) -> Result<Segment, Refusal> {
        let selector = to.selector;
        if selector.is_null() {
            return Err(Exception::protection(0).into());
        }
        let found = self.find(memory, selector, Exception::PROTECTION)?;
        let rights = found.attributes();
        let refused = Exception::protection(selector.error());
        if !rights.is_memory() && rights.kind() == system::CALL_GATE {
            return Err(Refusal::Unsupported("a call gate"));
        }
        let reachable = if rights.is_conforming() {
            rights.dpl() <= self.cpl
        } else {
            selector.rpl() <= self.cpl && rights.dpl() == self.cpl
        };
        if !rights.is_code() || !reachable || (rights.is_long() && rights.is_32()) {
            return Err(refused.into());
        }
        if !rights.is_present() {
            return Err(Exception::with_error(Exception::NOT_PRESENT, selector.error()).into());
        }
        let cs = found.descriptor.segment(selector.with_rpl(self.cpl));
        check_offset(&cs, to.offset)?;
        check_supported(&cs, self.cpl)?;
        let marked = self.mark_accessed(memory, found)?;
        Ok(marked.segment(cs.selector))
    }

    /// The code segment of RETF and IRET, and the level that its selector asks for.
    pub(super) fn return_target(
        &self,
        memory: &mut dyn Linear,
        selector: Selector,
        rip: u64,
    ) -> Result<Return, Refusal> {
        if selector.is_null() {
            return Err(Exception::protection(0).into());
        }
        let found = self.find(memory, selector, Exception::PROTECTION)?;
        let rights = found.attributes();
        let cpl = selector.rpl();
        let level_fits = if rights.is_conforming() {
            rights.dpl() <= cpl
        } else {
            rights.dpl() == cpl
        };
        if !rights.is_code()
            || cpl < self.cpl
            || !level_fits
            || (rights.is_long() && rights.is_32())
        {
            return Err(Exception::protection(selector.error()).into());
        }
        if !rights.is_present() {
            return Err(Exception::with_error(Exception::NOT_PRESENT, selector.error()).into());
        }
        let cs = found.descriptor.segment(selector);
        check_offset(&cs, rip)?;
        check_supported(&cs, cpl)?;
        let cs = self.mark_accessed(memory, found)?.segment(selector);
        Ok(Return { cs, cpl, rip })
    }

    /// The stack segment that goes with a return's code segment.
    pub(super) fn return_stack(
        &self,
        memory: &mut dyn Linear,
        selector: Selector,
        to: &Return,
    ) -> Result<Segment, Refusal> {
        if selector.is_null() {
            // SDM vol. 2, IRET: 64-bit code below CPL 3 may have a null stack segment.
            if !to.cs.attributes.is_long() || to.cpl == 3 {
                return Err(Exception::protection(0).into());
            }
            return Ok(Segment::null(selector));
        }
        self.stack_of_level(memory, selector, to.cpl)
    }

    /// Go on where a return leads. Cannot fail any more.
    pub(super) fn resume(&mut self, regs: &mut Registers, to: Return, ss: Segment) -> Effect {
        let outer = to.cpl != self.cpl;
        (self.cs, self.ss, self.cpl, regs.rip) = (to.cs, ss, to.cpl, to.rip);
        if outer {
            self.drop_inner_segments();
        }
        Effect::when(outer, Changes::LEVEL)
    }

    /// Data segments of an inner level become null (SDM vol. 2, RET). FS and GS keep their bases,
    /// as processors do.
    fn drop_inner_segments(&mut self) {
        let cpl = self.cpl;
        for name in [
            SegmentName::Es,
            SegmentName::Ds,
            SegmentName::Fs,
            SegmentName::Gs,
        ] {
            let segment = self.segment_mut(name);
            let rights = segment.attributes;
            if segment.is_usable() && !rights.is_conforming() && rights.dpl() < cpl {
                segment.selector = Selector(0);
                segment.attributes = Default::default();
            }
        }
    }
}

/// The offset must be one in the segment: canonical, or within the limit of 32-bit code.
fn check_offset(cs: &Segment, rip: u64) -> Result<(), Exception> {
    let fits = if cs.attributes.is_long() {
        is_canonical(rip)
    } else {
        cs.covers(rip, 1)
    };
    if fits {
        Ok(())
    } else {
        Err(Exception::protection(0))
    }
}

/// What this machine runs: 64-bit code at CPL 0 and 3, 32-bit code at CPL 3.
fn check_supported(cs: &Segment, cpl: u8) -> Result<(), Refusal> {
    let rights = cs.attributes;
    match cpl {
        0 if rights.is_long() => Ok(()),
        3 if rights.is_long() || rights.is_32() => Ok(()),
        0 => Err(Refusal::Unsupported("code at CPL 0 that is not 64-bit")),
        3 => Err(Refusal::Unsupported("16-bit code")),
        _ => Err(Refusal::Unsupported("code at CPL 1 or 2")),
    }
}
