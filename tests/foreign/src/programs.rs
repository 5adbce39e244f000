//! The user programs, and how each must end.

use core::arch::global_asm;
use core::slice;

use crate::syscall;

/// Where a program's code is: may be read and executed.
pub const TEXT: u64 = 0x40_0000;
/// A page of data: may be read and written.
pub const DATA: u64 = 0x60_0000;
/// Pages that are mapped when they are touched.
pub const HEAP: u64 = 0x1000_0000;
/// Bytes of heap.
pub const HEAP_SIZE: u64 = 4 * 4096;
/// One past the stack's page.
pub const STACK_TOP: u64 = 0x7fff_f000;

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By its own call.
    Exit(u64),
    /// By an exception, which the kernel does not mend.
    Killed {
        /// The vector.
        vector: u64,
        /// The error code.
        error: u64,
    },
    /// By using up its time.
    TimeUp,
}

/// A program.
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// How it must end.
    pub end: End,
    code: &'static u64,
}

impl Program {
    /// The code.
    pub fn code(&self) -> &'static [u8] {
        let len = *self.code as usize;
        // SAFETY: programs.S has the length first, and then as many bytes.
        unsafe { slice::from_raw_parts((self.code as *const u64).add(1).cast(), len) }
    }
}

global_asm!(
    include_str!("programs.S"),
    text = const TEXT,
    data = const DATA,
    heap = const HEAP,
    exit = const syscall::EXIT,
    say = const syscall::SAY,
    report = const syscall::REPORT,
    pass = const syscall::PASS,
    pid = const syscall::PID,
);

macro_rules! programs {
    ($table:ident: $($name:ident = $symbol:ident $end:expr;)*) => {
        unsafe extern "C" {
            $(static $symbol: u64;)*
        }
        static $table: &[Program] = &[$(
            // SAFETY: programs.S defines it, and nothing writes it.
            Program { name: stringify!($name), end: $end, code: unsafe { &$symbol } },
        )*];
    };
}

const fn killed(vector: u64, error: u64) -> End {
    End::Killed { vector, error }
}
/// A general protection fault without a selector.
const GENERAL: End = killed(13, 0);

programs! { FIRST:
    count = program_count End::Exit(0);
    legacy = program_legacy End::Exit(0);
    divide = program_divide killed(0, 0);
    spin_a = program_spin_a End::TimeUp;
    spin_b = program_spin_b End::TimeUp;
}

programs! { SECOND:
    grow = program_grow End::Exit(0);
    popf = program_popf End::Exit(0);
    bad_pointer = program_bad_pointer End::Exit(0);
    status = program_status End::Exit(42);
    peek = program_peek killed(14, 5);
    poke = program_poke killed(14, 7);
    null = program_null killed(14, 6);
    jump_to_stack = program_jump_to_stack killed(14, 0x15);
    jump_to_kernel = program_jump_to_kernel killed(14, 0x15);
    not_canonical = program_not_canonical GENERAL;
    overflow = program_overflow killed(14, 6);
}

programs! { THIRD:
    cli = program_cli GENERAL;
    sti = program_sti GENERAL;
    hlt = program_hlt GENERAL;
    read_port = program_read_port GENERAL;
    write_port = program_write_port GENERAL;
    read_cr3 = program_read_cr3 GENERAL;
    write_cr3 = program_write_cr3 GENERAL;
    read_msr = program_read_msr GENERAL;
    swap_gs = program_swap_gs GENERAL;
    load_idt = program_load_idt GENERAL;
    return_to_kernel = program_return_to_kernel killed(13, 8);
    timer_gate = program_timer_gate killed(13, 0x20 * 8 + 2);
    fault_gate = program_fault_gate killed(13, 14 * 8 + 2);
    breakpoint = program_breakpoint killed(3, 0);
    undefined = program_undefined killed(6, 0);
    step = program_step killed(1, 0);
    unaligned = program_unaligned killed(17, 0);
}

/// The programs, in waves: those of a wave run together, and the next one gets their memory.
pub static WAVES: [&[Program]; 3] = [FIRST, SECOND, THIRD];
