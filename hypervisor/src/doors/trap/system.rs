//! Descriptor tables, model-specific registers, caches and translations.

use iced_x86::Mnemonic;

use super::step::{Answer, Flow, Step, done};
use crate::machine::cpu::registers::RCX;
use crate::machine::cpu::{Effect, Exception, Refusal, Selector};

/// The clock's model-specific register, which the bus has.
const TIME_STAMP: u32 = 0x10;

impl Step<'_> {
    /// Do an instruction of this family, or say that it is none.
    pub fn system(&mut self) -> Answer {
        use Mnemonic as M;
        match self.instruction.mnemonic() {
            M::Lgdt => {
                let place = self.place()?;
                self.cpu.load_gdt(self.memory, place)?;
                done()
            }
            M::Lidt => {
                let place = self.place()?;
                self.cpu.load_idt(self.memory, place)?;
                done()
            }
            M::Sgdt => {
                let place = self.place()?;
                self.cpu.store_table(self.memory, self.cpu.gdtr, place)?;
                done()
            }
            M::Sidt => {
                let place = self.place()?;
                self.cpu.store_table(self.memory, self.cpu.idtr, place)?;
                done()
            }
            M::Lldt => {
                self.cpu.require_kernel()?;
                let selector = Selector(self.read_16(0)?);
                self.cpu.load_ldt(self.memory, selector)?;
                done()
            }
            M::Ltr => {
                self.cpu.require_kernel()?;
                let selector = Selector(self.read_16(0)?);
                self.cpu.load_task(self.memory, selector)?;
                done()
            }
            M::Sldt => self.store_word(self.cpu.ldtr.selector.0.into()),
            M::Str => self.store_word(self.cpu.tr.selector.0.into()),
            M::Smsw => self.store_word(self.cpu.cr0),
            M::Lmsw => {
                self.cpu.require_kernel()?;
                let value = self.read_16(0)?;
                Ok(Flow::Next(self.cpu.load_status_word(value)?))
            }
            M::Clts => Ok(Flow::Next(self.cpu.clear_task_switched()?)),
            M::Rdmsr => self.read_msr(),
            M::Wrmsr => self.write_msr(),
            M::Rdpmc => {
                let value = self.cpu.read_counter()?;
                self.regs.set_edx_eax(value);
                done()
            }
            M::Rdtsc | M::Rdtscp => self.read_clock(),
            M::Rdpid => {
                let value = self.cpu.tsc_aux;
                self.set(self.register(0), value);
                done()
            }
            M::Xgetbv => {
                let value = self.cpu.read_extended(self.regs.ecx())?;
                self.regs.set_edx_eax(value);
                done()
            }
            M::Xsetbv => {
                let (index, value) = (self.regs.ecx(), self.regs.edx_eax());
                Ok(Flow::Next(self.cpu.write_extended(index, value)?))
            }
            M::Invlpg => {
                let place = self.place()?;
                Ok(Flow::Next(self.cpu.invalidate_page(place)?))
            }
            M::Invpcid => {
                let (kind, place) = (self.value(self.register(0)), self.place()?);
                let effect = self.cpu.invalidate_context(self.memory, kind, place)?;
                Ok(Flow::Next(effect))
            }
            // Guest memory is coherent: there is no cache to write back or to drop.
            M::Invd | M::Wbinvd | M::Wbnoinvd => {
                self.cpu.require_kernel()?;
                done()
            }
            M::Rdfsbase => self.read_base(false),
            M::Rdgsbase => self.read_base(true),
            M::Wrfsbase => self.write_base(false),
            M::Wrgsbase => self.write_base(true),
            _ => self.unknown(),
        }
    }

    fn store_word(&mut self, value: u64) -> Answer {
        self.store(value)?;
        done()
    }

    fn read_msr(&mut self) -> Answer {
        let number = self.regs.ecx();
        let value = match self.cpu.read_msr(number)? {
            Some(value) => value,
            None => self
                .ports
                .read_msr(number)
                .ok_or(Exception::protection(0))?,
        };
        self.regs.set_edx_eax(value);
        done()
    }

    fn write_msr(&mut self) -> Answer {
        let (number, value) = (self.regs.ecx(), self.regs.edx_eax());
        match self.cpu.write_msr(number, value)? {
            Some(effect) => Ok(Flow::Next(effect)),
            None if self.ports.write_msr(number, value) => Ok(Flow::Next(Effect::NONE)),
            None => Err(Exception::protection(0).into()),
        }
    }

    fn read_clock(&mut self) -> Answer {
        self.cpu.check_clock()?;
        let clock = self.ports.read_msr(TIME_STAMP);
        let clock = clock.ok_or(Refusal::Unsupported("a clock, and its bus has none"))?;
        self.regs.set_edx_eax(clock);
        if self.instruction.mnemonic() == Mnemonic::Rdtscp {
            self.regs.set_32(RCX, self.cpu.tsc_aux as u32);
        }
        done()
    }

    fn read_base(&mut self, gs: bool) -> Answer {
        let value = self.cpu.read_base(gs)?;
        self.set(self.register(0), value);
        done()
    }

    fn write_base(&mut self, gs: bool) -> Answer {
        let value = self.value(self.register(0));
        Ok(Flow::Next(self.cpu.write_base(gs, value)?))
    }
}
