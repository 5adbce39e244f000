//! Interrupts that the kernel takes: when they wait, when they come, and in what order.

use super::check;
use crate::apic::{self, HIGH, LOW, TIMER};
use crate::own_events::{self, Interrupts};
use crate::x86::{self, IF};

const TOPIC: &str = "timer";
/// How long the timer runs, in microseconds.
const SHORT: u32 = 20;

/// A way to turn interrupts on, given the other flags.
type Way = (&'static str, fn(u64));

pub fn run() {
    let flags = x86::flags();
    // A handler that begins as soon as it may sees IF set: in the interrupted flags.
    let ways: [Way; 4] = [
        ("sti", |_| x86::sti()),
        ("popfq", |flags| x86::set_flags(flags | IF)),
        ("iretq", |flags| x86::set_flags_by_iretq(flags | IF)),
        ("sti hlt", |_| x86::idle()),
    ];
    for (what, enable) in ways {
        raise_timer(what);
        check(
            "timer held before",
            what,
            own_events::take_interrupts().count as u64,
            0,
        );
        enable(flags);
        came("timer after", what, &[TIMER]);
    }
    raise_timer("sti cli");
    x86::sti_cli();
    check(
        "timer after",
        "sti cli",
        own_events::take_interrupts().count as u64,
        0,
    );
    x86::sti();
    came("timer after", "sti", &[TIMER]);
    wake();
    priorities();
}

/// Have the timer's interrupt wait: interrupts are off.
fn raise_timer(what: &str) {
    apic::arm_timer_us(SHORT);
    let is_requested = apic::wait_requested(TIMER);
    check("timer requested before", what, is_requested.into(), 1);
}

/// The interrupts since the last look, and the state that the last one interrupted. They come at
/// once, but where CPL 0 is interpreted that may be some instructions later. Turns them off again.
fn came(topic: &str, what: &str, vectors: &[u8]) {
    own_events::wait_interrupts(vectors.len());
    x86::cli();
    let Interrupts {
        count,
        vectors: noted,
        rflags,
        cs,
    } = own_events::take_interrupts();
    check(topic, what, count as u64, vectors.len() as u64);
    for (got, wanted) in noted.iter().zip(vectors) {
        check(TOPIC, "vector", *got, u64::from(*wanted));
    }
    check(TOPIC, "interrupted flags", rflags, IF | 2);
    check(
        "seg",
        "interrupted cs",
        cs,
        u64::from(crate::segments::KERNEL_CODE),
    );
}

/// A halted processor wakes by an interrupt that comes later.
fn wake() {
    apic::arm_timer_us(SHORT * 100);
    x86::idle();
    came("timer after", "sti hlt, later", &[TIMER]);
}

/// What waits comes by priority, and not at all below the task's.
fn priorities() {
    for vector in [LOW, HIGH] {
        apic::send_to_self(vector);
        let is_requested = apic::wait_requested(vector);
        check("timer requested", "to self", is_requested.into(), 1);
    }
    x86::sti();
    came(TOPIC, "two vectors", &[HIGH, LOW]);

    apic::set_priority(u32::from(LOW >> 4));
    check(TOPIC, "cr8", x86::cr8(), u64::from(LOW >> 4));
    apic::send_to_self(LOW);
    apic::send_to_self(HIGH);
    x86::sti();
    came(TOPIC, "above the task's priority", &[HIGH]);
    x86::sti();
    x86::set_cr8(0);
    came(TOPIC, "after mov cr8", &[LOW]);
}
