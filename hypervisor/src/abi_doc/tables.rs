//! The tables of `docs/abi.md`.

use std::fmt::Write as _;

use hypercall_abi::boot::feature;
use hypercall_abi::error::ERRORS;
use hypercall_abi::{CallError, Row, Slot, layout, table};

use super::places::{shared, window};
use super::{sentence, signature};
use crate::monitor::gates::KvmKind;

/// Every table, by its name in the template.
pub(super) fn tables() -> Vec<(&'static str, String)> {
    vec![
        ("slots", slots()),
        ("errors", errors()),
        ("calls", calls()),
        ("shared", shared()),
        ("window", window()),
        ("features", features()),
    ]
}

/// A table of Markdown; a bar in a cell would end it.
pub(super) fn table_of<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let mut lines = vec![
        line(&head.map(String::from)),
        format!("|{}", "---|".repeat(N)),
    ];
    lines.extend(
        rows.into_iter()
            .map(|row| line(&row.map(|cell| cell.replace('|', "\\|")))),
    );
    lines.join("\n")
}

fn slots() -> String {
    let row = |slot: Slot| {
        [
            format!("`{}`", slot.name()),
            format!("`{:#x}`", layout::slot_address(slot)),
            purpose(slot).to_owned(),
            KvmKind::Hardware.mechanism(slot).to_owned(),
            KvmKind::Software.mechanism(slot).to_owned(),
        ]
    };
    let head = ["slot", "address", "use", "on VMX and SVM", "on kvm_pvm"];
    table_of(head, Slot::IN_PAGE.map(row))
}

fn purpose(slot: Slot) -> &'static str {
    match slot {
        Slot::Monitor => "call: tier 1, number in `rax`",
        Slot::Machine => "call: tier 2, number in `rax`",
        Slot::EventReturn => "jump: let interrupts in and pop the frame at `rsp`",
        Slot::EnterUser => "jump: pop the frame in the user window, in the user's root",
        Slot::Eoi => "call: end of interrupt",
        Slot::ArmTimer => "call: arm the timer, `edi` nanoseconds from now; 0 disarms",
        Slot::Batch => "no gate: queue an entry of the ring",
    }
}

fn errors() -> String {
    let row = |error: CallError| {
        [
            (error as u16).to_string(),
            format!("`{error:?}`"),
            error.text().to_owned(),
        ]
    };
    table_of(["number", "name", "because"], ERRORS.map(row))
}

fn calls() -> String {
    let mut text = String::new();
    for rows in table::TOPICS {
        let topic = rows.first().map_or("", |row| row.topic);
        let head = ["number", "call", "tier", "slot", "modes", "twin", "does"];
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n### {topic}\n\n{}\n",
            table_of(head, rows.iter().map(call))
        );
    }
    text
}

fn call(row: &Row) -> [String; 7] {
    let modes: Vec<&str> = row.modes.iter().map(|mode| mode.name()).collect();
    [
        format!("`{:#04x}`", row.number),
        format!("`{}`", signature(row)),
        format!("{} {}", row.tier.number(), row.tier.name()),
        format!("`{}`", row.slot.name()),
        modes.join(", "),
        row.twin.map_or(String::new(), |twin| format!("`{twin}`")),
        sentence(row),
    ]
}

fn features() -> String {
    let rows = [
        (feature::BATCH, "the batch ring is drained"),
        (
            feature::EXIT_COUNT,
            "`exits` and `calls` count in the shared page",
        ),
        (
            feature::USER_ROOT,
            "user roots: `set_user_root`, the user window, the slot `enter_user`",
        ),
    ];
    let row = |(bit, what): (u64, &str)| [format!("`{bit:#x}`"), what.to_owned()];
    table_of(["feature", "offers"], rows.map(row))
}
