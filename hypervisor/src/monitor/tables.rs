//! GDT, IDT and TSS of a monitor, as the words that go into its pages (SDM vol. 3, 3.4.5, 6.14).

use hypercall_abi::layout;

/// Offset in the tables page: the GDT.
pub const GDT: u64 = 0x400;
/// Offset in the tables page: the TSS.
pub const TSS: u64 = 0x500;
/// The GDT's limit.
pub const GDT_LIMIT: u16 = 0x4f;
/// The IDT's limit: as many gates as vectors have an entry.
pub const IDT_LIMIT: u16 = (layout::ENTRY_VECTORS * 16 - 1) as u16;
/// The TSS's limit.
pub const TSS_LIMIT: u32 = 0x67;
/// The monitor's code selector.
pub const MONITOR_CS: u16 = 0x10;
/// The monitor's stack selector.
pub const MONITOR_SS: u16 = 0x18;
/// The TSS's selector.
pub const TSS_SELECTOR: u16 = 0x40;

/// IST of interrupts, and of the exceptions that may arrive anywhere.
const IST_INTERRUPT: u8 = 1;
const IST_NMI: u8 = 2;
const IST_DOUBLE_FAULT: u8 = 3;
const IST_MACHINE_CHECK: u8 = 4;
const IST_DEBUG: u8 = 5;

/// The GDT of a monitor whose TSS is at `tss`.
pub fn gdt(tss: u64) -> [u64; 10] {
    [
        0,
        0,
        0x00af_9b00_0000_ffff, // 0x10: 64-bit code, CPL 0
        0x00cf_9300_0000_ffff, // 0x18: data, CPL 0
        0x00cf_fb00_0000_ffff, // 0x20: 32-bit code, CPL 3
        0x00cf_f300_0000_ffff, // 0x28: data, CPL 3
        0x00af_fb00_0000_ffff, // 0x30: 64-bit code, CPL 3
        0,
        u64::from(TSS_LIMIT) | (tss & 0xff_ffff) << 16 | 0x8b << 40 | (tss >> 24 & 0xff) << 56,
        tss >> 32,
    ]
}

/// A TSS: event slots for stacks, by their ends, a page of stacks for the events that may arrive
/// anywhere, and no I/O permission.
pub fn tss(exception_slot_end: u64, interrupt_slot_end: u64, stacks: u64) -> [u8; 0x68] {
    let mut tss = [0u8; 0x68];
    let mut put =
        |offset: usize, value: u64| tss[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    put(0x04, exception_slot_end); // RSP0
    let ist = |n: u8| 0x1c + 8 * n as usize;
    put(ist(IST_INTERRUPT), interrupt_slot_end);
    put(ist(IST_NMI), stacks + 0x400);
    put(ist(IST_DOUBLE_FAULT), stacks + 0x800);
    put(ist(IST_MACHINE_CHECK), stacks + 0xc00);
    put(ist(IST_DEBUG), stacks + 0x1000);
    tss[0x66..0x68].copy_from_slice(&0xffff_u16.to_le_bytes()); // I/O map base beyond the limit
    tss
}

/// The words of an IDT of so many interrupt gates, to the stubs whose addresses `stub` gives.
pub fn idt(vectors: usize, interrupts: Interrupts, stub: impl Fn(usize) -> u64) -> Vec<u64> {
    (0..vectors)
        .flat_map(|vector| {
            let at = stub(vector);
            let ist = match vector {
                1 => IST_DEBUG,
                2 => IST_NMI,
                8 => IST_DOUBLE_FAULT,
                18 => IST_MACHINE_CHECK,
                32.. if interrupts == Interrupts::InASlotOfTheirOwn => IST_INTERRUPT,
                _ => 0,
            };
            // A breakpoint is the gate on some hosts and an ordinary trap on all: CPL 3 may raise it.
            let access: u64 = if vector == 3 { 0xee } else { 0x8e };
            let low = at & 0xffff
                | u64::from(MONITOR_CS) << 16
                | u64::from(ist) << 32
                | access << 40
                | (at >> 16 & 0xffff) << 48;
            [low, at >> 32]
        })
        .collect()
}

/// Where the processor stores the frame of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupts {
    /// In the slot of exceptions, or on the stack that is in use at CPL 0.
    OnTheStack,
    /// In a slot of their own, by IST, also at CPL 0.
    InASlotOfTheirOwn,
}
