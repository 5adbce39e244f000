//! Picks operands and the start of a case.

use case_runner::{place, values};
use iced_x86::code_asm::registers::*;
use iced_x86::code_asm::{
    AsmMemoryOperand, AsmRegister16, AsmRegister32, AsmRegister64, qword_ptr,
};

use super::Maker;

const GENERAL: [AsmRegister64; 15] = [
    rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15,
];
const HALVES: [AsmRegister32; 15] = [
    eax, ecx, edx, ebx, ebp, esi, edi, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d,
];
const QUARTERS: [AsmRegister16; 15] = [
    ax, cx, dx, bx, bp, si, di, r8w, r9w, r10w, r11w, r12w, r13w, r14w, r15w,
];
/// Bits of RFLAGS that a case sets, but for those of arithmetic.
const TF: u32 = 1 << 8;
const IF: u32 = 1 << 9;
const DF: u32 = 1 << 10;
const NT: u32 = 1 << 14;
const AC: u32 = 1 << 18;
const ID: u32 = 1 << 21;
/// CF, PF, AF, ZF, SF, OF.
const ARITHMETIC: u32 = 0x8d5;

impl Maker {
    /// Whether something that is to happen once in `times` happens.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.random.below(times) == 0
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.below(of.len() as u64) as usize]
    }

    /// A register but RSP.
    pub fn register(&mut self) -> AsmRegister64 {
        self.one_of(&GENERAL)
    }

    /// The 32-bit half of one.
    pub fn half(&mut self) -> AsmRegister32 {
        self.one_of(&HALVES)
    }

    /// The low 16 bits of one.
    pub fn quarter(&mut self) -> AsmRegister16 {
        self.one_of(&QUARTERS)
    }

    /// A value as registers start with.
    pub fn value(&mut self) -> u64 {
        self.one_of(&values::VALUES)
    }

    /// Such a value that is an address.
    pub fn canonical(&mut self) -> u64 {
        let value = self.value();
        ((value << 16) as i64 >> 16) as u64
    }

    /// A selector: most are of a descriptor that exists.
    pub fn selector(&mut self) -> u16 {
        match self.random.below(8) {
            0 => self.random.below(4) as u16,
            1 => self.random.below(0x100) as u16,
            _ => {
                let selector = self.random.below(0x11) as u16 * 8;
                match self.random.below(3) {
                    0 => selector | self.random.below(4) as u16,
                    1 => selector | u16::from(self.level),
                    _ => self.one_of(&[
                        place::KERNEL_CODE,
                        place::KERNEL_DATA,
                        place::USER_CODE,
                        place::USER_DATA,
                        place::CONSTANT_DATA,
                        place::BASED_DATA,
                        place::LOCAL_DATA,
                    ]),
                }
            }
        }
    }

    /// RFLAGS for a frame or for POPF. TF is rare, as it ends a case.
    pub fn flags(&mut self) -> u32 {
        let mut flags = self.random.below(1 << 32) as u32 & ARITHMETIC | 2;
        for (bit, times) in [
            (IF, 2),
            (DF, 4),
            (NT, 8),
            (TF, 12),
            (ID, 6),
            (1 << 12, 6),
            (1 << 13, 6),
        ] {
            if self.once_in(times) {
                flags |= bit;
                self.steps |= bit == TF;
            }
        }
        if self.level == 0 && self.once_in(6) {
            flags |= AC;
        }
        flags
    }

    /// RFLAGS at the start.
    pub fn start_flags(&mut self) -> u32 {
        let mut flags = self.flags();
        if self.level == 3 {
            // Most programs may not do I/O. What is not compared of the others: the README's list.
            self.is_io_level = self.once_in(4);
            flags = match self.is_io_level {
                true => flags | 3 << 12,
                false => flags & !(3 << 12),
            };
        }
        flags
    }

    /// SS, DS, ES, FS, GS at the start.
    pub fn start_selectors(&mut self) -> [u16; 5] {
        let stack = match self.level {
            3 => place::USER_DATA,
            _ => self.one_of(&[place::KERNEL_DATA, place::KERNEL_DATA, 0]),
        };
        let data = [place::USER_DATA, place::USER_DATA, 0, place::USER_CODE];
        let mut choose = || match self.level {
            3 => place::USER_DATA,
            _ => self.one_of(&data),
        };
        [stack, choose(), choose(), choose(), choose()]
    }

    /// An address: most are of memory that can be read and written.
    pub fn address(&mut self) -> u64 {
        let page = self.one_of(&[
            place::DATA,
            place::DATA,
            place::DATA,
            place::DATA,
            place::STACK,
            place::STACK,
            place::CONSTANT,
            place::ABSENT,
            place::KERNEL,
            place::CODE,
            place::STACK,
            place::DATA,
            0x0000_8000_0000_0000,
            0xffff_7fff_ffff_f000,
            0x0000_7fff_ffff_f000,
            place::DATA,
        ]);
        let offset = match self.random.below(4) {
            0 => 0xff8 + self.random.below(8),
            1 => 0x200 + self.random.below(0x800),
            _ => 0x200 + self.random.below(0x100) * 8,
        };
        page + offset
    }

    /// An address that is read and then written. QEMU tells such a fault as that of a read; processors
    /// tell that of a write.
    pub fn writable_address(&mut self) -> u64 {
        let page = self.one_of(&[place::DATA, place::STACK]);
        page + 0x200 + self.random.below(0x800)
    }

    /// Memory by a register that is loaded with its address.
    pub fn place(&mut self) -> Result<AsmMemoryOperand, iced_x86::IcedError> {
        let (at, base) = (self.address(), self.register());
        self.code.mov(base, at)?;
        let operand = qword_ptr(base);
        Ok(match self.random.below(8) {
            0 => operand.fs(),
            1 => operand.gs(),
            _ => operand,
        })
    }
}
