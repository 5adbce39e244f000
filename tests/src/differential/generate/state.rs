//! Flags, control registers, descriptor tables, segments, MSRs and ports.

use case_runner::place;
use iced_x86::code_asm::registers::*;
use iced_x86::code_asm::{AsmRegisterSegment, CodeAssembler, word_ptr};

use super::{Assembled, Maker};

/// The port of the UART that holds a byte and does nothing with it.
const SCRATCH: u16 = hypercall_abi::layout::UART_PORT + 7;
/// CR0 as a case finds it.
const CR0: u64 = 0x8001_0033;
/// CR4 as a case finds it.
const CR4: u64 = 0x620;
/// CF, PF, AF, ZF, SF, OF.
const ARITHMETIC: u64 = 0x8d5;
/// Segment registers that MOV loads.
const SEGMENTS: [AsmRegisterSegment; 5] = [ds, es, ss, fs, gs];

type Kind = fn(&mut Maker) -> Assembled;

impl Maker {
    /// A privileged or a sensitive instruction.
    pub fn state(&mut self) -> Assembled {
        const FAULTING: [Kind; 13] = [
            Maker::interrupt_flag,
            Maker::port,
            Maker::control_0,
            Maker::control_2,
            Maker::control_3,
            Maker::control_4,
            Maker::control_8,
            Maker::read_control,
            Maker::debug,
            Maker::load_table,
            Maker::load_system,
            Maker::status_word,
            Maker::one_byte,
        ];
        const SILENT: [Kind; 8] = [
            Maker::flags_by_stack,
            Maker::flags_by_stack,
            Maker::store_table,
            Maker::store_system,
            Maker::load_segment,
            Maker::store_segment,
            Maker::segments_by_stack,
            Maker::inspect,
        ];
        let msr: Kind = Maker::msr;
        let kind = match (self.level, self.random.below(5)) {
            (_, 0) => msr,
            (0, 1 | 2) => self.one_of(&SILENT),
            // POPF at CPL 3 is the real processor's own.
            (3, 1) if !self.is_io_level => Maker::pop_flags,
            _ => self.one_of(&FAULTING),
        };
        kind(self)
    }

    fn interrupt_flag(&mut self) -> Assembled {
        match self.steps || self.once_in(2) {
            true => self.code.cli(),
            false => self.code.sti(),
        }
    }

    fn flags_by_stack(&mut self) -> Assembled {
        match self.random.below(4) {
            0 => {
                self.code.pushfq()?;
                let register = self.register();
                self.code.pop(register)
            }
            1 => self.code.pushf(),
            _ => self.pop_flags(),
        }
    }

    fn pop_flags(&mut self) -> Assembled {
        let flags = self.flags();
        self.code.push(flags as i32)?;
        match self.random.below(4) {
            0 => self.code.popf(),
            _ => self.code.popfq(),
        }
    }

    fn port(&mut self) -> Assembled {
        self.code.mov(edx, u32::from(SCRATCH))?;
        match self.random.below(4) {
            0 | 1 => self.code.out(dx, al),
            2 => self.code.in_(al, dx),
            _ => {
                let at = self.address();
                self.code.mov(rsi, at)?;
                self.code.mov(rdi, at)?;
                match self.once_in(2) {
                    true => self.code.outsb(),
                    false => self.code.insb(),
                }
            }
        }
    }

    fn control_0(&mut self) -> Assembled {
        // MP, EM, TS, NE, WP, AM, NW, CD; PE and PG; a reserved one.
        let bits = [1, 2, 2, 3, 3, 5, 16, 16, 18, 29, 30, 0, 31, 4, 6];
        let value = CR0 ^ 1 << self.one_of(&bits) ^ u64::from(self.once_in(2)) << 3;
        let register = self.register();
        self.code.mov(register, value)?;
        self.code.mov(cr0, register)
    }

    fn control_2(&mut self) -> Assembled {
        let register = self.register();
        self.code.mov(cr2, register)
    }

    fn control_3(&mut self) -> Assembled {
        let root = self.one_of(&[place::ROOT, place::ROOT, place::OTHER_ROOT]);
        let bits = self.one_of(&[0, 0, 0, 0x18, 8, 1, 0xfff]);
        let register = self.register();
        self.code.mov(register, root | bits)?;
        self.code.mov(cr3, register)
    }

    fn control_4(&mut self) -> Assembled {
        // TSD, DE, PSE, PAE, MCE, PGE, PCE, OSFXSR, OSXMMEXCPT, LA57, VMXE; reserved ones.
        let bits = [2, 3, 4, 5, 6, 7, 8, 9, 9, 10, 12, 13, 15, 24, 31];
        let mut value = CR4 ^ 1 << self.one_of(&bits);
        if self.once_in(3) {
            value ^= 1 << self.one_of(&bits);
        }
        let register = self.register();
        self.code.mov(register, value)?;
        self.code.mov(cr4, register)
    }

    fn control_8(&mut self) -> Assembled {
        let register = self.register();
        let value = self.random.below(16);
        self.code.mov(register, value)?;
        self.code.mov(cr8, register)
    }

    fn read_control(&mut self) -> Assembled {
        let register = self.register();
        let control = self.one_of(&[cr0, cr2, cr3, cr4, cr8, cr0, cr1, cr5, cr15]);
        let exists = ![cr1, cr5, cr15].contains(&control);
        let control = if exists || self.level == 0 {
            control
        } else {
            cr0
        };
        self.code.mov(register, control)
    }

    fn debug(&mut self) -> Assembled {
        let debug = self.one_of(&[dr0, dr1, dr2, dr3, dr4, dr5, dr6, dr7, dr6, dr7]);
        let register = self.register();
        // With CR4.DE, DR4 and DR5 do not exist.
        if self.level == 3 && (debug == dr4 || debug == dr5) {
            return self.code.mov(register, dr0);
        }
        match self.random.below(4) {
            0 => self.code.mov(register, debug),
            _ => {
                let value = match debug {
                    // No breakpoint is enabled.
                    _ if debug == dr7 || debug == dr5 => {
                        self.one_of(&[0, 0x400, 0x300, 0x700, 0xffff_0400, 1 << 32])
                    }
                    _ if debug == dr6 || debug == dr4 => {
                        self.one_of(&[0, 0xffff_0ff0, 0xe00f, 0xffff_eff0, 1 << 40])
                    }
                    _ => self.value(),
                };
                self.code.mov(register, value)?;
                self.code.mov(debug, register)
            }
        }
    }

    fn load_table(&mut self) -> Assembled {
        // A table that is elsewhere would end the machine; other operands are those that fault.
        let number = self.random.below(place::TABLE_POINTER_COUNT + 2);
        let (at, is_idt) = match number {
            ..place::TABLE_POINTER_COUNT => (
                place::TABLE_POINTERS + number * 16,
                number >= place::TABLE_POINTER_COUNT / 2,
            ),
            _ => (
                self.one_of(&[place::ABSENT, 0x8000_0000_0000, place::ABSENT - 4]),
                number & 1 == 0,
            ),
        };
        let operand = self.operand(at)?;
        match is_idt {
            true => self.code.lidt(operand),
            false => self.code.lgdt(operand),
        }
    }

    fn store_table(&mut self) -> Assembled {
        // Inside a page: whether a part is stored before a fault is the processor's affair.
        let at = self.address() & !15;
        let operand = self.operand(at)?;
        match self.once_in(2) {
            true => self.code.sidt(operand),
            false => self.code.sgdt(operand),
        }
    }

    fn store_system(&mut self) -> Assembled {
        let (whole, half, quarter) = (self.register(), self.half(), self.quarter());
        match self.random.below(4) {
            0 => {
                let at = self.address();
                self.operand(at)?;
                let operand = word_ptr(rsi);
                match self.random.below(3) {
                    0 => self.code.str(operand),
                    1 => self.code.sldt(operand),
                    _ => self.code.smsw(operand),
                }
            }
            1 => match self.random.below(3) {
                0 => self.code.str(whole),
                1 => self.code.sldt(whole),
                _ => self.code.smsw(whole),
            },
            2 => match self.random.below(3) {
                0 => self.code.str(half),
                1 => self.code.sldt(half),
                _ => self.code.smsw(half),
            },
            _ => match self.random.below(3) {
                0 => self.code.str(quarter),
                1 => self.code.sldt(quarter),
                _ => self.code.smsw(quarter),
            },
        }
    }

    fn load_system(&mut self) -> Assembled {
        let selector = match self.random.below(3) {
            0 => self.selector(),
            _ => self.one_of(&[place::LOCAL, place::OTHER_TASK, place::TASK, 0]),
        };
        self.code.mov(edi, u32::from(selector))?;
        // QEMU takes a null selector for a task state, and ends itself with the next event.
        match selector & !3 == 0 || self.once_in(2) {
            true => self.code.lldt(di),
            false => self.code.ltr(di),
        }
    }

    fn status_word(&mut self) -> Assembled {
        let value = self.random.below(16) as u32;
        self.code.mov(eax, value)?;
        match self.random.below(3) {
            0 => self.code.clts(),
            _ => self.code.lmsw(ax),
        }
    }

    fn one_byte(&mut self) -> Assembled {
        match self.random.below(4) {
            0 => self.code.swapgs(),
            1 => {
                let at = self.place()?;
                self.code.invlpg(at)
            }
            2 => self.code.wbinvd(),
            _ => self.identify(),
        }
    }

    /// CPUID, whose answers no two modes need share.
    fn identify(&mut self) -> Assembled {
        let leaf = self.one_of(&[0u32, 1, 7, 0x8000_0000, 0x4000_0000]);
        self.code.mov(eax, leaf)?;
        self.code.xor(ecx, ecx)?;
        self.code.cpuid()?;
        self.code.mov(eax, 1)?;
        self.code.mov(ebx, eax)?;
        self.code.mov(ecx, eax)?;
        self.code.mov(edx, eax)
    }

    fn load_segment(&mut self) -> Assembled {
        let selector = self.selector();
        let register = self.one_of(&SEGMENTS);
        if register == ss {
            // A null selector with another level than the code's: QEMU does not refuse it.
            let selector = if selector < 4 { 0 } else { selector };
            self.code.mov(ecx, u32::from(selector))?;
            return self.code.mov(ss, ecx);
        }
        match self.random.below(6) {
            0 => {
                let at = self.address();
                self.operand(at)?;
                self.code.mov(register, word_ptr(rsi))
            }
            1 => {
                let from = self.register();
                self.code.mov(register, from)
            }
            _ => {
                self.code.mov(ecx, u32::from(selector))?;
                self.code.mov(register, ecx)
            }
        }
    }

    fn store_segment(&mut self) -> Assembled {
        let from = self.one_of(&[cs, ds, es, ss, fs, gs]);
        let (whole, half, quarter) = (self.register(), self.half(), self.quarter());
        match self.random.below(4) {
            0 => {
                let at = self.address();
                self.operand(at)?;
                self.code.mov(word_ptr(rsi), from)
            }
            1 => self.code.mov(whole, from),
            2 => self.code.mov(half, from),
            _ => self.code.mov(quarter, from),
        }
    }

    fn segments_by_stack(&mut self) -> Assembled {
        let selector = self.selector();
        match self.random.below(6) {
            0 => self.code.push(fs),
            1 => self.code.push(gs),
            // With an operand of 16 bits.
            2 => self.code.db(&[0x66, 0x0f, 0xa0]),
            3 => self.code.db(&[0x66, 0x0f, 0xa9]),
            4 => {
                self.code.push(i32::from(selector))?;
                self.code.pop(fs)
            }
            _ => {
                self.code.push(i32::from(selector))?;
                self.code.pop(gs)
            }
        }
    }

    fn inspect(&mut self) -> Assembled {
        let selector = self.selector();
        self.code.mov(ecx, u32::from(selector))?;
        let half = self.half();
        match self.random.below(4) {
            0 => self.code.lar(half, ecx),
            1 => self.code.lsl(half, ecx),
            2 => self.code.verr(cx),
            _ => self.code.verw(cx),
        }
    }

    fn msr(&mut self) -> Assembled {
        const BASES: [u32; 4] = [0xc000_0100, 0xc000_0101, 0xc000_0102, 0xc000_0082];
        const OTHERS: [u32; 7] = [
            0xc000_0081,
            0xc000_0083,
            0xc000_0084,
            0x174,
            0x175,
            0x176,
            0xc000_0080,
        ];
        // None of these exists.
        const UNKNOWN: [u32; 4] = [0x1234, 0xc000_7777, 0xffff_ffff, 0x4b56_4dff];
        match self.random.below(6) {
            0 => {
                let index = match self.random.below(4) {
                    0 => self.one_of(&UNKNOWN),
                    1 => self.one_of(&OTHERS),
                    _ => self.one_of(&BASES),
                };
                self.code.mov(ecx, index)?;
                self.code.rdmsr()
            }
            1 => {
                let index = self.one_of(&OTHERS);
                let value = match index {
                    // SCE, LME, LMA, NXE stays; a reserved one.
                    0xc000_0080 => 0xd01 ^ self.one_of(&[0, 1, 1 << 8, 1 << 10, 1 << 16, 1 << 63]),
                    // The upper half of SFMASK and SYSENTER_CS is reserved on some processors. QEMU's
                    // SYSCALL clears the flags of arithmetic, whether they are in SFMASK or not.
                    0xc000_0084 => self.value() & 0xffff_ffff | ARITHMETIC,
                    0x174 => self.value() & 0xffff,
                    0xc000_0081 => self.value(),
                    _ => self.canonical(),
                };
                write_msr(&mut self.code, index, value)
            }
            2 => {
                let index = self.one_of(&UNKNOWN);
                write_msr(&mut self.code, index, 0)
            }
            _ => {
                let index = self.one_of(&BASES);
                let value = self.canonical();
                write_msr(&mut self.code, index, value)
            }
        }
    }
}

fn write_msr(code: &mut CodeAssembler, index: u32, value: u64) -> Assembled {
    code.mov(ecx, index)?;
    code.mov(eax, value as u32)?;
    code.mov(edx, (value >> 32) as u32)?;
    code.wrmsr()
}
