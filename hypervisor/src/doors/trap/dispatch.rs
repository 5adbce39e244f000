//! From an instruction to its family.

use iced_x86::Mnemonic;

use super::operand::segment_name;
use super::step::{Answer, Flow, Step, done};
use super::{Class, classify};
use crate::machine::cpu::registers::{RAX, RCX};
use crate::machine::cpu::{Exception, Inspection, Refusal, Selector};

impl Step<'_> {
    /// Do the instruction.
    pub fn dispatch(&mut self) -> Answer {
        use Mnemonic as M;
        match self.instruction.mnemonic() {
            M::Cli => Ok(Flow::Next(self.cpu.disable_interrupts(self.regs)?)),
            M::Sti => Ok(Flow::Next(self.cpu.enable_interrupts(self.regs)?)),
            M::Hlt => Ok(Flow::Next(self.cpu.halt()?)),
            M::Pushf => self.push_flags(2),
            M::Pushfd => self.push_flags(4),
            M::Pushfq => self.push_flags(8),
            M::Popf => self.pop_flags(2),
            M::Popfd => self.pop_flags(4),
            M::Popfq => self.pop_flags(8),
            M::Mov => self.mov(),
            M::Push => self.push(),
            M::Pop => self.pop(),
            M::Lss | M::Lfs | M::Lgs => self.load_far_pointer(),
            M::Iret => self.iret(2),
            M::Iretd => self.iret(4),
            M::Iretq => self.iret(8),
            M::Retf => self.far_return(),
            M::Call => self.far_call(),
            M::Jmp => self.far_jump(),
            M::Int => self.interrupt(self.instruction.immediate8()),
            M::Int3 => self.interrupt(Exception::BREAKPOINT),
            M::Into => self.interrupt_on_overflow(),
            M::Int1 => self.debug_interrupt(),
            M::Syscall => Ok(Flow::Entered(self.cpu.syscall(self.regs, self.next)?)),
            // Its #DB is in the effect: the TF from before does not count.
            M::Sysret => Ok(Flow::Entered(self.cpu.sysret(self.regs, false)?)),
            M::Sysretq => Ok(Flow::Entered(self.cpu.sysret(self.regs, true)?)),
            M::Sysenter => Ok(Flow::Entered(self.cpu.sysenter(self.regs)?)),
            M::Sysexit => Ok(Flow::Returned(self.cpu.sysexit(self.regs, false)?)),
            M::Sysexitq => Ok(Flow::Returned(self.cpu.sysexit(self.regs, true)?)),
            M::Swapgs => Ok(Flow::Next(self.cpu.swap_gs()?)),
            M::In => self.input(),
            M::Out => self.output(),
            M::Insb | M::Insw | M::Insd => self.input_string(),
            M::Outsb | M::Outsw | M::Outsd => self.output_string(),
            M::Cpuid => self.identify(),
            M::Lar => self.inspect(Inspection::Rights),
            M::Lsl => self.inspect(Inspection::Limit),
            M::Verr => self.inspect(Inspection::Read),
            M::Verw => self.inspect(Inspection::Write),
            _ => self.system(),
        }
    }

    /// What no family knows. The verbs have no instruction of virtualization, SGX, protection keys
    /// and the like; `Cpu::identify` hides their features, so they are #UD.
    pub fn unknown(&self) -> Answer {
        Err(match classify(self.instruction) {
            Class::Innocuous => Refusal::Unsupported(
                "an emulation of an instruction that is neither privileged nor sensitive",
            ),
            Class::Privileged | Class::Silent => Exception::invalid_opcode().into(),
        }
        .into())
    }

    fn push_flags(&mut self, size: usize) -> Answer {
        self.cpu.push_flags(self.regs, self.memory, size)?;
        done()
    }

    fn pop_flags(&mut self, size: usize) -> Answer {
        self.cpu.pop_flags(self.regs, self.memory, size)?;
        done()
    }

    /// MOV of segment, control and debug registers.
    fn mov(&mut self) -> Answer {
        let (to, from) = (self.register(0), self.register(1));
        if let Some(name) = segment_name(to) {
            let selector = Selector(self.read_16(1)?);
            let effect = self.cpu.load_segment(self.memory, name, selector)?;
            return Ok(Flow::Next(effect));
        }
        if let Some(name) = segment_name(from) {
            self.store(self.cpu.segment(name).selector.0.into())?;
            return done();
        }
        let number = |register: iced_x86::Register| register.number() as u8;
        if to.is_cr() {
            let value = self.value(from);
            Ok(Flow::Next(self.cpu.write_control(number(to), value)?))
        } else if to.is_dr() {
            let value = self.value(from);
            Ok(Flow::Next(self.cpu.write_debug(number(to), value)?))
        } else if from.is_cr() {
            let value = self.cpu.read_control(number(from))?;
            self.set(to, value);
            done()
        } else if from.is_dr() {
            let value = self.cpu.read_debug(number(from))?;
            self.set(to, value);
            done()
        } else {
            self.unknown()
        }
    }

    fn push(&mut self) -> Answer {
        let Some(name) = segment_name(self.register(0)) else {
            return self.unknown();
        };
        let selector = self.cpu.segment(name).selector.0;
        let size = self.stack_bytes();
        self.cpu
            .push(self.regs, self.memory, selector.into(), size)?;
        done()
    }

    fn pop(&mut self) -> Answer {
        let Some(name) = segment_name(self.register(0)) else {
            return self.unknown();
        };
        let size = self.stack_bytes();
        let effect = self.cpu.pop_segment(self.regs, self.memory, name, size)?;
        Ok(Flow::Next(effect))
    }

    /// How many bytes the instruction moves the stack pointer.
    fn stack_bytes(&self) -> usize {
        self.instruction.stack_pointer_increment().unsigned_abs() as usize
    }

    fn identify(&mut self) -> Answer {
        let leaf = self.regs.general[RAX] as u32;
        let subleaf = self.regs.general[RCX] as u32;
        let [eax, ebx, ecx, edx] = self.cpu.identify(self.cpuid, leaf, subleaf);
        // In the order of their numbers: rax rcx rdx rbx.
        for (number, value) in [eax, ecx, edx, ebx].into_iter().enumerate() {
            self.regs.set_32(number, value);
        }
        done()
    }

    fn inspect(&mut self, inspection: Inspection) -> Answer {
        use crate::machine::cpu::registers::flag;
        // VERR and VERW have one operand, LAR and LSL a second.
        let has_result = matches!(inspection, Inspection::Rights | Inspection::Limit);
        let selector = Selector(self.read_16(u32::from(has_result))?);
        let answer = self.cpu.inspect(self.memory, inspection, selector)?;
        self.regs.set(flag::ZF, answer.is_some());
        if let (Some(value), true) = (answer, has_result) {
            self.set(self.register(0), value);
        }
        done()
    }
}
