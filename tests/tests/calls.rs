//! Hypercalls: what a guest may ask for, and what it is told.

use std::fmt::Write as _;

use hypercall_abi::{Mode, Slot, layout};
use iced_x86::code_asm::{eax, edi, esi, rcx, rsp};
use tests::{image, need_kvm, run, run_with, script, tiny};

#[test]
fn a_tiny_guest_says_hello() {
    need_kvm!();
    assert_eq!(run(tiny("hello world")).lines(), ["hello world"]);
}

#[test]
fn the_exit_status_is_the_guest_s() {
    need_kvm!();
    assert_eq!(run(tiny("poweroff 42")).status(), 42);
}

#[test]
fn every_number_that_the_table_lacks_is_unknown_on_both_gates_and_in_the_ring() {
    need_kvm!();
    let ran = run(tiny("calls"));
    let tried = ran.output.trim_end().strip_suffix(" calls");
    let tried: u64 = tried.and_then(|n| n.parse().ok()).unwrap_or(0);
    assert!(tried > 1000, "{}", ran.output);
}

#[test]
fn a_number_of_another_tier_is_unknown_in_the_ring_and_does_nothing() {
    need_kvm!();
    // null_monitor, load_root, null_machine, drain_batch, console_write, power_off.
    let ran = run(script(
        "batch 0; batch 1 0; batch 20; batch 22; batch 31 100000 5; batch 40 9; say on",
    ));
    assert_eq!(
        ran.lines(),
        [["Err(Unknown)"; 6].as_slice(), &["on"]].concat()
    );
}

#[test]
fn a_gate_entered_past_its_checks_makes_a_call_of_the_table_or_none() {
    need_kvm!();
    // Numbers whose low bits are those of null_monitor, and of no call at all.
    for (number, answers) in [
        ("20", ["Ok(0)", "Err(Unknown)"]),
        ("8000000000000000", ["Ok(0)", "Err(Unknown)"]),
        ("100000000", ["Ok(0)", "Err(Unknown)"]),
        ("ffffffffffffffff", ["Err(Unknown)"; 2]),
        ("1f", ["Err(Unknown)"; 2]),
        ("3f", ["Err(Unknown)"; 2]),
    ] {
        let gate = hypervisor::monitor::gates::BEHIND_CHECK;
        let ran = run(script(&format!("past {gate:x} {number}; say on")));
        let lines = ran.lines();
        assert!(answers.contains(&lines[0]), "{number}: {}", ran.output);
        assert_eq!(lines[1], "on");
    }
}

#[test]
fn an_argument_that_is_no_value_of_its_type_is_refused() {
    need_kvm!();
    let ran = run(script(
        "machine 40 100; machine 40 ffffffffffffffff; \
         monitor 7 100 21; monitor 7 0 1f; monitor 7 0 40; monitor 7 0 121; \
         batch 30 29; batch 30 ffffffffffffffff; machine 30 29; say on",
    ));
    assert_eq!(
        ran.lines(),
        [["Err(BadArgument)"; 9].as_slice(), &["on"]].concat()
    );
}

/// Memory of the pointers' tests: one range, which ends at 16 MiB.
const END: u64 = 16 << 20;
/// Filled with stars.
const TEXT: u64 = END - 0x4000;

/// A pointer, a length, and what a call with them shall answer.
type Case = (u64, u64, &'static str);

/// Pointers that no call may follow, whatever it does.
const BAD: &[Case] = &[
    (END - 1, 2, "Err(BadRange)"),
    (END - 0x10, 0x11, "Err(BadRange)"),
    (END - 0x0fff, 0x1000, "Err(BadRange)"),
    (END, 1, "Err(BadRange)"),
    (END + 1, 0, "Err(BadRange)"),
    (layout::HOLE_START, 1, "Err(BadRange)"),
    (layout::DOORBELL_PHYS, 4, "Err(BadRange)"),
    (layout::MONITOR_PHYS, 1, "Err(BadRange)"),
    (layout::MONITOR_PHYS, 0, "Err(BadRange)"),
    (layout::MONITOR_PHYS + 0x6000, 0x1000, "Err(BadRange)"),
    (layout::APIC_PHYS, 4, "Err(BadRange)"),
    (layout::HOLE_END, 1, "Err(BadRange)"),
    (layout::DIRECT_MAP, 1, "Err(BadRange)"),
    (1 << 63, 1, "Err(BadRange)"),
    (u64::MAX - 1, 1, "Err(BadRange)"),
    (u64::MAX, 0, "Err(BadRange)"),
    (u64::MAX, 1, "Err(BadRange)"),
    (u64::MAX - 0xfff, 0x1000, "Err(BadRange)"),
    (u64::MAX - 0xfff, 0x2000, "Err(BadRange)"),
    (0, 1 << 32, "Err(BadArgument)"),
    (TEXT, u64::MAX, "Err(BadArgument)"),
    (TEXT, u64::MAX - TEXT, "Err(BadArgument)"),
    (TEXT, 1 << 63, "Err(BadArgument)"),
    (TEXT, 0x1_0001, "Err(BadArgument)"),
    (u64::MAX, u64::MAX, "Err(BadArgument)"),
];

/// Make a call with each case; return what was answered beside what should have been.
fn answers(number: u64, cases: &[Case]) -> Vec<(String, String)> {
    let mut statements = format!("fill {TEXT:x} 4000 2a");
    for (at, len, _) in cases {
        // Writing to a string cannot fail.
        let _ = write!(statements, ";machine {number:x} {at:x} {len:x}");
    }
    let ran = run_with(script(&statements), |vm| {
        vm.keyboard().type_bytes(b"typed");
    });
    let lines = ran.lines();
    assert_eq!(lines.len(), cases.len(), "{}", ran.output);
    let case = |(at, len, _): &Case| format!("{at:#x}, {len:#x}: ");
    cases
        .iter()
        .zip(lines)
        .map(|(it, line)| (case(it) + line, case(it) + it.2))
        .collect()
}

#[track_caller]
fn assert_answers(number: u64, cases: &[Case]) {
    for (answered, expected) in answers(number, cases) {
        assert_eq!(answered, expected);
    }
}

#[test]
fn text_at_a_bad_pointer_is_refused() {
    need_kvm!();
    assert_answers(0x31, BAD);
}

#[test]
fn input_to_a_bad_pointer_is_refused_and_none_of_it_is_lost() {
    need_kvm!();
    let good: &[Case] = &[(TEXT, 0x1_0000, "Err(BadRange)"), (TEXT, 0x1000, "Ok(5)")];
    assert_answers(0x32, &[BAD, good].concat());
}

#[test]
fn text_anywhere_in_memory_is_written() {
    need_kvm!();
    // The stars of the text come before the answer.
    assert_answers(
        0x31,
        &[
            (TEXT, 1, "*Ok(0)"),
            (TEXT + 1, 2, "**Ok(0)"),
            (TEXT + 0xffd, 7, "*******Ok(0)"),
            (END - 1, 1, "*Ok(0)"),
            (END - 3, 3, "***Ok(0)"),
            (END, 0, "Ok(0)"),
            (0, 0, "Ok(0)"),
            (0, 1, "\0Ok(0)"),
        ],
    );
}

#[test]
fn input_goes_anywhere_in_memory() {
    need_kvm!();
    let ran = run_with(
        script(&format!(
            "machine 32 {last:x} 1; show {last:x} 1; machine 32 {odd:x} 3; show {odd:x} 3; \
             machine 32 {odd:x} 0; machine 32 {odd:x} 1000; show {odd:x} 1; machine 32 {odd:x} 1",
            last = END - 1,
            odd = TEXT + 0xfff,
        )),
        |vm| {
            vm.keyboard().type_bytes(b"typed");
        },
    );
    assert_eq!(
        ran.lines(),
        ["Ok(1)", "t", "Ok(3)", "ype", "Ok(0)", "Ok(1)", "d", "Ok(0)"]
    );
}

#[test]
fn pointers_across_the_device_hole_are_refused_and_beyond_it_are_good() {
    need_kvm!();
    const SIZE: u64 = 5 << 30;
    let last = SIZE + (layout::HOLE_END - layout::HOLE_START) - 1;
    let hole = layout::HOLE_START;
    let mut config = script(&format!(
        "machine 31 {:x} 2; machine 31 {:x} 1; machine 31 {hole:x} 1; machine 31 {:x} 1; \
         machine 31 {:x} 2; machine 31 {:x} 1; machine 31 {last:x} 1; machine 31 {last:x} 2",
        hole - 1,
        hole - 1,
        layout::MONITOR_PHYS,
        layout::HOLE_END - 1,
        layout::HOLE_END,
    ));
    config.memory_bytes = SIZE;
    assert_eq!(
        run(config).lines(),
        [
            "Err(BadRange)",
            "\0Ok(0)",
            "Err(BadRange)",
            "Err(BadRange)",
            "Err(BadRange)",
            "\0Ok(0)",
            "\0Ok(0)",
            "Err(BadRange)"
        ]
    );
}

#[test]
fn event_entries_are_in_the_kernel_s_half() {
    need_kvm!();
    let ran = run(script(
        "machine 23 0; machine 23 400000; machine 23 00007ffffffffff0; machine 23 800000000000; \
         machine 23 8000000000000000; machine 23 ffff800000000000; machine 23 ffffffffffffffff; \
         machine 23 fffffffffffffbff; machine 23 ffff888000000000; entries",
    ));
    let lines = ran.lines();
    let (bad, good) = lines.split_at(8);
    assert!(
        bad.iter().all(|line| *line == "Err(BadArgument)"),
        "{lines:?}"
    );
    assert_eq!(good, ["Ok(0)", "Ok(())"]);
}

#[test]
fn a_root_outside_memory_is_refused() {
    need_kvm!();
    // load_root, and set_user_root.
    for number in [1, 3] {
        let ran = run(script(&format!(
            "monitor {number} 1000; monitor {number} fd000; monitor {number} 100000; \
             monitor {number} 10000000000000; monitor {number} 8000000000000003; \
             monitor {number} ffffffffffffffff; monitor {number} 3",
        )));
        let expected = [["Err(BadArgument)"; 6].as_slice(), &["Ok(0)"]].concat();
        assert_eq!(ran.lines(), expected);
    }
}

#[test]
fn any_address_can_be_invalidated() {
    need_kvm!();
    let ran = run(script(
        "monitor 2 0; monitor 2 fff; monitor 2 ffffffff80100000; monitor 2 ffffffffffe10000; \
         monitor 2 800000000000; monitor 2 8000000000000000; monitor 2 ffffffffffffffff; say on",
    ));
    assert_eq!(ran.lines(), [["Ok(0)"; 7].as_slice(), &["on"]].concat());
}

#[test]
fn a_call_is_possible_at_the_first_instruction() {
    need_kvm!();
    let machine = layout::slot_address(Slot::Machine);
    // console_write, from the page of the command line, and then power_off.
    let mut config = image::instructions(Mode::Pv, |a| {
        a.mov(rsp, layout::DIRECT_MAP + 0x80_0000)?;
        a.mov(rcx, machine)?;
        a.mov(eax, 0x31)?;
        a.mov(edi, layout::COMMAND_LINE as i32)?;
        a.mov(esi, 2)?;
        a.call(rcx)?;
        a.mov(rcx, machine)?;
        a.mov(eax, 0x40)?;
        a.mov(edi, 9)?;
        a.jmp(rcx)
    });
    config.command_line = "hi".to_owned();
    let ran = run(config);
    assert_eq!((ran.status(), ran.output.as_str()), (9, "hi"));
}

#[test]
fn calls_without_a_stack_and_before_anything_else_are_made() {
    need_kvm!();
    let ran = run(image::instructions(Mode::Pv, |a| {
        a.mov(rcx, layout::slot_address(Slot::Machine))?;
        a.mov(eax, 0x40)?;
        a.mov(edi, 9)?;
        a.jmp(rcx)
    }));
    assert_eq!(ran.status(), 9);
}
