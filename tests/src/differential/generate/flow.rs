//! Interrupts, returns, and far transfers.

use case_runner::place;
use iced_x86::code_asm::registers::*;
use iced_x86::code_asm::{AsmMemoryOperand, qword_ptr};

use super::{Assembled, Maker};

impl Maker {
    /// A transfer of control.
    pub fn flow(&mut self) -> Assembled {
        // Far transfers to CPL 3's own code, and IRET, are silent at CPL 3.
        if self.level == 3 {
            return self.user_flow();
        }
        match self.random.below(12) {
            0..4 => self.iret(),
            4 | 5 => self.far_return(),
            6 | 7 => self.far_pointer(),
            8 | 9 => self.interrupt(),
            10 => self.syscall(),
            _ => self.sysret(),
        }
    }

    fn user_flow(&mut self) -> Assembled {
        match self.random.below(3) {
            0 if !self.is_io_level => self.syscall(),
            1 => self.sysret(),
            _ => self.interrupt(),
        }
    }

    fn interrupt(&mut self) -> Assembled {
        match self.random.below(8) {
            0 => self.code.int3(),
            1 | 2 => {
                let vector = self.random.below(256) as u32;
                self.code.int(vector)
            }
            3 => self.code.int(4),
            4 => {
                let vector = self.one_of(&[0u32, 1, 3, 6, 8, 13, 14, 17, 0x20, 0x80]);
                self.code.int(vector)
            }
            _ => {
                let range = place::OWN_STACK;
                let vector = range.start + self.random.below(8);
                self.code.int(vector as u32)
            }
        }
    }

    /// SYSCALL leads to INT3.
    fn syscall(&mut self) -> Assembled {
        self.code.syscall()
    }

    fn sysret(&mut self) -> Assembled {
        let target = place::CODE + 0x980;
        self.code.mov(rcx, target)?;
        // Bits that are no flags: QEMU takes VM from R11, and not VIF and VIP.
        let flags = self.flags();
        self.code.mov(r11d, flags)?;
        self.code.sysretq()
    }

    /// Push a word, through RAX where it does not fit an instruction.
    fn push_word(&mut self, word: u64) -> Assembled {
        match i32::try_from(word as i64) {
            Ok(word) => self.code.push(word),
            Err(_) => {
                self.code.mov(rax, word)?;
                self.code.push(rax)
            }
        }
    }

    /// Selectors of a frame: mostly a good pair.
    fn pair(&mut self) -> (u16, u16) {
        match self.random.below(8) {
            0..4 => (place::KERNEL_CODE, place::KERNEL_DATA),
            4 => (place::USER_CODE, place::USER_DATA),
            5 => (place::KERNEL_CODE, self.selector()),
            6 => (self.code_selector(), place::KERNEL_DATA),
            _ => (self.code_selector(), self.selector()),
        }
    }

    /// A selector, but none of code that modes `trap` and `patch` refuse to run.
    fn code_selector(&mut self) -> u16 {
        let selector = self.selector();
        match selector & !7 {
            // Conforming code runs at the level of the selector, which could be 1 or 2.
            0x70 => selector & !3,
            _ => selector,
        }
    }

    fn iret(&mut self) -> Assembled {
        let (code, data) = self.pair();
        let flags = self.flags();
        let stack = match self.random.below(4) {
            0 => self.value(),
            _ => place::STACK + 0x400,
        };
        self.push_word(data.into())?;
        self.push_word(stack)?;
        self.push_word(flags.into())?;
        self.push_word(code.into())?;
        match self.random.below(8) {
            0 => {
                let target = self.canonical();
                self.push_word(target)?;
                self.code.iretq()
            }
            1 => {
                // A frame of 32-bit words is something else.
                self.push_word(place::CODE + 0x990)?;
                self.code.iretd()
            }
            2 => {
                self.push_word(place::CODE + 0x9a0)?;
                self.code.iretq()
            }
            _ => {
                let mut next = self.code.create_label();
                self.code.lea(rbp, qword_ptr(next))?;
                self.code.push(rbp)?;
                self.code.iretq()?;
                self.code.set_label(&mut next)?;
                self.code.nop()
            }
        }
    }

    fn far_return(&mut self) -> Assembled {
        let code = match self.random.below(3) {
            0 => self.code_selector(),
            _ => place::KERNEL_CODE,
        };
        self.push_word(place::STACK + 0x300)?;
        self.push_word(code.into())?;
        let mut next = self.code.create_label();
        self.code.lea(rdi, qword_ptr(next))?;
        self.code.push(rdi)?;
        match self.random.below(3) {
            0 => self.code.db(&[0xcb])?,             // retf
            1 => self.code.db(&[0x48, 0xca, 8, 0])?, // retfq 8
            _ => self.code.db(&[0x48, 0xcb])?,       // retfq
        }
        self.code.set_label(&mut next)?;
        self.code.nop()
    }

    /// JMP and CALL through a far pointer.
    fn far_pointer(&mut self) -> Assembled {
        let at = match self.random.below(6) {
            0 => self.address(),
            _ => place::FAR_POINTERS + self.random.below(place::FAR_POINTER_COUNT) * 16,
        };
        self.code.mov(rbx, at)?;
        let bytes: [&[u8]; 4] = [
            &[0x48, 0xff, 0x2b],
            &[0x48, 0xff, 0x1b],
            &[0x48, 0xff, 0x2b],
            &[0xff, 0x2b],
        ];
        let bytes = self.one_of(&bytes);
        self.code.db(bytes)
    }

    /// Memory at an address that an instruction names.
    pub fn operand(&mut self, at: u64) -> Result<AsmMemoryOperand, iced_x86::IcedError> {
        self.code.mov(rsi, at)?;
        Ok(qword_ptr(rsi))
    }
}
