//! A kernel's descriptor tables, stacks and a user's pages, and a processor that uses them.

use std::sync::LazyLock;

use super::fake::{KERNEL, Plain, USER};
use crate::machine::cpu::registers::{RSP, flag};
use crate::machine::cpu::segment::system;
use crate::machine::cpu::{
    Attributes, Cpu, Descriptor, Limits, Registers, Segment, Selector, Table, cr4,
};

pub(crate) const GDT: u64 = 0x1000;
pub(crate) const IDT: u64 = 0x2000;
pub(crate) const TSS: u64 = 0x3000;
pub(crate) const LDT: u64 = 0x4000;
/// Where handlers are said to be; they are never run.
pub(crate) const HANDLERS: u64 = 0xffff_ffff_8000_0000;
/// The stack that TSS.RSP0 names, and the one of IST 1: their ends.
pub(crate) const STACK_0: u64 = 0x9000;
pub(crate) const STACK_IST: u64 = 0xb000;
/// The stack that the kernel runs on: its end.
pub(crate) const STACK: u64 = 0xd000;
/// Memory of a program: code, data, and a stack's end.
pub(crate) const USER_DATA: u64 = 0x1_0000;
pub(crate) const USER_STACK: u64 = 0x1_3000;
/// Memory of the kernel's to point operands at.
pub(crate) const DATA: u64 = 0xe000;
/// A page that is not there.
pub(crate) const HOLE: u64 = 0x5_0000;

pub(crate) const CODE: u16 = 0x10;
pub(crate) const STACK_SEGMENT: u16 = 0x18;
pub(crate) const USER_CODE_32: u16 = 0x23;
pub(crate) const USER_SS: u16 = 0x2b;
pub(crate) const USER_CODE: u16 = 0x33;
pub(crate) const CONFORMING: u16 = 0x38;
pub(crate) const TASK: u16 = 0x40;
pub(crate) const LOCAL: u16 = 0x50;
pub(crate) const ABSENT_DATA: u16 = 0x60;
pub(crate) const ABSENT_CODE: u16 = 0x68;
pub(crate) const CODE_32: u16 = 0x70;
pub(crate) const CODE_1: u16 = 0x78;
pub(crate) const CALL_GATE: u16 = 0x80;
pub(crate) const READ_ONLY: u16 = 0x90;
pub(crate) const LONG_AND_32: u16 = 0x98;
pub(crate) const EXECUTE_ONLY: u16 = 0xa0;
/// Data at 0x1234_5000, not accessed yet.
pub(crate) const FRESH: u16 = 0xa8;
pub(crate) const BUSY: u16 = 0xb0;
pub(crate) const CODE_16: u16 = 0xc3;
/// Behind the table's limit.
pub(crate) const OUTSIDE: u16 = 0xd0;

/// Processor, registers and memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    pub cpu: Cpu,
    pub regs: Registers,
    pub memory: Plain,
}

/// A gate's words.
pub(crate) fn gate(vector: u64, selector: u16, rights: u64, ist: u64) -> [u64; 2] {
    let at = HANDLERS + vector * 16;
    [
        at & 0xffff
            | u64::from(selector) << 16
            | ist << 32
            | rights << 40
            | (at >> 16 & 0xffff) << 48,
        at >> 32,
    ]
}

/// Rights of an interrupt gate for CPL 0.
pub(crate) const INTERRUPT: u64 = 0x8e;
/// Rights of a trap gate for CPL 3.
pub(crate) const USER_TRAP: u64 = 0xef;

fn system_descriptor(base: u64, limit: u64, kind: u8) -> [u64; 2] {
    let low = limit & 0xffff
        | (base & 0xff_ffff) << 16
        | (0x80 | u64::from(kind)) << 40
        | (base >> 24 & 0xff) << 56;
    [low, base >> 32]
}

fn gdt() -> Vec<u64> {
    let task = system_descriptor(TSS, 0x2067, system::TSS);
    let local = system_descriptor(LDT, 0xf, system::LDT);
    let busy = system_descriptor(TSS, 0x67, system::BUSY_TSS);
    vec![
        0,
        0,
        0x00af_9b00_0000_ffff, // 0x10 code, CPL 0
        0x00cf_9300_0000_ffff, // 0x18 data, CPL 0
        0x00cf_fb00_0000_ffff, // 0x20 32-bit code, CPL 3
        0x00cf_f300_0000_ffff, // 0x28 data, CPL 3
        0x00af_fb00_0000_ffff, // 0x30 code, CPL 3
        0x00af_9f00_0000_ffff, // 0x38 conforming code
        task[0],
        task[1],
        local[0],
        local[1],
        0x00cf_1300_0000_ffff, // 0x60 data, not present
        0x00af_1b00_0000_ffff, // 0x68 code, not present
        0x00cf_9b00_0000_ffff, // 0x70 32-bit code, CPL 0
        0x00af_bb00_0000_ffff, // 0x78 code, CPL 1
        0x0000_ec00_0010_0000, // 0x80 call gate
        0,
        0x00cf_9100_0000_ffff, // 0x90 data, read-only
        0x00ef_9b00_0000_ffff, // 0x98 code, L and D
        0x00cf_f900_0000_ffff, // 0xa0 32-bit code, execute-only, CPL 3
        0x1240_9234_5000_0fff, // 0xa8 data, not accessed, counted in bytes
        busy[0],
        busy[1],
        0x000f_fb00_0000_ffff, // 0xc0 16-bit code, CPL 3
    ]
}

impl Guest {
    /// Kernel code at CPL 0, with every gate an interrupt gate, and IF clear.
    pub fn new() -> Self {
        static GUEST: LazyLock<Guest> = LazyLock::new(Guest::build);
        GUEST.clone()
    }

    fn build() -> Self {
        let mut memory = Plain::default();
        for page in [GDT, IDT, TSS, TSS + 0x1000, TSS + 0x2000 - 1, LDT, DATA] {
            memory.map(page, KERNEL);
        }
        for end in [STACK_0, STACK_IST, STACK] {
            memory.map(end - 0x1000, KERNEL);
        }
        for page in [USER_DATA, USER_DATA + 0x1000, USER_STACK - 0x1000] {
            memory.map(page, USER);
        }
        let table = gdt();
        memory.put_words(GDT, &table);
        memory.put_words(LDT, &[0, 0x00cf_f300_0000_ffff]);
        for vector in 0..256 {
            let words = gate(vector, CODE, INTERRUPT, 0);
            memory.put_words(IDT + vector * 16, &words);
        }
        memory.put_words(TSS + 4, &[STACK_0]);
        memory.put_words(TSS + 36, &[STACK_IST]);
        memory.put(TSS + 0x66, &0x68_u16.to_le_bytes());

        let limits = Limits {
            cr4: Limits::default().cr4 | cr4::FSGSBASE | cr4::OSXSAVE,
            xcr0: 7,
            physical_bits: 40,
        };
        let mut cpu = Cpu::new(0x10_0000, limits);
        cpu.gdtr = Table {
            base: GDT,
            limit: (table.len() * 8 - 1) as u16,
        };
        cpu.idtr = Table {
            base: IDT,
            limit: 0xfff,
        };
        cpu.tr = Segment {
            selector: Selector(TASK),
            base: TSS,
            limit: 0x2067,
            attributes: Attributes(0x8b),
        };
        let mut regs = Registers {
            rip: HANDLERS + 0x10_0000,
            rflags: flag::FIXED,
            ..Registers::default()
        };
        regs.general[RSP] = STACK;
        Self { cpu, regs, memory }
    }

    /// The same machine in a program, at CPL 3, with IF set.
    pub fn user() -> Self {
        let mut guest = Self::new();
        guest.cpu.cpl = 3;
        guest.cpu.cs = Segment::flat_code(Selector(USER_CODE), 3);
        let data = Segment::flat_data(Selector(USER_SS), 3);
        guest.cpu.ss = data;
        guest.cpu.ds = data;
        guest.cpu.es = data;
        guest.cpu.fs = Segment::null(Selector(0));
        guest.cpu.gs = Segment::null(Selector(0));
        guest.regs.rip = USER_DATA;
        guest.regs.rflags |= flag::IF;
        guest.regs.general[RSP] = USER_STACK;
        guest
    }

    /// The same program in 32-bit code.
    pub fn user_32() -> Self {
        let mut guest = Self::user();
        guest.cpu.cs = Segment::flat_code_32(Selector(USER_CODE_32), 3);
        guest
    }

    /// Push words so that the last is deepest: the first of the frame comes first.
    pub fn frame(&mut self, words: &[u64]) {
        let rsp = self.regs.general[RSP] - 8 * words.len() as u64;
        self.memory.put_words(rsp, words);
        self.regs.general[RSP] = rsp;
    }

    /// Replace a descriptor.
    pub fn descriptor(&mut self, selector: u16, low: u64) {
        self.memory
            .put_words(GDT + u64::from(selector & !7), &[low]);
    }

    /// Whether a descriptor is accessed, or busy for a task.
    pub fn kind_of(&self, selector: u16) -> u8 {
        let low = self.memory.word(GDT + u64::from(selector & !7));
        Descriptor { low, high: 0 }.attributes().kind()
    }

    /// The words on top of the stack.
    pub fn stack<const N: usize>(&self) -> [u64; N] {
        self.memory.words(self.regs.general[RSP])
    }

    /// Run a verb that must refuse, and see that it has changed neither processor nor registers.
    pub fn unchanged<T>(&mut self, verb: impl FnOnce(&mut Self) -> T) -> T {
        let before = (self.cpu.clone(), self.regs.clone());
        let answer = verb(self);
        assert_eq!(before, (self.cpu.clone(), self.regs.clone()));
        answer
    }
}
