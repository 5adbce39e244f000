//! Operands: registers, and effective addresses (SDM vol. 1, 3.7.5).

use iced_x86::{OpKind, Register};

use super::step::{Failure, Step};
use crate::machine::cpu::{Exception, Place, Refusal, SegmentName};

impl Step<'_> {
    /// The register of an operand; `None` if it is none.
    pub fn register(&self, operand: u32) -> Register {
        self.instruction
            .try_op_register(operand)
            .unwrap_or(Register::None)
    }

    /// Whether an operand is memory with an effective address.
    fn is_memory(&self, operand: u32) -> bool {
        matches!(self.instruction.try_op_kind(operand), Ok(OpKind::Memory))
    }

    /// The value of a general register, or of the part of it that `register` names.
    pub fn value(&self, register: Register) -> u64 {
        let Some(value) = general(register).and_then(|number| self.regs.general.get(number)) else {
            return 0;
        };
        match register.size() {
            2 => value & 0xffff,
            4 => value & 0xffff_ffff,
            _ => *value,
        }
    }

    /// Set a general register as an operation of its width does: 4 bytes clear the upper half.
    pub fn set(&mut self, register: Register, value: u64) {
        let slot = general(register).and_then(|number| self.regs.general.get_mut(number));
        if let Some(slot) = slot {
            *slot = merge(*slot, value, register.size());
        }
    }

    /// The place of the memory operand.
    ///
    /// # Errors
    /// #UD if the instruction has a register there.
    pub fn place(&self) -> Result<Place, Exception> {
        let instruction = self.instruction;
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        let width = if base != Register::None {
            base.size()
        } else if index != Register::None {
            index.size()
        } else {
            instruction.memory_displ_size() as usize
        };
        let segment = segment_name(instruction.memory_segment());
        let segment = segment.ok_or(Exception::invalid_opcode())?;
        // A RIP-relative displacement is decoded as the address itself, and RIP has no value here.
        let start = self.value(base);
        let scale = u64::from(instruction.memory_index_scale());
        let offset = start
            .wrapping_add(self.value(index).wrapping_mul(scale))
            .wrapping_add(instruction.memory_displacement64());
        Ok(Place {
            segment,
            offset: truncate(offset, width),
        })
    }

    /// A 16-bit operand, of a register or of memory.
    ///
    /// # Errors
    /// Of reading memory.
    pub fn read_16(&mut self, operand: u32) -> Result<u16, Failure> {
        let value = if self.is_memory(operand) {
            let place = self.place()?;
            self.cpu.read(self.memory, place, 2)?
        } else {
            self.value(self.register(operand))
        };
        Ok(value as u16)
    }

    /// Store to the first operand: a register as wide as it is, or 16 bits of memory.
    ///
    /// # Errors
    /// Of writing memory.
    pub fn store(&mut self, value: u64) -> Result<(), Refusal> {
        if self.is_memory(0) {
            let place = self.place()?;
            let bytes = (value as u16).to_le_bytes();
            return self.cpu.write_bytes(self.memory, place, &bytes);
        }
        self.set(self.register(0), value);
        Ok(())
    }
}

/// The number of a general register of 2, 4 or 8 bytes.
fn general(register: Register) -> Option<usize> {
    (register.is_gpr16() || register.is_gpr32() || register.is_gpr64()).then(|| register.number())
}

/// The segment register of this name.
pub(super) fn segment_name(register: Register) -> Option<SegmentName> {
    Some(match register {
        Register::ES => SegmentName::Es,
        Register::CS => SegmentName::Cs,
        Register::SS => SegmentName::Ss,
        Register::DS => SegmentName::Ds,
        Register::FS => SegmentName::Fs,
        Register::GS => SegmentName::Gs,
        _ => return None,
    })
}

/// The low `width` bytes: an address of that size.
pub(super) fn truncate(value: u64, width: usize) -> u64 {
    match width {
        2 => value & 0xffff,
        4 => value & 0xffff_ffff,
        _ => value,
    }
}

/// A register after an operation of `width` bytes has written `value` to it.
pub(super) fn merge(old: u64, value: u64, width: usize) -> u64 {
    match width {
        1 => old & !0xff | value & 0xff,
        2 => old & !0xffff | value & 0xffff,
        4 => value & 0xffff_ffff,
        _ => value,
    }
}
