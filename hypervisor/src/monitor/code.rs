//! The monitor's code, as bytes to copy, and the offsets of its points.

use std::arch::global_asm;
use std::mem::offset_of;

use hypercall_abi::shared::{Hold, SharedPage};
use hypercall_abi::{CallError, Slot, layout, table};

use super::gates;

/// Offset in the private page of the prepared frames, 40 bytes each, by entry.
pub const FRAMES: u64 = 0;
/// Offset in the private page of the frame that leads to the pad's `iretq`.
pub const PAD_FRAME: u64 = FRAMES + layout::ENTRIES * 40;
/// Offset in the private page of the active kernel root.
pub const KERNEL_ROOT: u64 = 0xb00;
/// Offset in the private page of the user root.
pub const USER_ROOT: u64 = 0xb08;
/// Offset in the private page of the first frame number beyond memory.
pub const FRAME_LIMIT: u64 = 0xb10;
/// Offset in the private page of a word that calls save `rdx` in.
pub const SAVED_RDX: u64 = 0xb18;
/// Offset in the private page of the calls' addresses, for the int3 gate.
pub const CALLS_INT3: u64 = 0xc00;
/// Offset in the private page of the calls' addresses, for the SYSCALL gate.
pub const CALLS_SYSCALL: u64 = 0xd00;

const _: () = assert!(PAD_FRAME + 40 <= KERNEL_ROOT);
// entry.S masks a call's number into its table.
const _: () = assert!(table::MONITOR_NUMBERS.is_power_of_two());
const _: () = assert!(CALLS_INT3 + 8 * table::MONITOR_NUMBERS <= CALLS_SYSCALL);

global_asm!(
    // Distances from the code to its data, and absolute addresses in the window.
    ".set FRAMES, {FRAMES}",
    ".set PAD_FRAME, {PAD_FRAME}",
    ".set KERNEL_ROOT, {KERNEL_ROOT}",
    ".set USER_ROOT, {USER_ROOT}",
    ".set FRAME_LIMIT, {FRAME_LIMIT}",
    ".set SAVED_RDX, {SAVED_RDX}",
    ".set EXCEPTION_SLOT_END, {EXCEPTION_SLOT_END}",
    ".set HOLD, {SHARED}",
    ".set HOLD_CLI, {SHARED} + {CLI}",
    ".set HOLD_EVENT, {SHARED} + {EVENT}",
    ".set HOLD_USER, {SHARED} + {USER}",
    ".set NEEDS_UNMASK, {SHARED} + {NEEDS}",
    ".set PENDING, {SHARED} + {PENDING}",
    ".set FAULT_ADDRESS, {SHARED} + {FAULT}",
    ".set GATE_INT3, {GATE_INT3}",
    ".set GATE_SYSCALL, {GATE_SYSCALL}",
    ".set MACHINE, {MACHINE}",
    ".set EVENT_RETURN, {EVENT_RETURN}",
    ".set ENTER_USER, {ENTER_USER}",
    ".set PAD_SYSCALL, {PAD_SYSCALL}",
    ".set APIC, {APIC}",
    ".set MONITOR_NUMBERS, {MONITOR_NUMBERS}",
    ".set ENTRY_SYSCALL, {ENTRY_SYSCALL}",
    ".set ENTRY_PENDING, {ENTRY_PENDING}",
    ".set ERROR_UNKNOWN, {UNKNOWN}",
    ".set ERROR_BAD_ARGUMENT, {BAD_ARGUMENT}",
    ".set CALL_PORT, {CALL_PORT}",
    ".set FAULT_PORT, {FAULT_PORT}",
    include_str!("entry.S"),
    FRAMES = const layout::AREA_PRIVATE + FRAMES,
    PAD_FRAME = const layout::AREA_PRIVATE + PAD_FRAME,
    KERNEL_ROOT = const layout::AREA_PRIVATE + KERNEL_ROOT,
    USER_ROOT = const layout::AREA_PRIVATE + USER_ROOT,
    FRAME_LIMIT = const layout::AREA_PRIVATE + FRAME_LIMIT,
    SAVED_RDX = const layout::AREA_PRIVATE + SAVED_RDX,
    EXCEPTION_SLOT_END = const layout::AREA_EVENTS + layout::EXCEPTION_SLOT_END,
    SHARED = const layout::AREA_SHARED,
    CLI = const offset_of!(Hold, cli),
    EVENT = const offset_of!(Hold, event),
    USER = const offset_of!(Hold, user),
    NEEDS = const offset_of!(SharedPage, needs_unmask),
    PENDING = const offset_of!(SharedPage, pending),
    FAULT = const offset_of!(SharedPage, fault_address),
    GATE_INT3 = const (layout::slot_address(Slot::Monitor) + gates::GATE_INT3) as i64,
    GATE_SYSCALL = const (layout::slot_address(Slot::Monitor) + gates::GATE_SYSCALL) as i64,
    MACHINE = const layout::slot_address(Slot::Machine) as i64,
    EVENT_RETURN = const layout::slot_address(Slot::EventReturn) as i64,
    ENTER_USER = const layout::slot_address(Slot::EnterUser) as i64,
    PAD_SYSCALL = const (layout::PAD_PAGE + layout::PAD_SYSCALL) as i64,
    APIC = const layout::APIC_PAGE as i64,
    MONITOR_NUMBERS = const table::MONITOR_NUMBERS,
    ENTRY_SYSCALL = const layout::ENTRY_SYSCALL,
    ENTRY_PENDING = const layout::ENTRY_PENDING,
    UNKNOWN = const CallError::Unknown.to_word() as i64,
    BAD_ARGUMENT = const CallError::BadArgument.to_word() as i64,
    CALL_PORT = const layout::CALL_PORT,
    FAULT_PORT = const layout::FAULT_PORT,
);

// entry.S clears `hold` and `needs_unmask` with one store, and reads `cli` and `event` with one.
const _: () =
    assert!(offset_of!(SharedPage, hold) == 0 && offset_of!(SharedPage, needs_unmask) == 4);
const _: () = assert!(
    offset_of!(Hold, cli) == 0 && offset_of!(Hold, event) == 1 && offset_of!(Hold, user) == 2
);

unsafe extern "C" {
    static paravane_monitor_start: u8;
    static paravane_monitor_end: u8;
    static paravane_monitor_vectors: [u64; layout::ENTRY_VECTORS as usize];
    static paravane_monitor_calls_int3: [u64; table::MONITOR_NUMBERS as usize];
    static paravane_monitor_calls_syscall: [u64; table::MONITOR_NUMBERS as usize];
    static paravane_monitor_points: Points;
}

/// Offsets of single points of the code.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Points {
    /// The displacement of the int3 gate's table jump.
    pub fix_jump_int3: u64,
    /// The displacement of the SYSCALL gate's table jump.
    pub fix_jump_syscall: u64,
    /// The SYSCALL entry.
    pub syscall: u64,
    /// Where a tier-2 call goes on after its `out`.
    pub call_done: u64,
}

/// The monitor's code and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// The instructions.
    pub bytes: &'static [u8],
    /// The offset of each vector's stub.
    pub vectors: &'static [u64; layout::ENTRY_VECTORS as usize],
    /// The offset of each call, entered by the int3 gate.
    pub calls_int3: &'static [u64; table::MONITOR_NUMBERS as usize],
    /// The offset of each call, entered by the SYSCALL gate.
    pub calls_syscall: &'static [u64; table::MONITOR_NUMBERS as usize],
    /// Single points.
    pub points: &'static Points,
}

/// The monitor.
pub fn code() -> Code {
    // SAFETY: entry.S defines the symbols in this order in one read-only section: `start..end` are
    // its bytes, and the tables behind it have the element counts declared above (`.irp` and
    // `.rept` there count to the same constants).
    unsafe {
        let start = &raw const paravane_monitor_start;
        let len = (&raw const paravane_monitor_end).offset_from(start);
        Code {
            bytes: std::slice::from_raw_parts(start, len as usize),
            vectors: &paravane_monitor_vectors,
            calls_int3: &paravane_monitor_calls_int3,
            calls_syscall: &paravane_monitor_calls_syscall,
            points: &paravane_monitor_points,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monitor_fits_its_pages_and_its_points_are_inside() {
        let code = code();
        let len = code.bytes.len() as u64;
        assert!(
            len > 1000 && len <= layout::AREA_TABLES - layout::AREA_CODE,
            "{len} bytes"
        );
        for offset in code
            .vectors
            .iter()
            .chain(code.calls_int3)
            .chain(code.calls_syscall)
        {
            assert!(*offset < len);
        }
        let p = code.points;
        for offset in [p.fix_jump_int3, p.fix_jump_syscall, p.syscall, p.call_done] {
            assert!(offset < len);
        }
    }

    #[test]
    fn each_hlt_has_an_even_address_as_the_handling_of_interrupts_needs() {
        const STI_HLT_CLI: [u8; 3] = [0xfb, 0xf4, 0xfa];
        let found = code().bytes.windows(STI_HLT_CLI.len()).enumerate();
        let at: Vec<usize> = found
            .filter_map(|(at, bytes)| (bytes == STI_HLT_CLI).then_some(at + 1))
            .collect();
        assert_eq!(at.len(), 2, "one for each gate");
        assert!(at.iter().all(|at| at % 2 == 0), "{at:?}");
    }

    #[test]
    fn every_call_of_tier_monitor_has_code_and_no_other_number_does() {
        let code = code();
        let unknown = code.calls_int3[table::MONITOR_NUMBERS as usize - 1];
        for number in 0..table::MONITOR_NUMBERS {
            let listed = table::find(number).is_some();
            assert_eq!(
                code.calls_int3[number as usize] != unknown,
                listed,
                "call {number:#x}"
            );
        }
    }
}
