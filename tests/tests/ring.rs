//! The batch ring: full, wrapped, corrupt, and in order with the calls that do not wait.

use std::time::Duration;

use hypervisor::GuestFault;
use tests::{need_kvm, run, run_for, script};

#[test]
fn a_ring_that_is_not_full_makes_no_exit_and_the_entry_too_many_makes_one() {
    need_kvm!();
    let ran = run(script(
        "mark; repeat 40 queue 21; exits; mark; repeat 41 queue 21; exits; \
         mark; repeat 80 queue 21; exits; mark; repeat 81 queue 21; exits",
    ));
    assert_eq!(ran.lines(), ["0 exits", "1 exits", "1 exits", "2 exits"]);
    assert_eq!(ran.calls("null_batch"), 0x40 + 0x41 + 0x80 + 0x81);
}

#[test]
fn entries_stay_in_order_while_the_ring_wraps() {
    need_kvm!();
    let ran = run(script("repeat 80 queue 30 2 6261; say !; machine 22"));
    let (letters, rest) = ran.output.split_at(256);
    assert_eq!(letters, "ab".repeat(128));
    // The last drain has what came after the 64 entries of the drain before: "!" and its newline.
    assert_eq!(rest, "!\nOk(2)\n");
}

#[test]
fn entries_come_before_the_call_that_finds_them() {
    need_kvm!();
    let ran = run(script(
        "fill 800000 3 58; queue 30 3 636261; machine 31 800000 3; queue 30 3 666564; say .",
    ));
    assert_eq!(ran.output, "abcXXXOk(0)\ndef.\n");
}

#[test]
fn entries_come_before_the_power_goes_off_and_none_can_switch_it_off() {
    need_kvm!();
    let ran = run(script("queue 40 9; say after; machine 40 5; say never"));
    assert_eq!((ran.status(), ran.output.as_str()), (5, "after\n"));
    assert_eq!((ran.calls("unknown"), ran.calls("power_off")), (1, 1));
}

#[test]
fn a_refused_power_off_leaves_the_machine_on() {
    need_kvm!();
    let ran = run(script("machine 40 100; say on; machine 40 6"));
    assert_eq!(ran.status(), 6);
    assert_eq!(ran.output, "Err(BadArgument)\non\n");
}

#[test]
fn the_hypervisor_says_what_became_of_each_entry() {
    need_kvm!();
    let ran = run(script(
        "batch 21; batch 30 1 2e; batch 30 29; batch 8000; batch 41",
    ));
    assert_eq!(
        ran.lines(),
        [
            "Ok(0)",
            ".Ok(0)",
            "Err(BadArgument)",
            "Err(Unknown)",
            "Err(Unknown)"
        ]
    );
}

#[test]
fn an_impossible_tail_ends_the_guest_with_a_fault_that_names_it() {
    need_kvm!();
    for (tail, sentence) in [
        ("41", "the batch ring is corrupt: tail 65, head 0"),
        (
            "ffffffff",
            "the batch ring is corrupt: tail 4294967295, head 0",
        ),
        (
            "80000000",
            "the batch ring is corrupt: tail 2147483648, head 0",
        ),
    ] {
        // Whatever the call is: even one that nobody knows.
        for call in ["machine 20", "machine 22", "machine 40 3", "machine 7777"] {
            let ran = run(script(&format!("tail {tail}; {call}; say never")));
            assert!(matches!(ran.fault(), GuestFault::Ring { head: 0, .. }));
            assert_eq!(ran.fault().to_string(), sentence);
            assert_eq!(ran.output, "");
            assert!(ran.report().contains("rip"), "{}", ran.report());
        }
    }
}

#[test]
fn a_tail_that_goes_back_is_impossible_too() {
    need_kvm!();
    let ran = run(script(
        "queue 21; queue 21; machine 22; mark; tail 1; machine 20",
    ));
    assert!(matches!(
        ran.fault(),
        GuestFault::Ring { tail: 1, head: 3.. }
    ));
}

#[test]
fn a_tail_of_entries_never_written_runs_a_ring_of_unknown_calls_and_no_more() {
    need_kvm!();
    // Zeros are null_monitor, which a ring cannot reach.
    let ran = run(script("tail 40; machine 22; say on"));
    assert_eq!(ran.lines(), ["Ok(40)", "on"]);
    assert_eq!(ran.calls("unknown"), 64);
}

#[test]
fn the_head_is_the_hypervisor_s_and_a_false_one_fools_the_guest_alone() {
    need_kvm!();
    // The guest's library refuses to queue by a false head, so the answers come after it is mended.
    let ran = run(script(
        "queue 30 2 6968; head 100; machine 20; say on; queue 30 1 21; head 7fffffff; machine 20; say on",
    ));
    assert_eq!(ran.status(), 0);
    assert_eq!(ran.output, "hiOk(0)\non\n!Ok(0)\non\n");
}

#[test]
fn an_exit_has_work_for_one_ring_at_most() {
    need_kvm!();
    // A guest that fills its ring as fast as it can.
    let ran = run_for(
        Duration::from_millis(300),
        script("repeat 7fffffff queue 21"),
        |_| {},
    );
    let ran = ran.expect("the host can run it");
    ran.timed_out();
    let (calls, exits) = (ran.calls("null_batch"), ran.exits());
    assert!(calls > 64 && calls <= 64 * (exits + 1), "{calls} {exits}");
}
