//! The kernel boots in every mode, its shell works, and its faults are reported.

use std::thread;
use std::time::{Duration, Instant};

use hypercall_abi::Mode;
use tests::{Ran, each_mode, interactive, kernel, need_kvm, run, run_with};

#[test]
fn the_kernel_boots_and_powers_off_with_the_status_it_is_told() {
    each_mode(|mode| {
        let ran = run(kernel(mode, "poweroff 7"));
        assert_eq!(ran.status(), 7, "{}", ran.output);
        assert!(ran.output.starts_with("Paravane"), "{}", ran.output);
    });
}

#[test]
fn commands_run_in_order_and_the_end_of_the_script_is_success() {
    each_mode(|mode| {
        let ran = run(kernel(mode, "echo one;echo two  three ; ;echo \"a  ;  b\""));
        assert_eq!(ran.lines()[1..], ["one", "two three", "a  ;  b"]);
    });
}

#[test]
fn an_unknown_command_is_named_and_fails_the_script_that_goes_on() {
    each_mode(|mode| {
        let ran = run(kernel(mode, "frobnicate now; echo on"));
        assert_eq!(ran.status(), 1, "{}", ran.output);
        let expected = "frobnicate: no such command; `help` lists them\non\n";
        assert!(ran.output.ends_with(expected), "{}", ran.output);
    });
}

#[test]
fn help_lists_the_commands() {
    each_mode(|mode| {
        let ran = run(kernel(mode, "help"));
        let lines = ran.lines();
        for name in [
            "help", "mem", "threads", "uptime", "echo", "sleep", "bench", "poweroff", "fault",
            "selftest",
        ] {
            let is_listed = |line: &&str| line.split(' ').next() == Some(name);
            assert!(lines.iter().any(is_listed), "{name}: {}", ran.output);
        }
    });
}

/// The number in a line of `mem`.
#[track_caller]
fn kib(ran: &Ran, name: &str) -> u64 {
    let line = ran
        .output
        .lines()
        .find(|line| line.trim().starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.unwrap_or_else(|| panic!("{name}: {}", ran.output))
}

#[test]
fn mem_tells_how_much_there_is_and_how_much_is_free() {
    each_mode(|mode| {
        let ran = run(kernel(mode, "mem"));
        assert_eq!(ran.status(), 0, "{}", ran.output);
        let [all, free, used] = ["memory", "free", "used"].map(|name| kib(&ran, name));
        assert_eq!(all, free + used);
        assert!(
            free > all / 2 && all > 12 << 10 && all <= 16 << 10,
            "{}",
            ran.output
        );
    });
}

#[test]
fn threads_lists_the_shell_and_the_idle_thread() {
    each_mode(|mode| {
        let ran = run(kernel(mode, "threads"));
        let lines = ran.lines();
        for (state, name) in [("running", "main"), ("ready", "idle")] {
            let is_it = |line: &&&str| line.ends_with(name);
            let line = lines.iter().find(is_it);
            assert!(
                line.is_some_and(|line| line.contains(state)),
                "{}",
                ran.output
            );
        }
    });
}

#[test]
fn uptime_follows_a_sleep() {
    each_mode(|mode| {
        let ran = run(kernel(mode, "uptime; sleep 50; uptime"));
        let times: Vec<f64> = ran
            .lines()
            .iter()
            .filter_map(|line| line.split_once(" s; interrupts: ")?.0.parse().ok())
            .collect();
        assert!(
            times.len() == 2 && times[1] - times[0] > 0.049,
            "{}",
            ran.output
        );
    });
}

#[test]
fn each_interrupt_is_ended_so_that_the_next_arrives() {
    // An interrupt in service blocks those of its class on hardware, and none on kvm_pvm.
    each_mode(|mode| {
        let ran = run(kernel(mode, "sleep 10; sleep 10; sleep 10"));
        assert_eq!(ran.status(), 0, "{}", ran.output);
    });
}

#[test]
fn the_kernel_s_own_tests_pass() {
    each_mode(|mode| {
        let ran = run(kernel(mode, "selftest"));
        let lines = ran.lines();
        assert!(lines.len() > 5, "{}", ran.output);
        assert!(
            lines[1..].iter().all(|line| line.ends_with(": ok")),
            "{}",
            ran.output
        );
    });
}

/// The status of a kernel that took an exception, and of one that panicked.
const FAULT: u8 = 102;
const PANIC: u8 = 101;

#[track_caller]
fn assert_fault(mode: Mode, name: &str, status: u8, sentences: &[&str]) {
    let ran = run(kernel(mode, &format!("fault {name}; echo survived")));
    let output = &ran.output;
    assert_eq!(ran.status(), status, "{output}");
    let image = if mode == Mode::Pv { "pv" } else { "native" };
    let place = format!("(main) of the {image} image");
    for sentence in sentences.iter().chain(&[place.as_str(), "backtrace:"]) {
        assert!(
            output.contains(sentence),
            "{name}: no {sentence} in\n{output}"
        );
    }
    assert!(!output.contains("survived"), "{output}");
    assert!(!output.contains("the report itself failed"), "{output}");
}

#[test]
fn a_fault_of_the_kernel_is_reported_by_name_and_ends_it() {
    each_mode(|mode| {
        for (name, sentences) in [
            (
                "divide",
                ["kernel fault: divide error (#DE) at 0x", "rip"].as_slice(),
            ),
            (
                "page",
                &[
                    "kernel fault: page fault (#PF) at 0x",
                    "reading 0x0000000000000008: nothing is mapped there",
                ],
            ),
            (
                "gp",
                &["kernel fault: general protection fault (#GP) at 0x"],
            ),
            ("ud", &["kernel fault: invalid opcode (#UD) at 0x"]),
            ("stack", &["kernel fault: ", "stack of the thread is full"]),
            (
                "text",
                &[
                    "kernel fault: page fault (#PF) at 0x",
                    ": the page forbids it",
                ],
            ),
        ] {
            assert_fault(mode, name, FAULT, sentences);
        }
    });
}

#[test]
fn a_panic_of_the_kernel_is_reported_and_ends_it() {
    each_mode(|mode| {
        let sentences = [
            "kernel panic: the shell was asked to",
            "raised at pv-guest/src/",
        ];
        assert_fault(mode, "panic", PANIC, &sentences);
    });
}

#[test]
fn the_kernel_boots_in_little_memory_and_in_much() {
    each_mode(|mode| {
        // 5 GiB are two ranges, around the device hole.
        for mebibytes in [8, 16, 65, 3072, 3076, 5120] {
            let mut config = kernel(mode, "mem");
            config.memory_bytes = mebibytes << 20;
            let ran = run(config);
            assert_eq!(ran.status(), 0, "{mebibytes} MiB: {}", ran.output);
            let greeting = format!(", {mebibytes} MiB,");
            assert!(ran.output.contains(&greeting), "{}", ran.output);
            let all = kib(&ran, "memory");
            assert!(
                all <= mebibytes << 10 && all > (mebibytes - 4) << 10,
                "{}",
                ran.output
            );
        }
    });
}

#[test]
fn what_was_typed_before_the_boot_is_read_and_shown() {
    each_mode(|mode| {
        let ran = run_with(interactive(mode), |vm| {
            vm.keyboard().type_bytes(b"mem\rpoweroff 5\r");
        });
        assert_eq!(ran.status(), 5, "{}", ran.output);
        assert!(ran.output.contains("> mem\nmemory "), "{}", ran.output);
        assert!(ran.output.ends_with("> poweroff 5\n"), "{}", ran.output);
    });
}

#[test]
fn what_is_typed_at_the_prompt_is_read_and_shown() {
    each_mode(|mode| {
        let mut typist = None;
        let ran = run_with(interactive(mode), |vm| {
            let keyboard = vm.keyboard();
            typist = Some(thread::spawn(move || {
                for byte in b"echx\x7fo slowly\rpoweroff 6\r" {
                    thread::sleep(Duration::from_millis(5));
                    keyboard.type_bytes(&[*byte]);
                }
            }));
        });
        assert_eq!(ran.status(), 6, "{}", ran.output);
        let shown = "> echx\x08 \x08o slowly\nslowly\n> poweroff 6\n";
        assert!(ran.output.ends_with(shown), "{}", ran.output);
        if let Some(typist) = typist {
            typist.join().expect("the typist does not panic");
        }
    });
}

#[test]
fn the_end_of_the_input_ends_the_shell() {
    each_mode(|mode| {
        let ran = run_with(interactive(mode), |vm| {
            vm.keyboard().type_bytes(b"\x04");
        });
        assert_eq!(ran.status(), 0, "{}", ran.output);
    });
}

#[test]
fn typing_more_than_a_console_holds_is_dropped() {
    need_kvm!();
    let ran = run_with(interactive(Mode::Pv), |vm| {
        let keyboard = vm.keyboard();
        // Ctrl-A, which the shell ignores.
        assert_eq!(keyboard.type_bytes(&[1; 100_000]), 65_536);
        assert_eq!(keyboard.type_bytes(b"x"), 0);
        let begin = Instant::now();
        thread::spawn(move || {
            // The last word gets in once the guest has made room.
            while keyboard.type_bytes(b"\x04") == 0 && begin.elapsed().as_secs() < 20 {
                thread::sleep(Duration::from_millis(10));
            }
        });
    });
    assert_eq!(ran.status(), 0, "{}", ran.output);
}
