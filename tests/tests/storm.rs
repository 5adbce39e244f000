//! Interrupts that come all at once: none is lost, every frame returns, the stack stays bounded.

use std::thread;
use std::time::Duration;

use hypercall_abi::Vector;
use tests::{need_kvm, run, run_with, tiny};

#[track_caller]
fn storm(a: &str, b: &str) {
    rounds(a, b, 2000);
}

#[track_caller]
fn rounds(a: &str, b: &str, count: u32) {
    let ran = run(tiny(&format!("storm {a} {b} {count}")));
    assert_eq!(ran.status(), 0, "{}", ran.output);
    assert!(
        ran.output
            .starts_with(&format!("sent {count} {count}, seen")),
        "{}",
        ran.output
    );
    assert!(
        ran.output
            .trim_end()
            .ends_with("with the flag off 0, stack shallow"),
        "{}",
        ran.output
    );
}

#[test]
fn an_interrupt_that_the_monitor_sends_waits_until_the_monitor_is_left() {
    need_kvm!();
    // The monitor's own write to the local APIC makes it pending, while RSP is still the caller's.
    // Where SYSCALL leads to CPL 0, only FMASK keeps it from arriving there.
    rounds("21", "22", 20);
}

#[test]
fn two_vectors_of_one_priority_class() {
    need_kvm!();
    storm("21", "22");
}

#[test]
fn a_higher_class_then_a_lower() {
    need_kvm!();
    storm("31", "21");
}

#[test]
fn two_vectors_of_the_timer_s_class() {
    need_kvm!();
    storm("3a", "31");
}

#[test]
fn interrupts_from_another_thread_join_the_storm() {
    need_kvm!();
    let ran = run_with(tiny("storm 21 31 2000"), |vm| {
        let interrupter = vm.interrupter();
        thread::spawn(move || {
            let vectors = [0x22, 0x32, 0x2f].map(|number| Vector::new(number).expect("in range"));
            for round in 0..20_000usize {
                interrupter.raise(vectors[round % 3]);
                if round % 64 == 0 {
                    thread::sleep(Duration::from_micros(50));
                }
            }
        });
    });
    assert_eq!(ran.status(), 0, "{}", ran.output);
    assert!(
        ran.output
            .trim_end()
            .ends_with("with the flag off 0, stack shallow"),
        "{}",
        ran.output
    );
}
