//! One event goes through its gate of the interrupt descriptor table (SDM vol. 3, 6.12 and 6.14).
//! Called by [`super::deliver`].

use super::registers::{self, flag};
use super::segment::system;
use super::{
    Changes, Cpu, Effect, Exception, Linear, Refusal, Registers, Segment, Selector, is_canonical,
};

/// An error code names an entry of the interrupt descriptor table.
const IN_IDT: u32 = 2;
/// Offsets in the task-state segment (SDM vol. 3, figure 8-11).
const RSP0: u64 = 4;
const IST1: u64 = 36;

/// An event on its way to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub vector: u8,
    pub error: Option<u32>,
    /// INT n, INT3, INTO: the gate must admit the level, and error codes do not have EXT set.
    pub by_instruction: bool,
    /// The return address.
    pub rip: u64,
    /// The flags that the frame holds.
    pub rflags: u64,
}

impl Entry {
    /// The bit EXT of the error codes that its delivery raises (SDM vol. 3, 6.13).
    fn ext(&self) -> u32 {
        u32::from(!self.by_instruction)
    }
}

/// A gate, decoded.
struct Gate {
    selector: Selector,
    offset: u64,
    ist: u64,
    clears_if: bool,
}

impl Cpu {
    /// Go through the gate: push the frame, and load CS, RIP, SS, RSP, RFLAGS.
    ///
    /// # Errors
    /// The exception that the delivery raises; unsupported levels.
    pub(super) fn enter_gate(
        &mut self,
        regs: &mut Registers,
        memory: &mut dyn Linear,
        entry: &Entry,
    ) -> Result<Effect, Refusal> {
        let gate = self.gate(memory, entry)?;
        let (cs, cpl) = self.gate_target(memory, &gate, entry.ext())?;
        let inner = cpl < self.cpl;
        let top = if gate.ist > 0 {
            self.tss_stack(memory, IST1 + 8 * (gate.ist - 1), entry.ext())?
        } else if inner {
            self.tss_stack(memory, RSP0 + 8 * u64::from(cpl), entry.ext())?
        } else {
            regs.general[registers::RSP]
        };
        if !is_canonical(gate.offset) {
            return Err(Exception::protection(entry.ext()).into());
        }
        let rsp = self.push_frame(regs, memory, entry, top, cpl)?;

        let clear = flag::TF | flag::NT | flag::RF | flag::VM;
        regs.set(clear, false);
        if gate.clears_if {
            regs.set(flag::IF, false);
        }
        (regs.rip, regs.general[registers::RSP]) = (gate.offset, rsp);
        (self.cs, self.cpl) = (cs, cpl);
        if inner {
            self.ss = Segment::null(Selector(u16::from(cpl)));
        }
        Ok(Effect::when(inner, Changes::LEVEL))
    }

    fn gate(&self, memory: &mut dyn Linear, entry: &Entry) -> Result<Gate, Refusal> {
        let offset = u64::from(entry.vector) * 16;
        let error = (u32::from(entry.vector) * 8) | IN_IDT | entry.ext();
        let refused = Exception::protection(error);
        if offset + 15 > u64::from(self.idtr.limit) {
            return Err(refused.into());
        }
        let at = self.idtr.base.wrapping_add(offset);
        let descriptor = self.table_pair(memory, at)?;
        let (low, high) = (descriptor.low, descriptor.high);
        let rights = descriptor.attributes();
        let is_gate = matches!(rights.kind(), system::INTERRUPT_GATE | system::TRAP_GATE);
        if rights.is_memory() || !is_gate || (entry.by_instruction && rights.dpl() < self.cpl) {
            return Err(refused.into());
        }
        if !rights.is_present() {
            return Err(Exception::with_error(Exception::NOT_PRESENT, error).into());
        }
        Ok(Gate {
            selector: Selector((low >> 16) as u16),
            offset: low & 0xffff | low >> 32 & 0xffff_0000 | high << 32,
            ist: low >> 32 & 7,
            clears_if: rights.kind() == system::INTERRUPT_GATE,
        })
    }

    /// The gate's code segment, and the level that it runs at.
    fn gate_target(
        &self,
        memory: &mut dyn Linear,
        gate: &Gate,
        ext: u32,
    ) -> Result<(Segment, u8), Refusal> {
        let selector = gate.selector;
        if selector.is_null() {
            return Err(Exception::protection(ext).into());
        }
        let refused = Exception::protection(selector.error() | ext);
        let found = self.find_or(memory, selector)?.ok_or(refused)?;
        let rights = found.attributes();
        let is_64_bit = rights.is_long() && !rights.is_32();
        if !rights.is_code() || rights.dpl() > self.cpl || !is_64_bit {
            return Err(refused.into());
        }
        if !rights.is_present() {
            let error = selector.error() | ext;
            return Err(Exception::with_error(Exception::NOT_PRESENT, error).into());
        }
        let cpl = if rights.is_conforming() {
            self.cpl
        } else {
            rights.dpl()
        };
        if !matches!(cpl, 0 | 3) {
            return Err(Refusal::Unsupported("a handler at CPL 1 or 2"));
        }
        let descriptor = self.mark_accessed(memory, found)?;
        Ok((descriptor.segment(selector.with_rpl(cpl)), cpl))
    }

    /// A stack pointer of the task-state segment.
    fn tss_stack(&self, memory: &mut dyn Linear, offset: u64, ext: u32) -> Result<u64, Refusal> {
        if !self.tr.is_usable() || offset + 7 > u64::from(self.tr.limit) {
            let error = self.tr.selector.error() | ext;
            return Err(Exception::with_error(Exception::INVALID_TSS, error).into());
        }
        self.table_word(memory, self.tr.base.wrapping_add(offset))
    }

    /// Push the frame below `top` as code at `cpl` does; where the stack pointer is then.
    fn push_frame(
        &self,
        regs: &Registers,
        memory: &mut dyn Linear,
        entry: &Entry,
        top: u64,
        cpl: u8,
    ) -> Result<u64, Refusal> {
        let words = [
            u64::from(entry.error.unwrap_or(0)),
            entry.rip,
            u64::from(self.cs.selector.0),
            entry.rflags,
            regs.general[registers::RSP],
            u64::from(self.ss.selector.0),
        ];
        let mut bytes = [0; 48];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let frame = if entry.error.is_some() {
            &bytes[..]
        } else {
            &bytes[8..]
        };
        // SDM vol. 3, 6.14.2: the frame ends at a multiple of 16 bytes.
        let end = top & !15;
        let rsp = end.wrapping_sub(frame.len() as u64);
        if !is_canonical(end.wrapping_sub(1)) || !is_canonical(rsp) {
            return Err(Exception::with_error(Exception::STACK, entry.ext()).into());
        }
        let user = cpl == 3;
        if let Err(refusal) = memory.write(self, rsp, frame, user) {
            // The words are pushed one by one, from the top: the first that cannot be is the fault's.
            for below in (8..=frame.len() as u64).step_by(8) {
                memory.check_write(self, end.wrapping_sub(below), 8, user)?;
            }
            return Err(refusal);
        }
        Ok(rsp)
    }
}
