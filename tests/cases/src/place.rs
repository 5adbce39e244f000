//! The pages and selectors that a case finds. The kernel's own are elsewhere.
//!
//! ```text
//! 400000 CODE     the instructions, then INT3     r-x
//! 401000 DATA     operands, see below             rw-
//! 402000 CONSTANT                                 r--
//! 403000 ABSENT                                   ---
//! 404000 KERNEL   never for CPL 3                 rw-
//! 405000 STACK                                    rw-
//! 406000 TABLES   GDT, LDT, TSS: CPL 0            rw-
//! 407000 GATES    IDT: CPL 0                      rw-
//! 408000          stack of events: CPL 0          rw-
//! ```
//! CODE, DATA, CONSTANT and STACK are pages of the level that the case runs at.

/// The first page.
pub const BASE: u64 = 0x40_0000;
/// How many pages there are.
pub const PAGES: u64 = 9;
/// The instructions.
pub const CODE: u64 = BASE;
/// Where SYSCALL leads: to INT3.
pub const SYSCALL_TARGET: u64 = CODE + 0x800;
/// Operands.
pub const DATA: u64 = BASE + 0x1000;
/// A page that cannot be written.
pub const CONSTANT: u64 = BASE + 0x2000;
/// A page that is not present.
pub const ABSENT: u64 = BASE + 0x3000;
/// A page of CPL 0.
pub const KERNEL: u64 = BASE + 0x4000;
/// The stack's page.
pub const STACK: u64 = BASE + 0x5000;
/// RSP at the start of a case.
pub const RSP: u64 = STACK + 0xe00;
/// GDT, LDT and TSS.
pub const TABLES: u64 = BASE + 0x6000;
/// The IDT.
pub const GATES: u64 = BASE + 0x7000;
/// One past the stack that most events begin on.
pub const EVENTS_END: u64 = BASE + 0x9000;

/// Physical: the root of the page tables.
pub const ROOT: u64 = 0x80_0000;
/// Physical: another root, which maps the same.
pub const OTHER_ROOT: u64 = 0x80_4000;
/// Physical: the pages.
pub const FRAMES: u64 = 0x81_0000;

/// 64-bit code of CPL 0.
pub const KERNEL_CODE: u16 = 0x08;
/// Data of CPL 0.
pub const KERNEL_DATA: u16 = 0x10;
/// Data that is not present.
pub const ABSENT_DATA: u16 = 0x18;
/// 32-bit code of CPL 3.
pub const USER_CODE_32: u16 = 0x23;
/// Data of CPL 3.
pub const USER_DATA: u16 = 0x2b;
/// 64-bit code of CPL 3.
pub const USER_CODE: u16 = 0x33;
/// The task state: two descriptors.
pub const TASK: u16 = 0x38;
/// A local table: two descriptors.
pub const LOCAL: u16 = 0x48;
/// Another task state, available.
pub const OTHER_TASK: u16 = 0x58;
/// Data of CPL 3 that was never loaded and cannot be written.
pub const CONSTANT_DATA: u16 = 0x6b;
/// Conforming code of CPL 0.
pub const CONFORMING: u16 = 0x70;
/// 64-bit code of CPL 0 that is not present.
pub const ABSENT_CODE: u16 = 0x78;
/// Data of CPL 0 with a base and a limit.
pub const BASED_DATA: u16 = 0x80;
/// The last byte of the GDT.
pub const GDT_LIMIT: u16 = 0x87;
/// A descriptor of the local table: data of CPL 3.
pub const LOCAL_DATA: u16 = 0x07;

/// In DATA: pointers for LGDT and LIDT, 16 bytes apart.
pub const TABLE_POINTERS: u64 = DATA;
/// How many: whole GDT, short GDT, whole IDT, short IDT.
pub const TABLE_POINTER_COUNT: u64 = 4;
/// In DATA: far pointers, 16 bytes apart.
pub const FAR_POINTERS: u64 = DATA + 0x80;
/// How many far pointers there are.
pub const FAR_POINTER_COUNT: u64 = 8;
/// The far pointers: offset and selector.
pub const FAR: [(u64, u16); FAR_POINTER_COUNT as usize] = [
    (CODE + 0x900, KERNEL_CODE),
    (CODE + 0x910, USER_CODE),
    (CODE + 0x920, 0),
    (CODE + 0x930, KERNEL_DATA),
    (CODE + 0x940, 0xf8),
    (ABSENT, KERNEL_CODE),
    (CODE + 0x960, CONFORMING),
    (CODE + 0x970, ABSENT_CODE),
];

/// Vectors whose events begin on the stack of the moment.
pub const OWN_STACK: core::ops::Range<u64> = 0x40..0x60;
/// Of these, one whose gate is not present.
pub const ABSENT_GATE: u64 = 0x41;
/// One whose gate has a data segment.
pub const BAD_GATE: u64 = 0x42;
/// One that programs may use.
pub const USER_GATE: u64 = 0x43;
/// One that leaves IF as it is.
pub const TRAP_GATE: u64 = 0x44;
