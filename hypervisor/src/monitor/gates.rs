//! Which instructions make the best gate on this KVM, and the hypercall page made of them.

use hypercall_abi::{CallError, Slot, layout, table};
use serde::Serialize;

/// What a KVM does with guest code, found by a probe (`crate::vm::probe`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KvmKind {
    /// VMX or SVM, real or emulated: SYSCALL reaches CPL 0, guest code at CPL 0 runs natively.
    Hardware,
    /// kvm_pvm: SYSCALL stays at CPL 3, guest code at CPL 0 is interpreted.
    Software,
}

impl KvmKind {
    /// The kind's name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hardware => "hardware (VMX/SVM)",
            Self::Software => "software (kvm_pvm)",
        }
    }

    /// The mechanism of a slot, in words.
    pub const fn mechanism(self, slot: Slot) -> &'static str {
        match (self, slot) {
            (Self::Hardware, Slot::Monitor) => "syscall to CPL 0",
            (Self::Hardware, Slot::Machine) => "syscall to CPL 0, then out",
            (Self::Hardware, Slot::Eoi | Slot::ArmTimer) => "syscall to CPL 0, then wrmsr (x2APIC)",
            (Self::Software, Slot::Monitor) | (_, Slot::EventReturn | Slot::EnterUser) => {
                "int3 to CPL 0"
            }
            (Self::Software, Slot::Machine) => "MMIO store at CPL 3",
            (Self::Software, Slot::Eoi | Slot::ArmTimer) => "xAPIC store at CPL 3",
            (_, Slot::Batch) => "shared ring, drained by any exit",
        }
    }
}

/// `mov dword ptr [sign-extended address], eax` or `..., edi`.
fn store(address: u64, register: u8) -> Vec<u8> {
    let mut code = vec![0x89, 0x04 | register << 3, 0x25];
    code.extend_from_slice(&(address as u32).to_le_bytes());
    code
}

/// `mov eax, number; jmp to`, for a slot.
fn call_through(slot: Slot, number: u64, to: Slot) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend_from_slice(&(number as u32).to_le_bytes());
    let next = layout::slot_address(slot) + code.len() as u64 + 5;
    code.push(0xe9);
    code.extend_from_slice(&(layout::slot_address(to).wrapping_sub(next) as u32).to_le_bytes());
    code
}

/// Offset in the slot `monitor` of what comes behind the check of the number.
pub const BEHIND_CHECK: u64 = 6;
/// Offset in the slot `monitor` of the SYSCALL that enters the monitor.
pub const GATE_SYSCALL: u64 = BEHIND_CHECK;
/// Offset in the slot `monitor` of the int3 that enters the monitor.
pub const GATE_INT3: u64 = BEHIND_CHECK + PREPARE_INT3.len() as u64;

/// What the int3 gate does before: number to r11, and the result of a call that says nothing.
const PREPARE_INT3: [u8; 5] = [0x49, 0x89, 0xc3, 0x31, 0xc0]; // mov r11, rax; xor eax, eax

/// The tier-1 gate: refuse a number that no call of tier `monitor` has, then enter the monitor.
/// What can be done at CPL 3 is done here, where it costs nothing on hosts that interpret CPL 0.
///
/// The monitor itself only masks the number into its table, so that a guest that jumps past the
/// check reaches some call of the table and never an address of its own making.
fn monitor_gate(prepare: &[u8], enter: &[u8]) -> Vec<u8> {
    let mut code = vec![0x48, 0x83, 0xf8, table::MONITOR_NUMBERS as u8 - 1]; // cmp rax, last
    code.extend_from_slice(&[0x77, (prepare.len() + enter.len()) as u8 + 1]); // ja refuse
    code.extend_from_slice(prepare);
    code.extend_from_slice(enter);
    code.push(RET);
    code.extend_from_slice(&[0x48, 0xc7, 0xc0]); // refuse: mov rax, unknown
    code.extend_from_slice(&(CallError::Unknown.to_word() as u32).to_le_bytes());
    code.push(RET);
    code
}

const RET: u8 = 0xc3;
const INT3: u8 = 0xcc;
const SYSCALL: [u8; 2] = [0x0f, 0x05];
const IRETQ: [u8; 2] = [0x48, 0xcf];

/// The hypercall page for a kind of KVM.
pub fn hypercall_page(kind: KvmKind) -> [u8; 4096] {
    let mut page = [INT3; 4096];
    for slot in Slot::IN_PAGE {
        let code: Vec<u8> = match (kind, slot) {
            (KvmKind::Hardware, Slot::Monitor) => monitor_gate(&[], &SYSCALL),
            (KvmKind::Hardware, Slot::Machine) => [&SYSCALL[..], &[RET]].concat(),
            (KvmKind::Hardware, Slot::Eoi) => call_through(slot, 0x06, Slot::Monitor),
            (KvmKind::Hardware, Slot::ArmTimer) => call_through(slot, 0x08, Slot::Monitor),
            (KvmKind::Software, Slot::Monitor) => monitor_gate(&PREPARE_INT3, &[INT3]),
            (KvmKind::Software, Slot::Machine) => {
                [store(layout::DOORBELL_PAGE, 0), vec![RET]].concat()
            }
            // mov dword ptr [apic + 0xb0], 0
            (KvmKind::Software, Slot::Eoi) => [
                &[0x31, 0xc0][..], // xor eax, eax: the value, and the result
                &store(layout::APIC_PAGE + 0xb0, 0),
                &[RET],
            ]
            .concat(),
            (KvmKind::Software, Slot::ArmTimer) => {
                [store(layout::APIC_PAGE + 0x380, 7), vec![0x31, 0xc0, RET]].concat()
            }
            (_, Slot::EventReturn) => [&[INT3][..], &IRETQ].concat(),
            (_, Slot::EnterUser | Slot::Batch) => vec![INT3],
        };
        let at = (slot as u64 * layout::SLOT_SIZE) as usize;
        page[at..at + code.len()].copy_from_slice(&code);
    }
    page
}

/// The page of pads. Before [`KvmKind`] is known it holds the probe: `syscall` at its start, whose
/// target is the doorbell store at [`layout::PAD_SYSCALL`].
pub fn pad_page(kind: Option<KvmKind>) -> [u8; 4096] {
    let mut page = [INT3; 4096];
    let (enter, arrive): (&[u8], Vec<u8>) = match kind {
        Some(_) => (&IRETQ, vec![INT3]),
        None => (&SYSCALL, store(layout::DOORBELL_PAGE, 0)),
    };
    // Report the event, again for ever: the VMM ends the run at the first.
    let report = store(layout::DOORBELL_PAGE + layout::DOORBELL_NO_ENTRIES, 0);
    let lost = [report, vec![0xeb, 0xf7]].concat();
    let c = layout::PAD_NO_ENTRIES as usize;
    page[c..c + lost.len()].copy_from_slice(&lost);
    let (a, b) = (
        layout::PAD_ENTER_USER as usize,
        layout::PAD_SYSCALL as usize,
    );
    page[a..a + enter.len()].copy_from_slice(enter);
    page[b..b + arrive.len()].copy_from_slice(&arrive);
    page
}

const _: () = assert!(Slot::IN_PAGE.len() as u64 * layout::SLOT_SIZE <= 4096);
const _: () = assert!(table::MONITOR_NUMBERS > 8);

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    fn disassemble(kind: KvmKind, slot: Slot) -> Vec<String> {
        let page = hypercall_page(kind);
        let at = (slot as u64 * layout::SLOT_SIZE) as usize;
        let mut decoder = Decoder::with_ip(
            64,
            &page[at..at + 32],
            layout::slot_address(slot),
            DecoderOptions::NONE,
        );
        let mut lines = Vec::new();
        while let Some(instruction) = decoder.iter().next() {
            lines.push(instruction.to_string());
            if lines.len() > 7
                || lines
                    .last()
                    .is_some_and(|l| l == "ret" || l.starts_with("jmp") || l == "iretq")
            {
                break;
            }
        }
        lines
    }

    #[test]
    fn slots_hold_the_instructions_that_their_mechanism_says() {
        assert_eq!(
            disassemble(KvmKind::Hardware, Slot::Monitor),
            [
                "cmp rax,1Fh",
                "ja short 0FFFFFFFFFFE00009h",
                "syscall",
                "ret"
            ]
        );
        assert_eq!(
            disassemble(KvmKind::Software, Slot::Monitor),
            [
                "cmp rax,1Fh",
                "ja short 0FFFFFFFFFFE0000Dh",
                "mov r11,rax",
                "xor eax,eax",
                "int3",
                "ret"
            ]
        );
        assert_eq!(disassemble(KvmKind::Software, Slot::Machine)[1], "ret");
        assert!(disassemble(KvmKind::Software, Slot::Machine)[0].ends_with("],eax"));
        assert_eq!(
            disassemble(KvmKind::Hardware, Slot::Eoi),
            ["mov eax,6", "jmp 0FFFFFFFFFFE00000h"]
        );
        assert_eq!(
            disassemble(KvmKind::Hardware, Slot::ArmTimer),
            ["mov eax,8", "jmp 0FFFFFFFFFFE00000h"]
        );
        assert!(disassemble(KvmKind::Software, Slot::ArmTimer)[0].ends_with("],edi"));
        assert_eq!(
            disassemble(KvmKind::Software, Slot::EventReturn),
            ["int3", "iretq"]
        );
    }

    #[test]
    fn slots_name_the_table_s_numbers() {
        use hypercall_abi::{TypedCall, table::irq, table::time};
        assert_eq!(
            <irq::calls::end_of_interrupt as TypedCall>::ROW.number,
            0x06
        );
        assert_eq!(<time::calls::arm_timer as TypedCall>::ROW.number, 0x08);
    }
}
