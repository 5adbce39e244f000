//! GDT, IDT and TSS (SDM vol. 3, chapters 3, 6 and 8).

use core::arch::asm;
use core::cell::UnsafeCell;

use crate::entry;

/// Tables that the processor reads, and that only `load` writes.
#[repr(C, align(16))]
struct Tables {
    gdt: UnsafeCell<[u64; 8]>,
    idt: UnsafeCell<[[u64; 2]; 64]>,
    tss: UnsafeCell<[u32; 26]>,
}

// SAFETY: `load` writes the tables once, before interrupts are on and before a second processor
// runs; afterwards only the processor reads them.
unsafe impl Sync for Tables {}

static TABLES: Tables = Tables {
    gdt: UnsafeCell::new([
        0,
        0,
        0x00af_9b00_0000_ffff, // 0x10: 64-bit code, CPL 0
        0x00cf_9300_0000_ffff, // 0x18: data, CPL 0
        0,
        0,
        0, // 0x30: TSS, two words
        0,
    ]),
    idt: UnsafeCell::new([[0; 2]; 64]),
    tss: UnsafeCell::new([0; 26]),
};

/// The selector of the kernel's code.
pub const CODE: u64 = 0x10;
/// The selector of the kernel's data and stacks.
pub const DATA: u64 = 0x18;
/// The selector of the task.
pub const TSS: u16 = 0x30;
/// The interrupt stack of #DF: TSS.IST1.
const DOUBLE_FAULT: usize = 8;

/// What LGDT and LIDT take.
#[repr(C, packed)]
pub struct Pointer {
    limit: u16,
    base: u64,
}

/// The GDT, for LGDT.
pub fn gdt() -> Pointer {
    Pointer {
        limit: 63,
        base: TABLES.gdt.get() as u64,
    }
}

/// The IDT, for LIDT.
pub fn idt() -> Pointer {
    Pointer {
        limit: 1023,
        base: TABLES.idt.get() as u64,
    }
}

/// The address of the task descriptor's type, whose second bit says that it is busy.
pub fn kind_of_task() -> u64 {
    TABLES.gdt.get() as u64 + u64::from(TSS) + 5
}

/// Fill the tables and load them.
pub fn load() {
    let tss = TABLES.tss.get() as u64;
    let gdt = TABLES.gdt.get();
    let idt = TABLES.idt.get();
    let stack = entry::emergency_stack();
    // SAFETY: see `impl Sync`: this runs once, on the only processor, interrupts off.
    unsafe {
        (*TABLES.tss.get())[9] = stack as u32; // IST1, at byte 36
        (*TABLES.tss.get())[10] = (stack >> 32) as u32;
        (*TABLES.tss.get())[25] = 0x0068_0000; // no I/O permission map
        (*gdt)[6] = 0x0000_8900_0000_0067 | (tss & 0xff_ffff) << 16 | (tss >> 24 & 0xff) << 56;
        (*gdt)[7] = tss >> 32;
        for (vector, gate) in (*idt).iter_mut().enumerate() {
            let at = entry::entry_of(vector as u64);
            let ist = u64::from(vector == DOUBLE_FAULT);
            *gate = [
                at & 0xffff | CODE << 16 | ist << 32 | 0x8e << 40 | (at >> 16 & 0xffff) << 48,
                at >> 32,
            ];
        }
    }
    let (gdtr, idtr) = (self::gdt(), self::idt());
    // SAFETY: the descriptors above are flat 64-bit code and data, so the code that runs goes on
    // unchanged; every IDT entry leads to entry.S; the TSS is available, as LTR demands.
    unsafe {
        asm!(
            // RETF leads there, with the new descriptor. Nothing is between the rest: who emulates one of these can go on
            // with the others.
            "lea {next}, [rip + 2f]",
            "push {code}",
            "push {next}",
            "lgdt [{gdtr}]",
            "lidt [{idtr}]",
            "mov ss, {data:e}",
            "mov ds, {data:e}",
            "mov es, {data:e}",
            "ltr {tss:x}",
            "retfq",
            "2:",
            gdtr = in(reg) &gdtr,
            idtr = in(reg) &idtr,
            data = in(reg) DATA as u32,
            code = const CODE,
            tss = in(reg) TSS,
            next = out(reg) _,
        );
    }
}
