//! Segment registers are loaded: MOV, POP and LSS and its like (SDM vol. 2, MOV; vol. 3, 5.5 to 5.7).

use super::{
    Changes, Cpu, Effect, Exception, Linear, Refusal, Registers, Segment, SegmentName, Selector,
    registers,
};

impl Cpu {
    /// Load a segment register. SS holds interrupts off until the next instruction is done.
    ///
    /// # Errors
    /// #UD for CS; #GP, #NP, #SS by the selector and its descriptor; faults of the table's memory.
    pub fn load_segment(
        &mut self,
        memory: &mut dyn Linear,
        name: SegmentName,
        selector: Selector,
    ) -> Result<Effect, Refusal> {
        let segment = match name {
            SegmentName::Cs => return Err(Exception::invalid_opcode().into()),
            SegmentName::Ss => self.stack_segment(memory, selector)?,
            _ => self.data_segment(memory, selector)?,
        };
        *self.segment_mut(name) = segment;
        Ok(match name {
            SegmentName::Ss => Changes::SHADOW.into(),
            SegmentName::Fs | SegmentName::Gs => Changes::BASES.into(),
            _ => Effect::NONE,
        })
    }

    /// POP of a segment register, from a stack of words of `size` bytes.
    ///
    /// # Errors
    /// As [`Self::load_segment`], and of reading the stack.
    pub fn pop_segment(
        &mut self,
        regs: &mut Registers,
        memory: &mut dyn Linear,
        name: SegmentName,
        size: usize,
    ) -> Result<Effect, Refusal> {
        let selector = Selector(self.peek(regs, memory, 0, size)? as u16);
        let effect = self.load_segment(memory, name, selector)?;
        let top = regs.general[registers::RSP].wrapping_add(size as u64);
        regs.general[registers::RSP] = self.stack_offset(top);
        Ok(effect)
    }

    fn data_segment(
        &self,
        memory: &mut dyn Linear,
        selector: Selector,
    ) -> Result<Segment, Refusal> {
        if selector.is_null() {
            return Ok(Segment::null(selector));
        }
        let found = self.find(memory, selector, Exception::PROTECTION)?;
        let rights = found.attributes();
        let too_privileged =
            !rights.is_conforming() && (selector.rpl() > rights.dpl() || self.cpl > rights.dpl());
        if !rights.is_readable() || too_privileged {
            return Err(Exception::protection(selector.error()).into());
        }
        if !rights.is_present() {
            return Err(Exception::with_error(Exception::NOT_PRESENT, selector.error()).into());
        }
        Ok(self.mark_accessed(memory, found)?.segment(selector))
    }

    fn stack_segment(
        &self,
        memory: &mut dyn Linear,
        selector: Selector,
    ) -> Result<Segment, Refusal> {
        if selector.is_null() {
            // SDM vol. 2, MOV: 64-bit code below CPL 3 may have a null stack segment of its level.
            if !self.is_64_bit() || self.cpl == 3 || selector.rpl() != self.cpl {
                return Err(Exception::protection(0).into());
            }
            return Ok(Segment::null(selector));
        }
        self.stack_of_level(memory, selector, self.cpl)
    }

    /// The stack segment of a selector that is not null, for code at `cpl`.
    ///
    /// # Errors
    /// #GP or #SS with the selector; faults of the table's memory.
    pub(super) fn stack_of_level(
        &self,
        memory: &mut dyn Linear,
        selector: Selector,
        cpl: u8,
    ) -> Result<Segment, Refusal> {
        let found = self.find(memory, selector, Exception::PROTECTION)?;
        let rights = found.attributes();
        if selector.rpl() != cpl || !rights.is_writable() || rights.dpl() != cpl {
            return Err(Exception::protection(selector.error()).into());
        }
        if !rights.is_present() {
            return Err(Exception::with_error(Exception::STACK, selector.error()).into());
        }
        Ok(self.mark_accessed(memory, found)?.segment(selector))
    }
}
