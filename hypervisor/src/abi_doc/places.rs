//! The tables of `docs/abi.md` that say where something is.

use std::mem::offset_of;

use hypercall_abi::layout;
use hypercall_abi::shared::{Hold, SharedPage};

use super::tables::table_of;

/// The words of the shared page.
pub(super) fn shared() -> String {
    let hold = offset_of!(SharedPage, hold);
    let rows = [
        (
            hold + offset_of!(Hold, cli),
            1,
            "hold.cli",
            "1 while the kernel holds interrupts: its interrupt flag, inverted",
        ),
        (
            hold + offset_of!(Hold, event),
            1,
            "hold.event",
            "1 from the bounce of an event until the kernel has copied its frame",
        ),
        (
            hold + offset_of!(Hold, user),
            1,
            "hold.user",
            "1 while the user root is loaded, until the kernel's entry has seen that",
        ),
        (
            hold + offset_of!(Hold, reserved),
            1,
            "hold.reserved",
            "reserved",
        ),
        (
            offset_of!(SharedPage, needs_unmask),
            4,
            "needs_unmask",
            "not 0 when storing 0 to `hold.cli` does not suffice: call `unmask`",
        ),
        (
            offset_of!(SharedPage, pending),
            8,
            "pending",
            "a bit for each vector that arrived while interrupts were held",
        ),
        (
            offset_of!(SharedPage, fault_address),
            8,
            "fault_address",
            "the linear address of the last page fault",
        ),
        (
            offset_of!(SharedPage, kernel_stack),
            8,
            "kernel_stack",
            "the kernel's own: the stack for an event from user mode",
        ),
        (
            offset_of!(SharedPage, vcpu),
            4,
            "vcpu",
            "this processor's number",
        ),
        (
            offset_of!(SharedPage, apic_id),
            4,
            "apic_id",
            "this processor's local APIC identifier",
        ),
        (
            offset_of!(SharedPage, tsc_base),
            8,
            "tsc_base",
            "the TSC at time zero",
        ),
        (
            offset_of!(SharedPage, tsc_mul),
            8,
            "tsc_mul",
            "nanoseconds per tick, as a 32.32 fixed-point number",
        ),
        (
            offset_of!(SharedPage, exits),
            8,
            "exits",
            "how often this processor has left for the machine",
        ),
        (
            offset_of!(SharedPage, ring_tail),
            4,
            "ring_tail",
            "entries that the guest has queued, ever",
        ),
        (
            offset_of!(SharedPage, ring_head),
            4,
            "ring_head",
            "entries that the hypervisor has run, ever",
        ),
        (
            offset_of!(SharedPage, calls),
            8,
            "calls",
            "calls of tier 2 that the hypervisor has answered",
        ),
    ];
    let row = |(at, size, name, what): (usize, u32, &str, &str)| {
        [
            format!("`{at:#x}`"),
            size.to_string(),
            format!("`{name}`"),
            what.to_owned(),
        ]
    };
    table_of(["offset", "bytes", "word", "is"], rows.map(row))
}

/// The pages of the window.
pub(super) fn window() -> String {
    let area = layout::vcpu_area(0);
    let rows = [
        (layout::HYPERCALL_PAGE, "hypercall page", "r-x", "-"),
        (
            layout::DOORBELL_PAGE,
            "doorbell of tier 2, where a store is the best gate",
            "rw-",
            "-",
        ),
        (layout::APIC_PAGE, "registers of the local APIC", "rw-", "-"),
        (
            layout::PAD_PAGE,
            "pads: code on the way to and from user mode",
            "r-x",
            "r-x",
        ),
        (
            area + layout::AREA_CODE,
            "the monitor's code, tables and frames",
            "-",
            "-",
        ),
        (
            area + layout::AREA_EVENTS,
            "event slots and scratch stack",
            "rw-",
            "-",
        ),
        (area + layout::AREA_SHARED, "shared page", "rw-", "-"),
        (area + layout::AREA_RING, "batch ring", "rw-", "-"),
        (area + layout::AREA_USER, "user window", "rw-", "r--"),
        (area + layout::AREA_STACKS, "the monitor's stacks", "-", "-"),
    ];
    let row = |(at, what, kernel, user): (u64, &str, &str, &str)| {
        [
            format!("`{at:#x}`"),
            what.to_owned(),
            format!("`{kernel}`"),
            format!("`{user}`"),
        ]
    };
    let head = [
        "address",
        "what (first processor; `-` is the monitor's alone)",
        "kernel's view",
        "user's view",
    ];
    let stride = format!(
        "\n\nEach further processor has an area of its own, `{:#x}` bytes higher.",
        layout::VCPU_STRIDE
    );
    table_of(head, rows.map(row)) + &stride
}
