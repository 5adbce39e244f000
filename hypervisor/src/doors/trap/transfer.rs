//! Far transfers, returns, and interrupts that an instruction asks for.

use iced_x86::Code;

use super::operand::{segment_name, truncate};
use super::step::{Answer, Failure, Flow, Step, done};
use crate::machine::cpu::registers::flag;
use crate::machine::cpu::{Exception, Far, Selector};

impl Step<'_> {
    pub fn iret(&mut self, size: usize) -> Answer {
        Ok(Flow::Returned(self.cpu.iret(
            self.regs,
            self.memory,
            size,
        )?))
    }

    pub fn far_return(&mut self) -> Answer {
        let (size, release) = match self.instruction.code() {
            Code::Retfw => (2, 0),
            Code::Retfd => (4, 0),
            Code::Retfq => (8, 0),
            Code::Retfw_imm16 => (2, self.instruction.immediate16()),
            Code::Retfd_imm16 => (4, self.instruction.immediate16()),
            Code::Retfq_imm16 => (8, self.instruction.immediate16()),
            _ => return self.unknown(),
        };
        let effect = self.cpu.far_return(self.regs, self.memory, size, release)?;
        Ok(Flow::Returned(effect))
    }

    pub fn far_call(&mut self) -> Answer {
        let size = match self.instruction.code() {
            Code::Call_m1616 => 2,
            Code::Call_m1632 => 4,
            Code::Call_m1664 => 8,
            _ => return self.unknown(),
        };
        let to = self.far_pointer(size)?;
        let effect = self
            .cpu
            .far_call(self.regs, self.memory, to, size, self.next)?;
        Ok(Flow::Returned(effect))
    }

    pub fn far_jump(&mut self) -> Answer {
        let size = match self.instruction.code() {
            Code::Jmp_m1616 => 2,
            Code::Jmp_m1632 => 4,
            Code::Jmp_m1664 => 8,
            _ => return self.unknown(),
        };
        let to = self.far_pointer(size)?;
        Ok(Flow::Returned(self.cpu.far_jump(
            self.regs,
            self.memory,
            to,
        )?))
    }

    /// LSS, LFS, LGS.
    pub fn load_far_pointer(&mut self) -> Answer {
        use iced_x86::Mnemonic::{Lfs, Lgs, Lss};
        use iced_x86::Register::{FS, GS, SS};
        let segment = match self.instruction.mnemonic() {
            Lss => SS,
            Lfs => FS,
            Lgs => GS,
            _ => return self.unknown(),
        };
        let Some(name) = segment_name(segment) else {
            return self.unknown();
        };
        let register = self.register(0);
        let to = self.far_pointer(register.size())?;
        let effect = self.cpu.load_segment(self.memory, name, to.selector)?;
        self.set(register, to.offset);
        Ok(Flow::Next(effect))
    }

    /// The far pointer of the memory operand: an offset of `size` bytes, and a selector.
    fn far_pointer(&mut self, size: usize) -> Result<Far, Failure> {
        let place = self.place()?;
        let mut bytes = [0; 10];
        let into = bytes.get_mut(..size + 2).unwrap_or_default();
        self.cpu.read_bytes(self.memory, place, into)?;
        let [first @ .., _, _] = bytes;
        let offset = truncate(u64::from_le_bytes(first), size);
        let selector = match bytes.get(size..) {
            Some([low, high, ..]) => u16::from_le_bytes([*low, *high]),
            _ => 0,
        };
        Ok(Far {
            selector: Selector(selector),
            offset,
        })
    }

    /// INT n and INT3.
    pub fn interrupt(&mut self, vector: u8) -> Answer {
        let effect = self
            .cpu
            .software_interrupt(self.regs, self.memory, vector, self.next)?;
        Ok(Flow::Entered(effect))
    }

    /// INTO.
    pub fn interrupt_on_overflow(&mut self) -> Answer {
        if self.regs.has(flag::OF) {
            self.interrupt(Exception::OVERFLOW)
        } else {
            done()
        }
    }

    /// INT1.
    pub fn debug_interrupt(&mut self) -> Answer {
        let effect = self
            .cpu
            .debug_interrupt(self.regs, self.memory, self.next)?;
        Ok(Flow::Entered(effect))
    }
}
