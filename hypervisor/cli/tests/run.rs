//! The built-in guest, run for real.

mod common;

use hypervisor::loader::Segment;

use common::{HANGING, arg, file, has_kvm, paravane, with_input};

#[test]
fn the_guest_s_status_is_the_program_s() {
    if !has_kvm() {
        return;
    }
    for mode in ["pv", "hvm"] {
        for status in [0, 3, 255] {
            let script = format!("run='echo hello; poweroff {status}'");
            let ran = paravane(&["run", "--mode", mode, "--cmdline", &script]).expect(status);
            assert!(
                ran.out.contains(&format!("({mode}")) || ran.out.contains("Paravane"),
                "{}",
                ran.out
            );
            assert!(ran.out.ends_with("hello\n"), "{}", ran.out);
            assert_eq!(ran.err, "");
        }
    }
}

#[test]
fn a_fault_and_a_panic_of_the_guest_s_kernel_have_their_statuses() {
    if !has_kvm() {
        return;
    }
    let ran = paravane(&["run", "--cmdline", "run='fault divide'"]).expect(102);
    assert!(ran.out.contains("divide error"), "{}", ran.out);
    let ran = paravane(&["run", "--cmdline", "run='fault panic'"]).expect(101);
    assert!(ran.out.contains("kernel panic"), "{}", ran.out);
}

/// An image whose first instruction no processor knows.
fn broken(good: &[u8]) -> Vec<u8> {
    let plan = hypervisor::loader::plan(good).expect("a good image");
    let of_entry = |segment: &&Segment| segment.virt_range().contains(&plan.entry);
    let segment = plan.segments.iter().find(of_entry).expect("code");
    let at = segment.file.start + (plan.entry - segment.virt) as usize;
    let mut image = good.to_vec();
    image[at..at + 2].copy_from_slice(&[0x0f, 0x0b]);
    image
}

#[test]
fn a_guest_that_cannot_go_on_is_reported() {
    if !has_kvm() {
        return;
    }
    let path = file("broken", &broken(guest_images::NATIVE));
    let args = ["run", "--mode", "hvm", "--timeout", "10", arg(&path)];
    let ran = paravane(&args).expect(126);
    // KVM on SVM resets the processor at a triple fault, and says nothing of where it was.
    let words = match ran.err.contains("the registers are lost") {
        true => ["the guest cannot go on: "].as_slice(),
        false => &["the guest cannot go on: ", "rip", "code 0f 0b", "_start"],
    };
    assert_eq!(ran.says(words).out, "");
    let json = paravane(&[&args[..], &["--json"]].concat())
        .expect(126)
        .json();
    assert_eq!(
        (&json["end"], &json["status"]),
        (&"fault".into(), &126.into())
    );
    assert!(json["fault"].is_string() && json["report"].is_string());
    std::fs::remove_file(path).expect("it exists");
}

#[test]
fn commands_come_from_a_pipe() {
    if !has_kvm() {
        return;
    }
    for mode in ["pv", "hvm"] {
        let ran = with_input(
            &["run", "--mode", mode],
            b"echo one\necho two\npoweroff 5\n",
        )
        .expect(5);
        let one = ran.out.find("\none\n").expect("the first answer");
        assert!(ran.out[one..].contains("\ntwo\n"), "{}", ran.out);
        assert_eq!(ran.err, "");
    }
}

#[test]
fn nothing_of_a_long_input_is_lost() {
    if !has_kvm() {
        return;
    }
    // More than the 64 KiB that the guest's console holds.
    const LINES: usize = 350;
    let word = "x".repeat(200);
    let mut input = format!("echo {word}\n").repeat(LINES);
    input += "poweroff 4\n";
    let ran = with_input(&["run"], input.as_bytes()).expect(4);
    let answers = ran.out.lines().filter(|line| *line == word).count();
    assert_eq!(answers, LINES);
}

#[test]
fn the_end_of_the_input_ends_the_shell() {
    if !has_kvm() {
        return;
    }
    for input in [b"mem\n".as_slice(), b"mem"] {
        let ran = with_input(&["run", "--timeout", "20"], input).expect(0);
        assert!(ran.out.contains("memory"), "{}", ran.out);
    }
}

#[test]
fn statistics_go_to_stderr() {
    if !has_kvm() {
        return;
    }
    let ran = paravane(&["run", "--stats", "--cmdline", "quiet run='echo hello'"]).expect(0);
    assert_eq!(ran.out, "hello\n");
    let ran = ran.says(&[
        "mode pv",
        "KVM: ",
        "build",
        "exits",
        "call power_off",
        "console_put",
    ]);
    assert!(
        ran.err.lines().any(|line| line.starts_with("exit call")),
        "{}",
        ran.err
    );
    let ran = paravane(&["run", "--stats", "--mode", "hvm", "--cmdline", "run=mem"]).expect(0);
    ran.says(&["mode hvm", "exit port write"]);
}

#[test]
fn the_report_is_json_on_stdout_and_the_console_on_stderr() {
    if !has_kvm() {
        return;
    }
    let ran = paravane(&[
        "run",
        "--json",
        "--cmdline",
        "quiet run='echo hello; poweroff 9'",
    ])
    .expect(9);
    assert_eq!(ran.err, "hello\n");
    let json = ran.json();
    assert_eq!(
        (&json["schema"], &json["end"], &json["status"]),
        (&1.into(), &"power_off".into(), &9.into())
    );
    assert_eq!(
        (&json["mode"], &json["console_bytes"]),
        (&"pv".into(), &6.into())
    );
    assert!(json["platform"].is_string() && json["gates"].is_string() && json["build"].is_string());
    assert_eq!(json["stats"]["calls"]["power_off"]["count"], 1);
    assert!(
        json["stats"]["exits"]["call"]["total_ns"]
            .as_u64()
            .is_some_and(|ns| ns > 0)
    );

    let json = paravane(&["run", "--json", "--timeout", "0.3", "--cmdline", HANGING])
        .expect(124)
        .json();
    assert_eq!(
        (&json["end"], &json["status"]),
        (&"timeout".into(), &124.into())
    );
    assert!(
        json["report"]
            .as_str()
            .is_some_and(|report| report.contains("rip"))
    );
}

#[test]
fn the_trace_names_what_each_mode_asks_for() {
    if !has_kvm() {
        return;
    }
    // What ends the guest, and what it went through.
    for (mode, asked) in [
        ("pv", &["call power_off (0x40)"][..]),
        ("hvm", &["out 0xf4 [2"]),
        (
            "trap",
            &["out 0xf4 [2", "trap out at 0xffffffff8", "trap mov cr3 at"],
        ),
        (
            "patch",
            &["out 0xf4 [2", "trap out at 0xffffffff8", "trap mov cr3 at"],
        ),
    ] {
        let path = file("trace", b"");
        let options = ["--cmdline", "run='poweroff 2'", "--trace", arg(&path)];
        paravane(&[&["run", "--mode", mode][..], &options].concat()).expect(2);
        let trace = std::fs::read_to_string(&path).expect("it was written");
        std::fs::remove_file(path).expect("it exists");
        for asked in asked {
            assert!(trace.contains(asked), "{mode}: {asked}: {trace}");
        }
        let last = trace.lines().last();
        let is_end = last.is_some_and(|line| line.ends_with("end PowerOff(2)"));
        assert!(is_end, "{mode}: {trace}");
    }
}

#[test]
fn memory_and_images_are_as_asked() {
    if !has_kvm() {
        return;
    }
    let ran = paravane(&["run", "--mem", "128M", "--cmdline", "run=mem"]).expect(0);
    assert!(ran.out.contains("128 MiB"), "{}", ran.out);
    let script = ["--cmdline", "run='poweroff 6'"];
    paravane(&[&["run", guest_images::PV_PATH][..], &script].concat()).expect(6);
    paravane(
        &[
            &["run", guest_images::NATIVE_PATH, "--mode", "hvm"][..],
            &script,
        ]
        .concat(),
    )
    .expect(6);
    let initrd = file("small-initrd", b"anything");
    paravane(&[&["run", "--initrd", arg(&initrd)][..], &script].concat()).expect(6);
    std::fs::remove_file(initrd).expect("it exists");
}

#[test]
fn what_a_run_learned_the_next_one_knows() {
    if !has_kvm() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let cache = dir.path().join("made/for/it");
    let run = |cache: &str| {
        let args = ["run", "--mode", "patch", "--json", "--cmdline", "run=help"];
        paravane(&[&args[..], &["--code-cache", cache]].concat()).expect(0)
    };
    let discoveries = |cache: &str| {
        let ran = run(cache);
        assert!(!ran.err.contains("not kept"), "{}", ran.err);
        ran.json()["stats"]["exits"]["discovery"]["count"].as_u64()
    };
    let first = discoveries(arg(&cache));
    assert!(first.is_some() && cache.is_dir());
    assert_eq!(discoveries(arg(&cache)), None);
    // After a failure, nothing is: what was known may be why.
    let fault = ["run", "--mode", "patch", "--cmdline", "run='fault divide'"];
    paravane(&[&fault[..], &["--code-cache", arg(&cache)]].concat()).expect(102);
    assert_eq!(std::fs::read_dir(&cache).expect("a directory").count(), 0);
    // Where nothing is kept, and where nothing can be kept.
    assert_eq!(discoveries("off"), first);
    assert_eq!(discoveries("auto"), first);
    let file = dir.path().join("file");
    std::fs::write(&file, b"").expect("room");
    let ran = run(arg(&file)).says(&["is not kept", "file", "--code-cache"]);
    assert_eq!(
        ran.json()["stats"]["exits"]["discovery"]["count"].as_u64(),
        first
    );
    let ran = paravane(&["run", "--code-cache", ""]).expect(2);
    ran.says(&["use auto, off, or a directory"]);
}
