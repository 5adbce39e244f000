//! The ways out of an event, taken without an event and with frames that no kernel would make: the
//! guest gets what it asked for, and the hypervisor carries on.

use hypervisor::GuestFault;
use tests::{UNEXPECTED_EVENT, need_kvm, run, tiny};

/// What became of the guest: the event that its kernel met, or how else it ended.
#[track_caller]
fn result(argument: &str) -> String {
    let ran = run(tiny(&format!("abuse {argument}")));
    println!("{argument}: {:?} {}", ran.outcome.end, ran.output);
    match ran.status() {
        0 => ran.output.trim_end().to_owned(),
        UNEXPECTED_EVENT => {
            let event = ran.output.strip_prefix("unexpected event ");
            let event = event.and_then(|text| text.split(' ').next());
            format!("event {}", event.unwrap_or("?"))
        }
        status => panic!("status {status}: {}", ran.output),
    }
}

#[track_caller]
fn assert_result(argument: &str, expected: &str) {
    assert_eq!(result(argument), expected, "{argument}");
}

#[test]
fn a_return_with_no_frame_in_reach_is_a_double_fault_of_the_kernel() {
    need_kvm!();
    for at in [
        "null",
        "not_canonical",
        "monitor",
        "monitor_code",
        "last_bytes",
    ] {
        assert_result(&format!("return_at {at}"), "event 8");
    }
}

#[test]
fn a_return_with_a_good_frame_goes_where_it_says() {
    need_kvm!();
    // NT matters to the next return, which clears it first; IOPL and IF are out of CPL 3's reach.
    for frame in ["good", "flags_off", "privileged_flags", "nested_task"] {
        assert_result(&format!("return_with {frame}"), "landed");
    }
}

#[test]
fn a_return_with_a_bad_frame_is_a_fault_of_the_kernel() {
    need_kvm!();
    for frame in ["zeros", "ones", "not_canonical_rip", "monitor_segments"] {
        assert_result(&format!("return_with {frame}"), "event 13");
    }
    assert_result("return_with monitor_rip", "event 14");
    assert_result("return_with single_step", "event 1");
}

#[test]
fn user_mode_entered_with_a_bad_frame_is_a_fault_of_the_user() {
    need_kvm!();
    for frame in ["zeros", "ones", "not_canonical_rip", "monitor_segments"] {
        assert_result(&format!("enter_with {frame}"), "event 13");
    }
    assert_result("enter_with monitor_rip", "event 14");
}

#[test]
fn user_mode_entered_without_a_stack_for_its_events_is_a_double_fault() {
    need_kvm!();
    assert_result("enter_without stack", "event 8");
}

#[test]
fn a_root_without_the_monitor_ends_the_guest() {
    need_kvm!();
    let ran = run(tiny("abuse enter_without root"));
    assert_eq!(*ran.fault(), GuestFault::TripleFault);
    let ran = run(tests::script("monitor 1 800; say never"));
    assert_eq!(*ran.fault(), GuestFault::TripleFault);
    assert_eq!(ran.output, "");
    let sentence = "triple fault: an exception could not be delivered";
    assert_eq!(ran.fault().to_string(), sentence);
    let report = ran.report();
    let is_readable = report.contains("cr3   0000000000800000");
    assert!(
        is_readable || report.contains("the registers are lost"),
        "{report}"
    );
}
