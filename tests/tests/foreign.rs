//! A kernel that was not shaped for Paravane sees the same in every mode: event by event, it is what
//! `foreign/trace.txt` says.

use std::path::Path;
use std::sync::OnceLock;

use hypercall_abi::Mode;
use hypervisor::doctor::{self, Host, Platform};
use hypervisor::patch::Policy;
use hypervisor::{Config, FastTraps, Learned, vm};
use tests::{FOREIGN, Ran, image, need_kvm, run};

/// A way to run it: a mode, in mode `patch` when instructions are replaced, and in mode `trap` whether the
/// monitor handles traps by itself.
type Way = (Mode, Policy, FastTraps);

/// After the first trap, replaced instructions are met in each state that the kernel can be in.
const WAYS: [Way; 5] = [
    (Mode::Hvm, Policy::Never, FastTraps::Off),
    (Mode::Trap, Policy::Never, FastTraps::Off),
    (Mode::Trap, Policy::Never, FastTraps::On),
    (Mode::Patch, Policy::Adaptive { after: 1 }, FastTraps::Off),
    (Mode::Patch, Policy::Eager, FastTraps::Off),
];

const TRACE: &str = include_str!("../foreign/trace.txt");

/// Programs that make system calls.
const CALLERS: [&str; 6] = ["count", "legacy", "grow", "popf", "bad_pointer", "status"];
/// Programs that use INT with a vector that is not theirs.
const GATES: [&str; 2] = ["timer_gate", "fault_gate"];

/// The checks and programs that the processor of this platform cannot do as the manuals say.
fn skipped(mode: Mode) -> Vec<&'static str> {
    let facts = Host::here(Path::new(vm::NODE)).facts();
    let is_emulated = facts.hypervisor.as_deref() == Some("TCGTCGTCGTCG");
    let mut names = Vec::new();
    if is_emulated {
        // QEMU checks no alignment, in any mode.
        names.push("unaligned");
    }
    match (mode, doctor::platform()) {
        (Mode::Hvm, Platform::KvmPvm) => {
            // SYSCALL stays at CPL 3 there and `int n` is an invalid opcode. At CPL 0, where KVM
            // interprets, LAR and its like end the virtual machine.
            names.push("descriptors");
            names.extend(CALLERS);
            names.extend(GATES);
        }
        // The error codes are wrong under QEMU. In other modes they are the hypervisor's own.
        (Mode::Hvm, _) if is_emulated => names.extend(GATES),
        _ => {}
    }
    names
}

/// The first word of a line: the check or the program that it is about.
fn topic(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// The lines that a run without some checks and programs must print.
fn expected<'a>(skipped: &[&str]) -> Vec<&'a str> {
    TRACE
        .lines()
        .filter(|line| !line.starts_with('#') && !skipped.contains(&topic(line)))
        .collect()
}

/// Run an image of the kernel, without some checks and programs.
fn run_without(way: Way, image: Vec<u8>, skipped: &[&str]) -> Ran {
    run(foreign(way, image, skipped))
}

/// A machine with an image of the kernel, without some checks and programs.
fn foreign((mode, policy, fast): Way, image: Vec<u8>, skipped: &[&str]) -> Config {
    let mut config = Config::new(mode, image, "the foreign kernel");
    config.memory_bytes = 16 << 20;
    config.patch = policy;
    config.fast_traps = fast;
    if !skipped.is_empty() {
        config.command_line = format!("skip={}", skipped.join(","));
    }
    config
}

/// A run of the kernel without what this platform cannot do, which is named.
type Run = (Ran, Vec<&'static str>);

/// Look at a run in each mode; all tests look at the same ones.
fn each_run(test: impl Fn(&Ran, &[&str])) {
    static RUNS: [OnceLock<Run>; WAYS.len()] = [const { OnceLock::new() }; WAYS.len()];
    need_kvm!();
    for (way, run) in WAYS.into_iter().zip(&RUNS) {
        let (ran, skipped) = run.get_or_init(|| {
            let skipped = skipped(way.0);
            (run_without(way, FOREIGN.to_vec(), &skipped), skipped)
        });
        println!("{way:?}, without {skipped:?}");
        test(ran, skipped);
    }
}

/// Where two traces part, in words.
fn difference(expected: &[&str], got: &[&str]) -> Option<String> {
    let at = (0..expected.len().max(got.len())).find(|at| expected.get(*at) != got.get(*at))?;
    let before = got.get(at.saturating_sub(5)..at).unwrap_or_default();
    let show = |line: Option<&&str>| line.map_or("the end".to_owned(), |line| format!("`{line}`"));
    Some(format!(
        "event {at}: expected {}, got {}, after\n{}",
        show(expected.get(at)),
        show(got.get(at)),
        before.join("\n")
    ))
}

/// The first line that says how a program ended.
fn end_of<'a>(ran: &'a Ran, program: &str) -> Option<&'a str> {
    let ends = ["was killed", "exited"].map(|end| format!("{program} {end}"));
    ran.output
        .lines()
        .find(|line| ends.iter().any(|end| line.starts_with(end.as_str())))
}

#[test]
fn every_event_is_as_expected() {
    each_run(|ran, skipped| {
        let got: Vec<&str> = ran.output.lines().collect();
        if let Some(difference) = difference(&expected(skipped), &got) {
            panic!("{difference}\n{:?}", ran.outcome);
        }
        assert_eq!(ran.status(), 0, "{}", ran.output);
    });
}

#[test]
fn what_earlier_boots_learned_changes_no_event() {
    need_kvm!();
    for mode in [Mode::Trap, Mode::Patch] {
        let skipped = skipped(mode);
        let learned = Learned::default();
        for boot in 0..3 {
            let mut config = foreign(
                (mode, Policy::default(), FastTraps::Off),
                FOREIGN.to_vec(),
                &skipped,
            );
            config.learned = Some(learned.clone());
            let ran = run(config);
            let got: Vec<&str> = ran.output.lines().collect();
            if let Some(difference) = difference(&expected(&skipped), &got) {
                panic!("{mode:?}, boot {boot}: {difference}\n{:?}", ran.outcome);
            }
        }
    }
}

#[test]
fn the_process_that_divides_by_zero_dies_alone() {
    each_run(|ran, skipped| {
        let dies = "divide was killed by vector 0 error 0x0";
        let lines = ran.lines();
        let at = lines.iter().position(|line| *line == dies);
        let behind = at.and_then(|at| lines.get(at + 1..)).unwrap_or_default();
        let ends = |line: &&str| line.contains(" was killed") || line.contains(" exited with");
        let by_zero = |line: &&str| line.contains(" was killed by vector 0 ");
        let others = expected(skipped)
            .into_iter()
            .filter(|line| ends(line))
            .count()
            - 1;
        // It is the first to end. All others end behind it, none of them by the same exception.
        assert_eq!(behind.iter().filter(|line| ends(line)).count(), others);
        assert!(others > 20 && !behind.iter().any(by_zero));
    });
}

#[test]
fn a_process_that_breaks_a_rule_is_killed_with_its_reason() {
    each_run(|ran, skipped| {
        for (program, vector, error) in [
            ("peek", 14, 5),
            ("poke", 14, 7),
            ("null", 14, 6),
            ("jump_to_stack", 14, 0x15),
            ("jump_to_kernel", 14, 0x15),
            ("not_canonical", 13, 0),
            ("overflow", 14, 6),
            ("cli", 13, 0),
            ("sti", 13, 0),
            ("hlt", 13, 0),
            ("read_port", 13, 0),
            ("write_port", 13, 0),
            ("read_cr3", 13, 0),
            ("write_cr3", 13, 0),
            ("read_msr", 13, 0),
            ("swap_gs", 13, 0),
            ("load_idt", 13, 0),
            ("return_to_kernel", 13, 8),
            ("timer_gate", 13, 0x102),
            ("fault_gate", 13, 0x72),
            ("breakpoint", 3, 0),
            ("undefined", 6, 0),
            ("step", 1, 0),
            ("unaligned", 17, 0),
        ] {
            let reason = format!("{program} was killed by vector {vector} error {error:#x}");
            let reason = (!skipped.contains(&program)).then_some(reason);
            assert_eq!(end_of(ran, program), reason.as_deref());
        }
    });
}

#[test]
fn processes_that_call_the_kernel_finish() {
    each_run(|ran, skipped| {
        for (program, status, says) in [
            ("count", 0, "count reports 0x7a314"),
            ("count", 0, "count says counted"),
            ("legacy", 0, "legacy says called as of old"),
            ("grow", 0, "grow reports 0x6"),
            ("popf", 0, "popf reports 0x200"),
            ("bad_pointer", 0, "bad_pointer reports 0xfffffffffffffff2"),
            ("status", 42, "status syscall 1 "),
        ] {
            let runs = !skipped.contains(&program);
            let end = runs.then(|| format!("{program} exited with {status}"));
            assert_eq!(end_of(ran, program), end.as_deref());
            let said = ran.output.lines().any(|line| line.starts_with(says));
            assert_eq!(said, runs, "{says}: {}", ran.output);
        }
    });
}

#[test]
fn processes_that_spin_are_preempted_in_turn() {
    each_run(|ran, _| {
        let spins: Vec<&str> = ran
            .lines()
            .into_iter()
            .filter(|line| line.contains(" is preempted, ") || line.ends_with(" its time is up"))
            .map(topic)
            .collect();
        assert_eq!(spins, ["spin_a", "spin_b"].repeat(3));
    });
}

#[test]
fn a_process_that_ends_otherwise_fails_the_kernel() {
    need_kvm!();
    // `xor ecx, ecx; div ecx` of the program `divide` becomes `mov ecx, eax; div ecx`.
    let instructions = [0x31, 0xd2, 0x31, 0xc9, 0xf7, 0xf1];
    let at = FOREIGN
        .windows(instructions.len())
        .position(|window| window == instructions)
        .expect("the program is in the image");
    let image = image::with_bytes(FOREIGN, at + 2, &[0x89, 0xc1]);
    for way in WAYS {
        let mode = way.0;
        let ran = run_without(way, image.clone(), &skipped(mode));
        assert_eq!(ran.status(), 1, "{}", ran.output);
        let lines: Vec<&str> = ran.output.lines().collect();
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("divide end SHOULD BE"))
        );
        let difference = difference(&expected(&skipped(mode)), &lines).unwrap_or_default();
        assert!(
            difference.contains("expected `divide vector 0 "),
            "{difference}"
        );
    }
}

#[test]
fn a_trace_with_a_line_more_or_less_differs() {
    let all = expected(&[]);
    assert_eq!(difference(&all, &all), None);
    for at in [0, all.len() / 2, all.len() - 1] {
        let mut less = all.clone();
        less.remove(at);
        let place = format!("event {at}: ");
        for (expected, got) in [(&all, &less), (&less, &all)] {
            let text = difference(expected, got).unwrap_or_default();
            assert!(text.starts_with(&place), "{text}");
        }
    }
}
