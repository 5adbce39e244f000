//! The report on a guest that cannot go on.

use std::fmt::Write as _;

use kvm_bindings::{kvm_regs, kvm_sregs};

use crate::loader::{Symbols, backtrace};
use crate::vm::Vm;

/// Frames of a backtrace at most.
const FRAMES: usize = 32;
/// Instruction bytes shown.
const BYTES: usize = 16;
/// The first of the local APIC's in-service registers (SDM vol. 3, table 11-1).
const IN_SERVICE_REGISTERS: usize = 0x100;
/// What the line on interrupts that were not ended begins with.
const IN_SERVICE: &str = "interrupts in service, not ended: ";

impl Vm {
    /// Registers, instruction bytes and a symbolized backtrace, as text.
    pub(crate) fn report(&self) -> String {
        let (Ok(mut regs), Ok(mut sregs)) = (self.vcpu.get_regs(), self.vcpu.get_sregs()) else {
            return "the registers cannot be read".to_owned();
        };
        if let Some(guest) = &self.deprivileged {
            guest.show(&mut regs, &mut sregs);
        }
        if is_reset(&regs, &sregs) {
            return "the registers are lost: the processor was reset, as KVM on SVM does at a triple fault\n"
                .to_owned();
        }
        let mut text = String::new();
        let symbols = Symbols::read(&self.image);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "at {:#018x} {}", regs.rip, symbols.describe(regs.rip));
        registers(&mut text, &regs, &sregs);
        if let Some(vectors) = self.in_service() {
            let _ = writeln!(text, "{IN_SERVICE}{vectors}");
        }
        let _ = writeln!(text, "code {}", self.instruction_bytes(regs.rip));
        let addresses = backtrace::walk(regs.rip, regs.rbp, |at| self.read_virtual(at), FRAMES);
        for line in backtrace::render(&addresses, &symbols) {
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// The interrupts whose end nobody has signalled, or `None` if there are none: while one is in
    /// service, no other of its class or below arrives. On kvm_pvm none ever is.
    fn in_service(&self) -> Option<String> {
        let apic = self.vcpu.get_lapic().ok()?;
        let vectors = (0..=u8::MAX).filter(|vector| {
            let register = IN_SERVICE_REGISTERS + usize::from(vector / 32) * 16;
            let byte = apic.regs.get(register + usize::from(vector % 32 / 8));
            byte.is_some_and(|byte| *byte as u8 & (1 << (vector % 8)) != 0)
        });
        let words: Vec<String> = vectors.map(|vector| format!("{vector:#x}")).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    fn instruction_bytes(&self, rip: u64) -> String {
        let bytes: Vec<String> = (0..BYTES as u64)
            .map_while(|offset| self.read_virtual_byte(rip.checked_add(offset)?))
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if bytes.is_empty() {
            "(not mapped)".to_owned()
        } else {
            bytes.join(" ")
        }
    }

    fn read_virtual_byte(&self, at: u64) -> Option<u8> {
        let phys = self.translate(at)?;
        let mut byte = [0];
        self.memory.get(phys, &mut byte).then_some(byte[0])
    }

    fn read_virtual(&self, at: u64) -> Option<u64> {
        let mut word = [0; 8];
        for (offset, byte) in word.iter_mut().enumerate() {
            *byte = self.read_virtual_byte(at.checked_add(offset as u64)?)?;
        }
        Some(u64::from_le_bytes(word))
    }

    fn translate(&self, at: u64) -> Option<u64> {
        if let Some(guest) = &self.deprivileged {
            return guest.translate(&self.memory, at);
        }
        let answer = self.vcpu.translate_gva(at).ok()?;
        (answer.valid != 0).then_some(answer.physical_address)
    }
}

/// Whether the processor stands where a reset leaves it (SDM vol. 3, 9.1.4). No guest here ever does:
/// each starts in 64-bit mode.
fn is_reset(regs: &kvm_regs, sregs: &kvm_sregs) -> bool {
    regs.rip == 0xfff0 && sregs.cs.base == 0xffff_0000 && sregs.efer == 0
}

fn registers(text: &mut String, r: &kvm_regs, s: &kvm_sregs) {
    let rows: [[(&str, u64); 4]; 6] = [
        [
            ("rax", r.rax),
            ("rbx", r.rbx),
            ("rcx", r.rcx),
            ("rdx", r.rdx),
        ],
        [
            ("rsi", r.rsi),
            ("rdi", r.rdi),
            ("rbp", r.rbp),
            ("rsp", r.rsp),
        ],
        [("r8", r.r8), ("r9", r.r9), ("r10", r.r10), ("r11", r.r11)],
        [
            ("r12", r.r12),
            ("r13", r.r13),
            ("r14", r.r14),
            ("r15", r.r15),
        ],
        [
            ("rip", r.rip),
            ("flags", r.rflags),
            ("cr0", s.cr0),
            ("cr2", s.cr2),
        ],
        [
            ("cr3", s.cr3),
            ("cr4", s.cr4),
            ("efer", s.efer),
            ("cs", u64::from(s.cs.selector)),
        ],
    ];
    for row in rows {
        let words: Vec<String> = row
            .iter()
            .map(|(name, value)| format!("{name:<5} {value:016x}"))
            .collect();
        let _ = writeln!(text, "{}", words.join("  "));
    }
}
