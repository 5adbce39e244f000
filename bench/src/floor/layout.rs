//! Every address of the floor's guest. Guest-virtual equals guest-physical, but for the two last.
//!
//! ```text
//!   0x0_1000  two roots, PDPT, PD, page table      supervisor
//!   0x0_6000  page table of the window             user, so that CPL 3 changes its entries
//!   0x0_7000  GDT, TSS, IDT                        supervisor
//!   0x0_9000  CPL 0 code and stack                 supervisor
//!   0x1_0000  CPL 3 code, results, data, ring      user
//!   0x2_0000  the doorbell: no memory behind it    user, physical 0xd000_0000
//!   0x2_1000  the xAPIC page                       user, physical 0xfee0_0000
//!  0x20_0000  the window: 2 MiB, unmapped at first user
//! ```

/// Guest memory: one small slot at physical 0.
pub const MEMORY_LEN: usize = 0x20_0000;

pub const ROOT_A: u64 = 0x1000;
pub const ROOT_B: u64 = 0x2000;
pub const PDPT: u64 = 0x3000;
pub const PD: u64 = 0x4000;
pub const PAGE_TABLE: u64 = 0x5000;
pub const WINDOW_TABLE: u64 = 0x6000;

pub const GDT: u64 = 0x7000;
pub const TSS: u64 = 0x7800;
pub const IDT: u64 = 0x8000;

pub const MONITOR_CODE: u64 = 0x9000;
pub const MONITOR_STACK_TOP: u64 = 0xc000;

pub const USER_PAGES: std::ops::Range<u64> = 0x1_0000..0x2_0000;
pub const USER_CODE: u64 = 0x1_0000;
/// One `u64` per repeat.
pub const RESULTS: u64 = 0x1_2000;
pub const RESULTS_LEN: u64 = 4096;
/// What the window's entries point to.
pub const TOUCHED: u64 = 0x1_a000;
pub const OTHER_TOUCHED: u64 = 0x1_b000;
/// The batch ring: producer index, consumer index, then the entries.
pub const RING: u64 = 0x1_c000;
pub const RING_TAIL: u64 = RING;
pub const RING_HEAD: u64 = RING + 8;
pub const RING_ENTRIES: u64 = RING + 64;
pub const RING_LEN: u64 = 64;
/// Each entry of the ring is a number and one argument.
pub const ENTRY_WORDS: usize = 2;
/// What the console rows print.
pub const MESSAGE: u64 = 0x1_d000;
pub const MESSAGE_LEN: u64 = 64;
pub const USER_STACK_TOP: u64 = 0x2_0000;

pub const DOORBELL: u64 = 0x2_0000;
pub const DOORBELL_PHYS: u64 = 0xd000_0000;
/// A store here is a call of the machine; a store 8 bytes further ends the run.
pub const CALL_PHYS: u64 = DOORBELL_PHYS;
pub const DONE_PHYS: u64 = DOORBELL_PHYS + 8;

pub const XAPIC: u64 = 0x2_1000;
pub const XAPIC_PHYS: u64 = 0xfee0_0000;

pub const WINDOW: u64 = 0x20_0000;
pub const WINDOW_LEN: u64 = 512;

/// The port behind the CPL 0 stub of a machine call.
pub const CALL_PORT: u16 = 0xe8;
/// The port of the console rows.
pub const CONSOLE_PORT: u16 = 0xe9;

/// What the guest asks for in a machine call and in each batch entry, and what it gets back.
pub const CALL_NUMBER: u64 = 0x1234;
pub const CALL_RESULT: u64 = 0x5678;

pub const BREAKPOINT_VECTOR: u8 = 3;
pub const DIVIDE_VECTOR: u8 = 0;
pub const UNDEFINED_VECTOR: u8 = 6;
pub const PROTECTION_VECTOR: u8 = 13;
pub const PAGE_FAULT_VECTOR: u8 = 14;
pub const TIMER_VECTOR: u8 = 0x40;

/// The MSR of the timer's deadline, in TSC cycles.
pub const TSC_DEADLINE: u32 = 0x6e0;
