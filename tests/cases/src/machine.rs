//! Page tables, descriptor tables and registers, as each case finds them.

use core::arch::global_asm;

use case_runner::place;
use hypercall_abi::boot::BootInfo;
use hypercall_abi::layout::UART_PORT;

use crate::memory::{self, PAGE};
use crate::x86::{self, Pointer};

/// Bytes of the stack that the kernel runs on.
const STACK: usize = 32 * 1024;

global_asm!(
    include_str!("entry.S"),
    start = sym crate::start,
    ended = sym crate::run::ended,
    stack = const STACK,
);

unsafe extern "C" {
    static event_entries: u8;
}

/// Physical: what each page holds at the start of a case.
const START: u64 = place::FRAMES + 0x1_0000;
const _: () = assert!(place::PAGES * PAGE <= 0x1_0000);
/// Physical: what is used of memory.
const USED: core::ops::Range<u64> = place::ROOT..START + 0x1_0000;

/// Page-table entry: present, writable, for CPL 3, not executable.
const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;
const NO_CODE: u64 = 1 << 63;

/// The pages that a case can change.
const CHANGING: [u64; 6] = [
    place::CODE,
    place::DATA,
    place::CONSTANT,
    place::KERNEL,
    place::STACK,
    place::TABLES,
];

/// CR0: protected mode, paging, write protection, and errors of x87 as exceptions.
const CR0: u64 = 0x8001_0033;
/// CR4: PAE, OSFXSR, OSXMMEXCPT.
const CR4: u64 = 0x620;
/// EFER: SYSCALL, long mode, no-execute.
const EFER: u64 = 0xd01;

/// The MSRs that a case can change, and their values at the start.
pub const MSRS: [(u32, &str, u64); 11] = [
    (0xc000_0080, "efer", EFER),
    (0xc000_0081, "star", 0x0023_0008_0000_0000),
    (0xc000_0082, "lstar", place::SYSCALL_TARGET),
    (0xc000_0083, "cstar", 0),
    (0xc000_0084, "fmask", 0x4_7fd5),
    (0xc000_0100, "fsbase", place::DATA),
    (0xc000_0101, "gsbase", place::CONSTANT),
    (0xc000_0102, "kernelgs", place::KERNEL),
    (0x174, "sysentercs", 0),
    (0x175, "sysenteresp", place::RSP),
    (0x176, "sysentereip", place::SYSCALL_TARGET),
];

/// The TSS begins here in TABLES, the local table there.
const TASK: u64 = 0x800;
const LOCAL: u64 = 0x400;

/// Make all tables, and load them.
pub fn init(boot: &BootInfo) {
    let top = if boot.initrd.len == 0 {
        boot.memory[0].end()
    } else {
        boot.initrd.start
    };
    if boot.kernel.end() > USED.start || top < USED.end {
        panic!("the frames of the cases are not free");
    }
    for root in [place::ROOT, place::OTHER_ROOT] {
        memory::copy_page(boot.root, root);
        memory::write(root, (place::ROOT + PAGE) | PRESENT | WRITABLE | USER);
    }
    let below = |level: u64| (place::ROOT + level * PAGE) | PRESENT | WRITABLE | USER;
    memory::write(place::ROOT + PAGE, below(2));
    memory::write(place::ROOT + 2 * PAGE + (place::BASE >> 21) * 8, below(3));
    fill();
    map(0);
    x86::set_cr3(place::ROOT);
    reset_pages();
    reset_registers();
}

/// Make everything as a case of this level finds it.
pub fn restore(level: u8) {
    x86::clear_flags();
    x86::set_dr7(0x400);
    x86::set_cr0(CR0);
    x86::set_cr4(CR4);
    map(level);
    x86::set_cr3(place::ROOT);
    reset_pages();
    reset_registers();
}

fn reset_pages() {
    for page in CHANGING {
        memory::copy_page(start_of(page), frame_of(page));
    }
    // LTR wants a task state that is not busy, and makes it so.
    let task = frame_of(place::TABLES) + u64::from(place::TASK);
    memory::write(task, memory::read(task) & !(2 << 40));
}

fn reset_registers() {
    x86::set_gdt(Pointer {
        limit: place::GDT_LIMIT,
        base: place::TABLES,
    });
    x86::set_idt(Pointer {
        limit: 256 * 16 - 1,
        base: place::GATES,
    });
    x86::set_ss(u32::from(place::KERNEL_DATA));
    x86::set_cs(place::KERNEL_CODE);
    x86::set_local_table(0);
    x86::set_task(u32::from(place::TASK));
    x86::set_cr2(0);
    x86::set_cr8(0);
    x86::set_dr0(0);
    x86::set_dr1(0);
    x86::set_dr2(0);
    x86::set_dr3(0);
    x86::set_dr6(0xffff_0ff0);
    x86::out8(UART_PORT + 7, 0x5a);
}

/// Load the MSRs; after the segment registers, which have FS's and GS's bases too.
pub fn reset_msrs() {
    for (index, _, value) in MSRS {
        x86::set_msr(index, value);
    }
}

/// The frame of a page.
pub fn frame_of(page: u64) -> u64 {
    place::FRAMES + (page - place::BASE)
}

/// What a page holds at the start of a case.
pub fn start_of(page: u64) -> u64 {
    START + (page - place::BASE)
}

/// Each word of the pages that is not as at the start: address and value.
pub fn changed_words(mut see: impl FnMut(u64, u64)) {
    for page in CHANGING {
        let (from, now) = (start_of(page), frame_of(page));
        for at in (0..PAGE).step_by(8) {
            let value = memory::read(now + at);
            if value != memory::read(from + at) {
                see(page + at, value);
            }
        }
    }
}

/// Map the pages for a level.
fn map(level: u8) {
    let own = if level == 3 { USER } else { 0 };
    for (index, rights) in [
        PRESENT | own,
        PRESENT | WRITABLE | NO_CODE | own,
        PRESENT | NO_CODE | own,
        0,
        PRESENT | WRITABLE | NO_CODE,
        PRESENT | WRITABLE | NO_CODE | own,
        PRESENT | WRITABLE | NO_CODE,
        PRESENT | WRITABLE | NO_CODE,
        PRESENT | WRITABLE | NO_CODE,
    ]
    .into_iter()
    .enumerate()
    {
        let index = index as u64;
        let entry = (place::FRAMES + index * PAGE) | rights;
        let at = place::ROOT + 3 * PAGE + (place::BASE >> 12 & 511) * 8 + index * 8;
        memory::write(at, entry);
    }
}

/// Fill the pages' starts, and the IDT.
fn fill() {
    for at in (0..PAGE).step_by(8) {
        memory::write(start_of(place::CODE) + at, 0xcccc_cccc_cccc_cccc);
        memory::write(start_of(place::DATA) + at, at * 0x0101_0101);
        memory::write(start_of(place::CONSTANT) + at, at << 32 | 0xc);
        memory::write(start_of(place::KERNEL) + at, at << 16 | 0xf);
    }
    fill_operands(start_of(place::DATA));
    fill_segments(start_of(place::TABLES));
    fill_gates(frame_of(place::GATES));
}

/// Write a pointer of 16 bits and then 64 bits, in 16 bytes.
fn write_pointer(at: u64, half: u16, word: u64) {
    memory::write(at, u64::from(half) | word << 16);
    memory::write(at + 8, word >> 48);
}

fn fill_operands(data: u64) {
    for (number, (limit, base)) in [
        (place::GDT_LIMIT, place::TABLES),
        (0x4f, place::TABLES),
        (256 * 16 - 1, place::GATES),
        (0x4f * 16 + 15, place::GATES),
    ]
    .into_iter()
    .enumerate()
    {
        write_pointer(data + number as u64 * 16, limit, base);
    }
    for (number, (offset, selector)) in place::FAR.into_iter().enumerate() {
        let at = data + (place::FAR_POINTERS - place::DATA) + number as u64 * 16;
        memory::write(at, offset);
        memory::write(at + 8, u64::from(selector));
    }
}

/// A system descriptor: two words.
fn system(kind: u64, base: u64, limit: u64) -> [u64; 2] {
    let low = limit | (base & 0xff_ffff) << 16 | (0x80 | kind) << 40 | (base >> 24 & 0xff) << 56;
    [low, base >> 32]
}

fn fill_segments(tables: u64) {
    const LDT: u64 = 2;
    const FREE_TASK: u64 = 9;
    const BUSY_TASK: u64 = 11;
    let task = |kind| system(kind, place::TABLES + TASK, 0x67);
    let local = system(LDT, place::TABLES + LOCAL, 0x0f);
    let [busy, busy_high] = task(BUSY_TASK);
    let [free, free_high] = task(FREE_TASK);
    for (number, word) in [
        0,
        0x00af_9b00_0000_ffff, // 08 kernel code
        0x00cf_9300_0000_ffff, // 10 kernel data
        0x00cf_7300_0000_ffff, // 18 not present
        0x00cf_fb00_0000_ffff, // 20 user code, 32-bit
        0x00cf_f300_0000_ffff, // 28 user data
        0x00af_fb00_0000_ffff, // 30 user code
        busy,
        busy_high,
        local[0],
        local[1],
        free,
        free_high,
        0x00cf_f000_0000_ffff, // 68 user data, read-only, never loaded
        0x00af_9f00_0000_ffff, // 70 conforming code of CPL 0
        0x00af_1b00_0000_ffff, // 78 kernel code, not present
        0x0040_9340_1000_0fff, // 80 kernel data, base 401000
    ]
    .into_iter()
    .enumerate()
    {
        memory::write(tables + number as u64 * 8, word);
    }
    memory::write(tables + LOCAL, 0x00cf_f300_0000_ffff);
    memory::write(tables + LOCAL + 8, 0x00cf_9300_0000_ffff);
    // The TSS: RSP0 from 4, IST1 from 0x24, the map of ports beyond the limit.
    for offset in [0x04, 0x24] {
        put(tables + TASK + offset, place::EVENTS_END);
    }
    memory::write(tables + TASK + 0x60, 0x68 << 48);
}

/// Write a word at an address that is 4 more than a multiple of 8.
fn put(at: u64, value: u64) {
    let (low, high) = (at - 4, at + 4);
    memory::write(low, memory::read(low) & 0xffff_ffff | value << 32);
    memory::write(high, memory::read(high) & !0xffff_ffff | value >> 32);
}

fn fill_gates(gates: u64) {
    for vector in 0..256 {
        let at = &raw const event_entries as u64 + vector * 16;
        let mut rights: u64 = 0x8e;
        let mut selector = place::KERNEL_CODE;
        let own_stack = place::OWN_STACK.contains(&vector);
        match vector {
            place::ABSENT_GATE => rights = 0x0e,
            place::BAD_GATE => selector = place::KERNEL_DATA,
            place::USER_GATE | 3 | 4 => rights = 0xee,
            place::TRAP_GATE => rights = 0x8f,
            _ => {}
        }
        let low = at & 0xffff
            | u64::from(selector) << 16
            | u64::from(!own_stack) << 32
            | rights << 40
            | (at >> 16 & 0xffff) << 48;
        memory::write(gates + vector * 16, low);
        memory::write(gates + vector * 16 + 8, at >> 32);
    }
}
