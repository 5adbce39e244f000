//! What is compared: every register that a case can change, as the first event finds it.

use core::fmt::Write;

use hypercall_abi::layout::UART_PORT;

use crate::console::Line;
use crate::machine::{self, MSRS};
use crate::x86;

/// Registers that are read by an instruction of their own: names and values.
type Own = [(&'static str, u64); 22];

/// All registers but those that an event saves.
#[derive(Clone, Copy)]
pub struct State {
    own: Own,
    msrs: [u64; MSRS.len()],
}

impl State {
    /// Those of now.
    pub fn read() -> Self {
        let (gdt, idt) = (x86::gdt(), x86::idt());
        Self {
            own: [
                ("ds", x86::ds().into()),
                ("es", x86::es().into()),
                ("fs", x86::fs().into()),
                ("gs", x86::gs().into()),
                ("cr0", x86::cr0()),
                ("cr2", x86::cr2()),
                ("cr3", x86::cr3()),
                ("cr4", x86::cr4()),
                ("cr8", x86::cr8()),
                ("dr0", x86::dr0()),
                ("dr1", x86::dr1()),
                ("dr2", x86::dr2()),
                ("dr3", x86::dr3()),
                ("dr6", x86::dr6()),
                ("dr7", x86::dr7()),
                ("gdtr", gdt.base),
                ("gdtlimit", gdt.limit.into()),
                ("idtr", idt.base),
                ("idtlimit", idt.limit.into()),
                ("ldtr", x86::local_table().into()),
                ("tr", x86::task().into()),
                ("port", x86::in8(UART_PORT + 7).into()),
            ],
            msrs: MSRS.map(|(index, _, _)| x86::msr(index)),
        }
    }

    /// Write what is not as it was.
    pub fn write_changes(&self, before: &Self, line: &mut Line) {
        for ((name, now), (_, before)) in self.own.iter().zip(&before.own) {
            write_change(line, name, *before, *now);
        }
        for ((now, before), (_, name, _)) in self.msrs.iter().zip(&before.msrs).zip(MSRS) {
            write_change(line, name, *before, *now);
        }
    }
}

/// Write a register if it is not as it was.
pub fn write_change(line: &mut Line, name: &str, before: u64, now: u64) {
    if now != before {
        let _ = write!(line, " {name}={now:x}");
    }
}

/// Write the words of memory that are not as they were.
pub fn write_memory(line: &mut Line) {
    machine::changed_words(|at, value| {
        let _ = write!(line, " {at:x}={value:x}");
    });
}
