//! IN, OUT, INS and OUTS (SDM vol. 2, each; vol. 1, chapter 19).

use iced_x86::{OpKind, Register};

use super::operand::{merge, segment_name, truncate};
use super::step::{Answer, Failure, Flow, Step, done};
use crate::machine::cpu::registers::{RAX, RCX, RDI, RDX, RSI, flag};
use crate::machine::cpu::{Effect, Exception, Place, SegmentName};

/// How many times one exit repeats a string instruction; the guest may be interrupted in between.
pub(super) const MOST_REPEATS: u64 = 4096;

impl Step<'_> {
    pub fn input(&mut self) -> Answer {
        let (accumulator, port) = (self.register(0), self.port(1));
        let width = accumulator.size();
        self.check_port(port, width)?;
        let value = self.ports.read(port, width as u8)?;
        let old = self.regs.general[RAX];
        self.regs.general[RAX] = merge(old, value.into(), width);
        done()
    }

    pub fn output(&mut self) -> Answer {
        let (port, width) = (self.port(0), self.register(1).size());
        self.check_port(port, width)?;
        let value = truncate(self.regs.general[RAX], width) as u32;
        let value = if width == 1 { value & 0xff } else { value };
        self.ports.write(port, width as u8, value)?;
        done()
    }

    pub fn input_string(&mut self) -> Answer {
        let (width, address) = self.string(0);
        self.repeat(RDI, width, address, |step, port, offset| {
            let place = Place {
                segment: SegmentName::Es,
                offset,
            };
            // The device must not lose what memory cannot take.
            let at = step.cpu.linear(place, width, true)?;
            let user = step.cpu.is_user();
            step.memory.check_write(step.cpu, at, width, user)?;
            let bytes = step.ports.read(port, width as u8)?.to_le_bytes();
            let bytes = bytes.get(..width).unwrap_or(&bytes);
            Ok(step.memory.write(step.cpu, at, bytes, user)?)
        })
    }

    pub fn output_string(&mut self) -> Answer {
        let (width, address) = self.string(1);
        let segment = segment_name(self.instruction.memory_segment());
        let segment = segment.ok_or(Exception::invalid_opcode())?;
        self.repeat(RSI, width, address, |step, port, offset| {
            let place = Place { segment, offset };
            let value = step.cpu.read(step.memory, place, width)?;
            Ok(step.ports.write(port, width as u8, value as u32)?)
        })
    }

    /// Widths in bytes of a string instruction's elements, and of its addresses.
    fn string(&self, operand: u32) -> (usize, usize) {
        let address = match self.instruction.try_op_kind(operand) {
            Ok(OpKind::MemoryESDI | OpKind::MemorySegSI) => 2,
            Ok(OpKind::MemoryESEDI | OpKind::MemorySegESI) => 4,
            _ => 8,
        };
        (self.instruction.memory_size().size(), address)
    }

    /// Do `element` once, or as often as RCX says; `pointer` is the register that walks.
    fn repeat(
        &mut self,
        pointer: usize,
        width: usize,
        address: usize,
        mut element: impl FnMut(&mut Self, u16, u64) -> Result<(), Failure>,
    ) -> Answer {
        let port = self.regs.general[RDX] as u16;
        self.check_port(port, width)?;
        let repeats = self.instruction.has_rep_prefix() || self.instruction.has_repne_prefix();
        let stride = if self.regs.has(flag::DF) {
            (width as u64).wrapping_neg()
        } else {
            width as u64
        };
        // With TF set, a trap follows each element (SDM vol. 3, 17.3.1.4).
        let most = if self.regs.has(flag::TF) {
            1
        } else {
            MOST_REPEATS
        };
        for _ in 0..most {
            let left = truncate(self.regs.general[RCX], address);
            if repeats && left == 0 {
                return done();
            }
            let at = self.regs.general.get(pointer).copied().unwrap_or(0);
            element(self, port, truncate(at, address))?;
            if let Some(register) = self.regs.general.get_mut(pointer) {
                *register = merge(at, at.wrapping_add(stride), address);
            }
            if !repeats {
                return done();
            }
            self.regs.general[RCX] = merge(self.regs.general[RCX], left - 1, address);
        }
        if truncate(self.regs.general[RCX], address) == 0 {
            return done();
        }
        Ok(Flow::Again(Effect::NONE))
    }

    /// The port that an operand names: DX or an immediate.
    fn port(&self, operand: u32) -> u16 {
        if self.register(operand) == Register::DX {
            self.regs.general[RDX] as u16
        } else {
            self.instruction.immediate8().into()
        }
    }

    fn check_port(&mut self, port: u16, width: usize) -> Result<(), Failure> {
        Ok(self
            .cpu
            .check_port(self.regs, self.memory, port, width as u8)?)
    }
}
