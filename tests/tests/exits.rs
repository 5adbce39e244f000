//! How often a guest leaves for the hypervisor's process: counts, never times.

use hypercall_abi::Mode;
use tests::{Ran, each_mode, kernel, need_kvm, run, script};

#[track_caller]
fn ran(mode: Mode, script: &str) -> Ran {
    let ran = run(kernel(mode, script));
    assert_eq!(ran.status(), 0, "{}", ran.output);
    ran
}

#[test]
fn a_line_of_the_console_is_one_exit_in_pv() {
    need_kvm!();
    let line = "echo a line of more than the forty bytes that one entry of the ring has;";
    let few = ran(Mode::Pv, &line.repeat(2)).exits();
    let many = ran(Mode::Pv, &line.repeat(12)).exits();
    assert_eq!(many - few, 10);
}

#[test]
fn a_byte_of_the_console_is_one_exit_in_hvm() {
    need_kvm!();
    let few = ran(Mode::Hvm, "echo a");
    let many = ran(Mode::Hvm, "echo a; echo 0123456789");
    let bytes = many.output.len() - few.output.len();
    assert_eq!(bytes, 11);
    assert_eq!(many.exits() - few.exits(), bytes as u64);
}

#[test]
fn a_sleeping_guest_makes_no_exits() {
    each_mode(|mode| {
        let [short, long] = ["sleep 20", "sleep 400"].map(|script| ran(mode, script).exits());
        // Where the real interrupt flag does not follow the virtual one, an exit more tells an interrupt
        // that comes early, one for each time that it sleeps or wakes at most.
        let early = if mode == Mode::Patch { 4 } else { 0 };
        assert!(short.abs_diff(long) <= early, "{short} {long}");
        if matches!(mode, Mode::Trap | Mode::Patch) {
            return; // on the way to sleep it leaves for each privileged instruction
        }
        let awake = ran(mode, "echo").exits() - 1;
        assert!(short <= awake + 1, "{short} {awake}");
    });
}

#[test]
fn busy_threads_are_switched_by_the_timer_without_exits() {
    need_kvm!();
    for mode in [Mode::Hvm, Mode::Pv] {
        let begin = ran(mode, "selftest nothing").exits();
        let end = ran(mode, "selftest preempt; selftest semaphore").exits();
        let lines = "preempt: ok\nsemaphore: ok\n";
        let expected = if mode == Mode::Pv {
            2
        } else {
            lines.len() as u64
        };
        assert_eq!(end - begin, expected);
    }
}

#[test]
fn turning_interrupts_off_and_on_makes_no_exits() {
    need_kvm!();
    let ran = run(script("mark; repeat 800 toggle; exits"));
    assert_eq!(ran.lines(), ["0 exits"]);
}

#[test]
fn calls_of_the_monitor_make_no_exits_and_calls_of_the_machine_one_each() {
    need_kvm!();
    // A result is printed by the ring, whose 64 entries are one exit more.
    let ran = run(script(
        "mark; monitor 0; monitor 1 3; monitor 2 ffffffff80100000; monitor 3 3; monitor 6; \
         monitor 8 0; exits; mark; repeat 5 machine 20; exits",
    ));
    let lines = ran.lines();
    assert_eq!(lines[..7], [["Ok(0)"; 6].as_slice(), &["0 exits"]].concat());
    assert_eq!(lines[12], "5 exits");
    assert_eq!(ran.calls("null_machine"), 5);
}

#[test]
fn a_call_is_counted_by_its_name_and_an_exit_by_its_kind() {
    need_kvm!();
    let ran = run(script(
        "machine 20; batch 21; machine 28; machine 7777; monitor 0",
    ));
    let counts = [
        "null_machine",
        "null_batch",
        "wall_clock",
        "unknown",
        "power_off",
    ];
    assert_eq!(counts.map(|name| ran.calls(name)), [1; 5]);
    assert_eq!(ran.calls("null_monitor"), 0);
    assert_eq!(ran.outcome.stats.exits["call"].count, ran.exits());
    assert_eq!(ran.outcome.console_bytes, ran.output.len() as u64);
}
