//! Each privileged or sensitive instruction alone, in a loop, for the benchmark. Called by the hooks.
//!
//! Each loop leaves the processor as it was: what it writes is what was there. A loop is assembly as a whole,
//! so that no instruction is in it but a NOP behind each: where CPL 0 is interpreted each would count.

use core::arch::asm;

use hypercall_abi::layout::UART_PORT;
use pv_guest::hooks::Privileged;

use crate::tables;

/// IA32_KERNEL_GS_BASE (SDM vol. 4, table 2-2): the kernel uses neither it nor GS.
const KERNEL_GS_BASE: u32 = 0xc000_0102;
/// The UART's line status: reading it is without effect while nothing was sent too fast.
const LINE_STATUS: u16 = UART_PORT + 5;
/// The UART's register for whatever a driver likes.
const SCRATCH: u16 = UART_PORT + 7;
/// RFLAGS with nothing set but the bit that always is: interrupts off.
const FLAGS: u64 = 2;

/// A NOP of five bytes. These instructions have others around them wherever they are used: whoever replaces one of a
/// byte by a jump needs their room, and whoever emulates several in a row at once is not to be measured by that.
macro_rules! long_nop {
    () => {
        ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00"
    };
}

/// Sixteen times the instructions, a NOP behind each, in each of `turns` turns, and then what ends a turn.
macro_rules! repeat {
    ($turns:ident, $($line:expr),+; $($operand:tt)*) => {
        repeat!(@ $turns, [], [$($line, long_nop!()),+], []; $($operand)*)
    };
    (@ $turns:ident, [$($before:expr),*], [$($line:expr),+], [$($after:expr),*]; $($operand:tt)*) => {
        asm!(
            "2:",
            $($before,)*
            ".rept 16",
            $($line,)+
            ".endr",
            $($after,)*
            "dec {turns}",
            "jnz 2b",
            turns = inout(reg) $turns => _,
            $($operand)*
        )
    };
}

/// The value that an instruction writes: what is there now. 0 for one that writes none.
pub fn operand(which: Privileged) -> u64 {
    let value: u64;
    // SAFETY: registers are read, at CPL 0, and nothing else happens.
    unsafe {
        match which {
            Privileged::WriteCr0 => asm!("mov {}, cr0", out(reg) value, options(nomem, nostack)),
            Privileged::WriteCr3 => asm!("mov {}, cr3", out(reg) value, options(nomem, nostack)),
            Privileged::WriteCr4 => asm!("mov {}, cr4", out(reg) value, options(nomem, nostack)),
            Privileged::WriteCr8 => asm!("mov {}, cr8", out(reg) value, options(nomem, nostack)),
            Privileged::WriteDr7 => asm!("mov {}, dr7", out(reg) value, options(nomem, nostack)),
            Privileged::WriteMsr => {
                let (high, low): (u64, u64);
                asm!("rdmsr", in("ecx") KERNEL_GS_BASE, out("rdx") high, out("rax") low, options(nomem, nostack));
                value = high << 32 | low;
            }
            _ => value = 0,
        }
    }
    value
}

/// Execute an instruction, so many turns.
pub fn execute(which: Privileged, operand: u64, turns: u64) {
    if turns == 0 {
        return;
    }
    // SAFETY: at CPL 0 each of these does what it says. What is written is `operand`, which `operand` above
    // has just read, or what `tables` has loaded; flags end with interrupts on or off, as the caller expects
    // of this. The images are built without a red zone.
    unsafe {
        match which {
            Privileged::Cli => repeat!(turns, "cli"; options(nostack)),
            Privileged::Sti => repeat!(turns, "sti"; options(nostack)),
            Privileged::CliSti => repeat!(turns, "cli", "sti"; options(nostack)),
            Privileged::PushFlags => {
                repeat!(@ turns, [], ["pushfq", long_nop!()], ["lea rsp, [rsp + 8 * 16]"];)
            }
            Privileged::PopFlags => pop_flags(turns),
            Privileged::ReadCr0 => repeat!(turns, "mov {to}, cr0"; to = out(reg) _),
            Privileged::WriteCr0 => repeat!(turns, "mov cr0, {from}"; from = in(reg) operand),
            Privileged::ReadCr2 => repeat!(turns, "mov {to}, cr2"; to = out(reg) _),
            Privileged::ReadCr3 => repeat!(turns, "mov {to}, cr3"; to = out(reg) _),
            Privileged::WriteCr3 => repeat!(turns, "mov cr3, {from}"; from = in(reg) operand),
            Privileged::ReadCr4 => repeat!(turns, "mov {to}, cr4"; to = out(reg) _),
            Privileged::WriteCr4 => repeat!(turns, "mov cr4, {from}"; from = in(reg) operand),
            Privileged::ReadCr8 => repeat!(turns, "mov {to}, cr8"; to = out(reg) _),
            Privileged::WriteCr8 => repeat!(turns, "mov cr8, {from}"; from = in(reg) operand),
            Privileged::ReadDr7 => repeat!(turns, "mov {to}, dr7"; to = out(reg) _),
            Privileged::WriteDr7 => repeat!(turns, "mov dr7, {from}"; from = in(reg) operand),
            Privileged::LoadGdt => {
                let pointer = tables::gdt();
                repeat!(turns, "lgdt [{from}]"; from = in(reg) &pointer)
            }
            Privileged::LoadIdt => {
                let pointer = tables::idt();
                repeat!(turns, "lidt [{from}]"; from = in(reg) &pointer)
            }
            Privileged::LoadLdt => repeat!(turns, "lldt {none:x}"; none = in(reg) 0),
            Privileged::LoadTask => {
                repeat!(turns, "and byte ptr [{kind}], ~2", "ltr {task:x}";
                    kind = in(reg) tables::kind_of_task(), task = in(reg) tables::TSS)
            }
            Privileged::ClearTaskSwitched => repeat!(turns, "clts"; options(nostack)),
            Privileged::ReadMsr => {
                repeat!(turns, "rdmsr"; in("ecx") KERNEL_GS_BASE, out("eax") _, out("edx") _)
            }
            Privileged::WriteMsr => {
                repeat!(turns, "wrmsr"; in("ecx") KERNEL_GS_BASE, in("rax") operand, in("rdx") operand >> 32)
            }
            Privileged::SwapGsTwice => repeat!(turns, "swapgs", "swapgs"; options(nostack)),
            Privileged::Cpuid => {
                // RBX is the compiler's own.
                let rbx: u64;
                asm!("mov {}, rbx", out(reg) rbx);
                repeat!(@ turns, [], ["xor eax, eax", "cpuid", long_nop!()], ["mov rbx, {rbx}"];
                    rbx = in(reg) rbx, out("eax") _, out("ecx") _, out("edx") _)
            }
            Privileged::PortIn => {
                repeat!(turns, "in al, dx"; in("dx") LINE_STATUS, out("al") _)
            }
            Privileged::PortOut => {
                repeat!(turns, "out dx, al"; in("dx") SCRATCH, in("al") 0_u8)
            }
            Privileged::WriteBack => repeat!(turns, "wbinvd"; options(nostack)),
            Privileged::ReadSegment => repeat!(turns, "mov {to:e}, ds"; to = out(reg) _),
            Privileged::Iret => interrupt_return(turns),
        }
    }
}

/// POPF, of words that were stored once: what is below RSP stays, as interrupts are off.
///
/// # Safety
/// At CPL 0, with interrupts off, `turns` above 0.
unsafe fn pop_flags(turns: u64) {
    // SAFETY: the caller's; RSP is back where it was after each turn.
    unsafe {
        asm!(
            ".rept 16",
            "push {flags}",
            ".endr",
            "lea rsp, [rsp + 8 * 16]",
            "2:",
            "lea rsp, [rsp - 8 * 16]",
            ".rept 16",
            "popfq",
            long_nop!(),
            ".endr",
            "dec {turns}",
            "jnz 2b",
            turns = inout(reg) turns => _,
            flags = const FLAGS,
        );
    }
}

/// IRETQ through a frame that leads behind it.
///
/// # Safety
/// At CPL 0, with interrupts off, `turns` above 0.
unsafe fn interrupt_return(turns: u64) {
    // SAFETY: the caller's. The frame has the selectors and the stack of now; it stays below RSP, where nobody
    // writes with interrupts off, and is read only.
    unsafe {
        asm!(
            "mov {top}, rsp",
            "push {stack_selector}",
            "push {top}",
            "push {flags}",
            "push {code_selector}",
            "call 4f", // the frame leads here
            "dec {turns}",
            "jz 5f",
            "2:",
            "mov rsp, {frame}",
            "iretq",
            "4:",
            "mov {frame}, rsp",
            "jmp 2b",
            "5:",
            top = out(reg) _,
            frame = out(reg) _,
            turns = inout(reg) turns => _,
            stack_selector = const tables::DATA,
            code_selector = const tables::CODE,
            flags = const FLAGS,
        );
    }
}
