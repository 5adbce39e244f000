//! Facts that the kernel finds out about its processor at CPL 0: each is a line, and compared with
//! what the manuals say.

mod control;
mod faults;
mod flags;
mod paging;
mod seg;
mod timer;

use core::fmt;

use crate::cell::OneCpu;
use crate::own_events::Caught;
use crate::{Skipped, console, println};

static FAILURES: OneCpu<u64> = OneCpu::new(0);

/// How many checks did not hold.
pub fn failures() -> u64 {
    FAILURES.with(|count| *count)
}

/// Count a check that did not hold, and say what it should have been.
pub fn fail(topic: &str, what: &str, wanted: fmt::Arguments<'_>) {
    FAILURES.with(|count| *count += 1);
    println!("{topic} {what} SHOULD BE {wanted}");
}

/// Run all groups of checks.
pub fn run(skipped: Skipped) {
    let groups: [(&str, fn()); 8] = [
        ("seg", seg::run),
        ("descriptors", seg::descriptors),
        ("control", control::run),
        ("flags", flags::run),
        ("paging", paging::run),
        ("fault", faults::run),
        ("double", faults::double),
        ("timer", timer::run),
    ];
    for (name, group) in groups {
        if !skipped.has(name) {
            group();
        }
    }
    console::write_string(b"string this line is one instruction\n");
}

/// A fact and its value.
fn check(topic: &str, what: &str, got: u64, wanted: u64) {
    println!("{topic} {what} = {got:#x}");
    if got != wanted {
        fail(topic, what, format_args!("{wanted:#x}"));
    }
}

/// An exception and its frame: it points at the instruction, and comes from the kernel.
fn check_fault(topic: &str, what: &str, caught: Option<Caught>, vector: u64, error: u64) {
    let Some(caught) = caught else {
        println!("{topic} {what}: no exception");
        return fail(
            topic,
            what,
            format_args!("vector {vector} error {error:#x}"),
        );
    };
    println!(
        "{topic} {what}: vector {} error {:#x} rip +{:#x} cs {:#x} flags {:#x}",
        caught.vector, caught.error, caught.rip_offset, caught.cs, caught.rflags
    );
    if let Some(address) = caught.address {
        println!("{topic} {what}: address {address:#x}");
    }
    if (caught.vector, caught.error, caught.rip_offset) != (vector, error, 0) {
        fail(
            topic,
            what,
            format_args!("vector {vector} error {error:#x} rip +0"),
        );
    }
}
