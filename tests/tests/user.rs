//! A user process above the monitor: what it can do, and what reaches the kernel.

use tests::{need_kvm, run, tiny};

#[track_caller]
fn event_of(program: &str) -> String {
    let ran = run(tiny(&format!("user {program}")));
    assert_eq!(ran.status(), 0, "{}", ran.output);
    assert!(
        ran.outcome.stats.calls.contains_key("power_off"),
        "the user made the call"
    );
    ran.output
}

#[track_caller]
fn assert_event(program: &str, expected: &str) {
    let line = event_of(program);
    assert!(line.starts_with(expected), "{program}: {line}");
}

#[test]
fn a_system_call_reaches_the_kernel_with_its_registers() {
    need_kvm!();
    let line = event_of("syscall");
    assert!(
        line.starts_with(
            "event 64 from user, error 0x0, address 0x0, rax 0x27, rbx 0x1111, rsp 0x501000, on 1"
        ),
        "{line}"
    );
}

#[test]
fn a_thousand_system_calls_return_and_keep_the_registers() {
    need_kvm!();
    assert_eq!(event_of("syscalls"), "1000 calls, damage 0x0\n");
}

#[test]
fn a_breakpoint_in_user_mode_is_a_breakpoint_and_no_call() {
    need_kvm!();
    assert_event("int3", "event 3 from user, error 0x0");
}

#[test]
fn the_gates_are_out_of_a_user_s_reach() {
    need_kvm!();
    // Page faults of user mode (4), by an instruction fetch (0x10, where NX is reported) or a write.
    for program in ["gate", "machine_gate"] {
        let line = event_of(program);
        assert!(
            line.starts_with("event 14 from user, error 0x14")
                || line.starts_with("event 14 from user, error 0x4"),
            "{program}: {line}"
        );
    }
    assert_event(
        "doorbell",
        "event 14 from user, error 0x6, address 0xffffffffffe01000",
    );
    assert_event("out", "event 13 from user");
}

#[track_caller]
fn assert_one_of(events: &[u32], program: &str, line: &str) {
    let is_it = |event: &u32| line.starts_with(&format!("event {event} from user,"));
    assert!(events.iter().any(is_it), "{program}: {line}");
}

#[test]
fn no_instruction_leads_a_user_to_level_0() {
    need_kvm!();
    // Each would switch the machine off with status 66 there. What the kernel is told instead is the
    // processor's choice, or that of a KVM that emulates the instruction.
    for (program, events) in [
        ("call_gate", [13, 6].as_slice()), // a local descriptor table at address 0
        ("syscall_32", &[64, 6]),          // SYSCALL of 32-bit code, with an entry of its own
        ("syscall_32_on_monitor", &[64, 6]), // and with a stack that only CPL 0 can write
        ("return_to_0", &[13]),
        ("jump_to_0", &[13, 14]),
        ("segment_of_0", &[13]),
        ("local_segment", &[13]),
        ("interrupt", &[13, 6]),
        ("interrupt_3", &[3]),
        ("debug", &[1, 6]),
        ("fast_call", &[13, 6]),
        ("return_fast", &[13]),
        ("read_msr", &[13]),
        ("read_counter", &[13]),
        ("vmcall", &[6, 14]), // a KVM may try to rewrite the other vendor's instruction, and cannot
    ] {
        let line = event_of(program);
        assert_one_of(events, program, &line);
    }
}

#[test]
fn a_user_s_odd_flags_and_stack_stay_its_own() {
    need_kvm!();
    for (program, events) in [
        ("step", [1].as_slice()),
        ("step_syscall", &[64, 1]),
        ("misaligned", &[17, 13]), // TCG checks no alignment
        ("no_stack", &[12, 13]),
        ("no_stack_syscall", &[64, 6]), // kvm_pvm refuses such a SYSCALL
        ("not_canonical", &[13]),
    ] {
        let line = event_of(program);
        assert_one_of(events, program, &line);
        assert!(line.ends_with("on 1\n"), "{program}: {line}");
    }
}

#[test]
fn kernel_and_monitor_memory_are_unreadable_from_user_mode() {
    need_kvm!();
    assert_event(
        "read_shared",
        "event 14 from user, error 0x5, address 0xffffffffffe15000",
    );
    assert_event(
        "read_monitor",
        "event 14 from user, error 0x5, address 0xffffffffffe10000",
    );
    assert_event(
        "read_kernel",
        "event 14 from user, error 0x4, address 0xffffffff80100000",
    );
    assert_event(
        "write_window",
        "event 14 from user, error 0x7, address 0xffffffffffe17000",
    );
}

#[test]
fn faults_of_a_user_reach_the_kernel_with_their_vector() {
    need_kvm!();
    assert_event(
        "pagefault",
        "event 14 from user, error 0x4, address 0x123456",
    );
    assert_event("divide", "event 0 from user, error 0x0");
    assert_event("undefined", "event 6 from user, error 0x0");
    assert_event("cli", "event 13 from user, error 0x0");
    assert_event("hlt", "event 13 from user, error 0x0");
}

#[test]
fn interrupts_arrive_in_user_mode_and_return_there() {
    need_kvm!();
    let lines = event_of("spin");
    assert_eq!(
        lines,
        "timer from user, r14 0x1414\ntimer from user, r14 0x1414\ntimer from user, on 1\n"
    );
}

#[test]
fn jumping_to_the_pad_only_enters_the_user_s_own_frame_again() {
    need_kvm!();
    // The frame in the window is the program's own entry: it loops, and the timer still arrives.
    let lines = event_of("pad");
    assert_eq!(lines.lines().count(), 3, "{lines}");
    assert!(
        lines
            .lines()
            .all(|line| line.starts_with("timer from user")),
        "{lines}"
    );
}
