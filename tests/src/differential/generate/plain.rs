//! Ordinary instructions, and the exceptions that they raise.

use iced_x86::code_asm::byte_ptr;
use iced_x86::code_asm::registers::*;

use super::{Assembled, Maker};
use case_runner::place;

impl Maker {
    /// An instruction that any program has. Its flags are all defined.
    pub fn plain(&mut self) -> Assembled {
        let (a, b) = (self.register(), self.register());
        match self.random.below(16) {
            0 => self.code.add(a, b),
            1 => self.code.sub(a, b),
            2 => self.code.cmp(a, b),
            3 => self.code.adc(a, b),
            4 => self.code.sbb(a, b),
            5 => self.code.inc(a),
            6 => self.code.neg(a),
            7 => {
                let value = self.value();
                self.code.mov(a, value)
            }
            8 => self.code.xchg(a, b),
            9 => self.code.push(a),
            10 => self.code.pop(a),
            11 => {
                let at = self.place()?;
                match self.random.below(3) {
                    0 => self.code.mov(at, a),
                    _ => self.code.mov(a, at),
                }
            }
            12 => self.divide(),
            13 => self.move_stack(),
            14 => self.string(),
            _ => self.one_of(&[Self::carry, Self::direction, Self::vector])(self),
        }
    }

    fn carry(&mut self) -> Assembled {
        self.code.stc()
    }

    fn direction(&mut self) -> Assembled {
        self.code.std()
    }

    /// What CR0.TS, CR0.EM and CR4.OSFXSR forbid.
    fn vector(&mut self) -> Assembled {
        match self.random.below(3) {
            0 => self.code.fninit(),
            1 => self.code.wait(),
            _ => self.code.xorps(xmm1, xmm1),
        }
    }

    fn divide(&mut self) -> Assembled {
        let divisor = self.one_of(&[0u32, 1, 3]);
        self.code.mov(ecx, divisor)?;
        self.code.xor(edx, edx)?;
        self.code.div(rcx)?;
        // DIV leaves all flags of arithmetic undefined.
        self.code.cmp(ecx, 1)
    }

    fn move_stack(&mut self) -> Assembled {
        let at = self.address() & !7;
        self.code.mov(rsp, at)?;
        match self.random.below(3) {
            0 => self.code.push(rax),
            1 => self.code.pop(rax),
            _ => Ok(()),
        }
    }

    fn string(&mut self) -> Assembled {
        let to = self.address();
        // Not from code: what is not reached by a branch reads as HLT there (docs/decisions/0011).
        let mut from = self.address();
        while (place::CODE..place::CODE + 0x1000).contains(&from) {
            from = self.address();
        }
        let count = self.random.below(5) as u32;
        self.code.mov(rsi, from)?;
        self.code.mov(rdi, to)?;
        self.code.mov(ecx, count)?;
        self.code.rep().movsb()
    }

    /// What decoders may take for something else.
    pub fn oddity(&mut self) -> Assembled {
        match self.random.below(8) {
            // PUSH ES, POP DS, INTO, AAM and a far CALL of 32-bit code; an undefined opcode.
            0 => {
                let byte = self.one_of(&[0x06, 0x1f, 0xce, 0xd4, 0x9a, 0x62, 0xea]);
                self.code.db(&[byte])
            }
            1 => self.code.ud2(),
            2 => {
                // LOCK before what may not have it.
                let bytes: [&[u8]; 2] = [&[0xf0, 0x90], &[0xf0, 0x01, 0xc0]];
                let bytes = self.one_of(&bytes);
                self.code.db(bytes)
            }
            // Prefixes without meaning.
            3 => {
                let prefix = self.one_of(&[0x66, 0x2e, 0x3e, 0x26, 0x36, 0x40, 0x48, 0x4f, 0x67]);
                self.code.db(&[prefix])?;
                match self.random.below(6) {
                    0 => self.code.cli(),
                    1 => self.code.clts(),
                    2 => self.code.swapgs(),
                    3 => self.code.db(&[0x0f, 0x20, 0xc0]),
                    4 => self.code.db(&[0x0f, 0x32]),
                    _ => self.code.nop(),
                }
            }
            // MOV from and to registers that do not exist.
            4 if self.level == 0 => {
                let register = self.one_of(&[1, 5, 6, 7]);
                self.code.db(&[0x0f, 0x22, 0xc0 | register << 3])
            }
            5 if self.level == 0 => {
                let register = self.random.below(8) as u8;
                self.code.db(&[0x44, 0x0f, 0x20, 0xc8 | register])
            }
            // An instruction longer than 15 bytes.
            6 => {
                self.code.db(&[0x66; 14])?;
                self.code.db(&[0x0f, 0x06])
            }
            _ => {
                let at = self.writable_address();
                self.operand(at)?;
                self.code.dec(byte_ptr(rsi))
            }
        }
    }
}
