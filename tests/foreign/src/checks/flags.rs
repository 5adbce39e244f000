//! RFLAGS: critical sections by POPFQ, and what POPFQ and IRETQ change at CPL 0.

use super::check;
use crate::x86::{self, AC, ID, IF, IOPL};

const TOPIC: &str = "flags";

pub fn run() {
    let at_entry = x86::flags();
    check(TOPIC, "at first", at_entry & (IF | IOPL | AC), 0);
    critical_section("off", 0);
    x86::sti();
    check(TOPIC, "after sti", x86::flags() & IF, IF);
    critical_section("on", IF);
    x86::cli();
    check(TOPIC, "after cli", x86::flags() & IF, 0);

    x86::set_flags(at_entry | IF);
    check(TOPIC, "after popfq with IF", x86::flags() & IF, IF);
    x86::set_flags(at_entry);
    check(TOPIC, "after popfq without", x86::flags() & IF, 0);
    x86::set_flags_by_iretq(at_entry | IF);
    check(TOPIC, "after iretq with IF", x86::flags() & IF, IF);
    x86::set_flags_by_iretq(at_entry);
    check(TOPIC, "after iretq without", x86::flags() & IF, 0);

    x86::set_flags(at_entry | IOPL);
    check(TOPIC, "after popfq with IOPL 3", x86::flags() & IOPL, IOPL);
    x86::set_flags(at_entry & !IOPL);
    check(TOPIC, "after popfq with IOPL 0", x86::flags() & IOPL, 0);
    x86::set_flags(at_entry ^ ID);
    check(TOPIC, "id after popfq", (x86::flags() ^ at_entry) & ID, ID);
    x86::set_flags(at_entry);
}

/// As a spin lock does: off, and back to what it was; one in another.
fn critical_section(what: &str, wanted: u64) {
    let outer = x86::flags();
    x86::cli();
    let inner = x86::flags();
    x86::cli();
    let inside = x86::flags() & IF;
    x86::set_flags(inner);
    let between = x86::flags() & IF;
    x86::set_flags(outer);
    let after = x86::flags() & IF;
    check("flags critical section", what, inside | between, 0);
    check("flags after critical section", what, after, wanted);
}
