//! Counted on this host's KVM.

use super::*;
use crate::floor::{Platform, keep_kvm_on};
use crate::micro::ROWS;

/// Of every row, exits, calls of tier 2 and calls of tier 3, each of so many operations; `None` for a row
/// that this image does not have.
fn counts(mode: Mode) -> Vec<(&'static str, Option<[PerOp; 3]>)> {
    keep_kvm_on();
    let rows = ROWS.iter().filter(|row| row.is_counted(mode));
    let names: Vec<_> = rows.map(|row| row.name).collect();
    let counted = count(mode, &names, &Watch::start().unwrap()).unwrap();
    let rows = counted.into_iter().map(|(name, counted)| match counted {
        Counted::Counts(counts) => {
            let Counts {
                exits,
                machine_calls,
                batch_calls,
            } = counts;
            (name, Some([exits, machine_calls, batch_calls]))
        }
        Counted::Absent => (name, None),
        Counted::Failed { why } => panic!("{name}: {why}"),
    });
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), names);
    rows
}

fn per_op(count: u64, operations: u64) -> PerOp {
    PerOp::new(count, operations).unwrap()
}

/// Instructions that no hook of the pv image replaces.
const NATIVE_ALONE: &[&str] = &[
    "popf",
    "cr0_read",
    "cr0_write",
    "cr3_read",
    "cr4_read",
    "cr4_write",
    "cr8_read",
    "cr8_write",
    "dr_read",
    "dr_write",
    "lgdt",
    "lidt",
    "lldt",
    "ltr",
    "clts",
    "rdmsr",
    "wrmsr",
    "swapgs",
    "cpuid",
    "port_in",
    "port_out",
    "wbinvd",
    "segment_read",
    "iretq",
];

#[test]
fn in_pv_only_what_must_reach_the_vmm_exits() {
    for (row, counts) in counts(Mode::Pv) {
        // Each exit is a call: of what the row does, or of what drains the ring.
        let (exits, entries) = match row {
            "null_machine" => (per_op(1, 1), per_op(0, 1)),
            "null_batch" | "console_byte" => (per_op(1, 64), per_op(1, 1)),
            // 40 bytes fit an entry.
            "console_64" => (per_op(1, 32), per_op(2, 1)),
            "console_line" => (per_op(1, 1), per_op(2, 1)),
            _ => (per_op(0, 1), per_op(0, 1)),
        };
        let expected = (!NATIVE_ALONE.contains(&row)).then_some([exits, exits, entries]);
        assert_eq!(counts, expected, "{row}");
    }
}

#[test]
fn in_hvm_every_byte_of_the_uart_exits_and_little_else() {
    keep_kvm_on();
    let platform = Platform::detect().unwrap();
    for (row, counts) in counts(Mode::Hvm) {
        let exits = match row {
            "null_monitor" | "null_machine" | "null_batch" => None,
            "console_byte" | "port_in" | "port_out" => Some(1),
            "console_64" | "console_line" => Some(64),
            // kvm_pvm cannot interpret INT3 at CPL 0; the VMM raises the exception.
            "breakpoint" if platform == Platform::KvmPvm => Some(1),
            _ => Some(0),
        };
        let none = per_op(0, 1);
        let expected = exits.map(|exits| [per_op(exits, 1), none, none]);
        assert_eq!(counts, expected, "{row}");
    }
}

/// Exits in trap, of so many operations; `None` for a row that the native image does not have.
fn in_trap(row: &str) -> Option<(u64, u64)> {
    match row {
        "null_monitor" | "null_machine" | "null_batch" => None,
        // Nothing in them traps: the clock and the local APIC are the processor's own.
        "empty_loop" | "clock_read" | "timer_arm" => Some((0, 1)),
        // STI is done in one exit with the CLI behind it, but for the last one of 16.
        "irq_off_on" => Some((17, 16)),
        // The event, and the IRETQ of its handler.
        "divide_error" | "breakpoint" | "general_protection" => Some((2, 1)),
        // PUSHF of two locks, INVLPG, and the touch, which is a hidden fault.
        "page_remap" => Some((4, 1)),
        // The interrupt, PUSHF of the timer's handler, and IRETQ.
        "timer_interrupt" => Some((3, 1)),
        // INVLPG and the touch.
        "table_write" => Some((2, 1)),
        // The touch, and MOV to CR3 for 64 of them.
        "hidden_fault" => Some((65, 64)),
        "cli_sti" | "swapgs" => Some((2, 1)),
        // All others are an instruction.
        _ => Some((1, 1)),
    }
}

/// Exits in patch, likewise: those of trap, without the instructions that are replaced, or done in the exit of another.
fn in_patch(row: &str) -> Option<(u64, u64)> {
    match row {
        "cli" | "sti" | "cli_sti" | "pushf" | "popf" => Some((0, 1)),
        "page_remap" => Some((2, 1)),
        // Sixteen follow each other, and are done in one exit.
        "invalidate_page" => Some((1, 16)),
        other => in_trap(other),
    }
}

#[test]
fn in_trap_every_trapped_instruction_exits_once_and_in_patch_those_that_are_replaced_do_not() {
    for (mode, exits) in [
        (Mode::Trap, in_trap as fn(&str) -> Option<(u64, u64)>),
        (Mode::Patch, in_patch),
    ] {
        for (row, counts) in counts(mode) {
            let none = per_op(0, 1);
            let expected = exits(row).map(|(exits, of)| [per_op(exits, of), none, none]);
            assert_eq!(counts, expected, "{row} in {mode:?}");
        }
    }
}

#[test]
fn a_row_without_operations_or_without_a_line_failed() {
    let measured = |n, ticks| Outcome::Measured {
        n,
        exits: 3,
        calls: 2,
        entries: 1,
        ticks,
    };
    let Counted::Counts(counts) = counted(Some(&measured(2, vec![1, 1]))) else {
        panic!("it was counted");
    };
    assert_eq!(counts.exits, per_op(3, 4));
    assert_eq!(counts.machine_calls, per_op(1, 2));
    assert_eq!(counts.batch_calls, per_op(1, 4));
    let empty = measured(2, Vec::new());
    for outcome in [None, Some(&empty), Some(&Outcome::Failed("lost".into()))] {
        assert!(matches!(counted(outcome), Counted::Failed { .. }));
    }
}
