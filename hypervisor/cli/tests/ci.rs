//! `paravane ci`: every verdict, with its status and its evidence, and reports that parse.

mod common;

use std::io::Read;
use std::path::PathBuf;

use hypervisor::loader::Segment;
use serde_json::Value;

use common::{Ran, arg, collect, command, file, has_kvm, paravane, read_until, signal};

/// A scenario file of this test's own, removed at the end.
struct Scenarios(PathBuf);

impl Scenarios {
    fn new(name: &str, text: &str) -> Self {
        Self(file(&format!("{name}.toml"), text.as_bytes()))
    }

    fn run(&self, options: &[&str]) -> Ran {
        paravane(&[&["ci", arg(&self.0)], options].concat())
    }

    /// The JSON report, after this status.
    #[track_caller]
    fn report(&self, status: i32) -> Value {
        let report = self.run(&["--json", "-"]).expect(status).json();
        assert_eq!(report["schema"], 1);
        report
    }
}

impl Drop for Scenarios {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The first case of a report.
fn first(report: &Value) -> &Value {
    &report["suites"][0]["cases"][0]
}

/// A file of one scenario fails its case like this, and says these words.
#[track_caller]
fn fails(name: &str, scenario: &str, kind: &str, words: &[&str]) -> Value {
    let scenarios = Scenarios::new(name, &format!("[[scenario]]\nname = \"it\"\n{scenario}"));
    let ran = scenarios.run(&[]).expect(1);
    for word in words {
        assert!(ran.out.contains(word), "no {word:?} in {}", ran.out);
    }
    assert!(ran.out.ends_with("\n0 passed, 1 failed\n"), "{}", ran.out);
    let report = scenarios.report(1);
    let case = first(&report).clone();
    assert_eq!(case["result"], "failed");
    assert_eq!(case["failure"]["kind"], kind);
    case
}

#[test]
fn a_guest_that_does_all_passes_in_every_mode() {
    if !has_kvm() {
        return;
    }
    let scenarios = Scenarios::new(
        "pass",
        r#"
        name = "both"
        [[scenario]]
        name = "pv"
        steps = [
            { expect = "Paravane" },
            { expect = "> " },
            { send = "echo one two\n" },
            { expect = "one two" },
            { expect = "one*two" },
            { send = "poweroff 7\n" },
        ]
        status = 7
        [[scenario]]
        name = "native"
        image = "native"
        memory = "32M"
        cmdline = "run='echo three; poweroff 9'"
        steps = [{ expect = 'thr*', timeout = 20 }]
        status = 9
        [[scenario]]
        name = "it is stopped after the last step"
        steps = [{ expect = "> " }]
        "#,
    );
    let ran = scenarios.run(&[]).expect(0);
    assert!(ran.out.ends_with("\n3 passed, 0 failed\n"), "{}", ran.out);
    assert_eq!(ran.out.matches("ok ").count(), 3, "{}", ran.out);
    assert_eq!(ran.err, "");
    let report = scenarios.report(0);
    assert_eq!(
        (&report["passed"], &report["failed"]),
        (&3.into(), &0.into())
    );
    assert_eq!(report["suites"][0]["name"], "both");
    assert_eq!(first(&report)["status"], 7);
    assert_eq!(first(&report)["failure"], Value::Null);
    assert!(first(&report)["stats"]["calls"]["power_off"].is_object());
    let only = scenarios.run(&["--only", "native"]).expect(0);
    assert!(only.out.ends_with("1 passed, 0 failed\n"), "{}", only.out);
}

#[test]
fn a_pattern_that_never_comes_shows_what_came() {
    if !has_kvm() {
        return;
    }
    let steps = r#"steps = [{ expect = "> " }, { expect = "nonsense", timeout = 0.3 }]"#;
    let words = [
        "step 2: `nonsense` did not come within 0.3 s",
        "| > ",
        "Paravane",
    ];
    let case = fails("never", steps, "pattern", &words);
    assert_eq!(case["failure"]["step"], 2);
    assert!(case["report"].is_string(), "where it was: {case}");
}

#[test]
fn an_answer_counts_only_after_the_one_before() {
    if !has_kvm() {
        return;
    }
    let steps = r#"
        cmdline = "quiet run='echo one; echo two'"
        steps = [{ expect = "two" }, { expect = "one" }]
        status = 0"#;
    fails(
        "order",
        steps,
        "ended_early",
        &["step 2", "early, with status 0"],
    );
}

#[test]
fn a_guest_that_ends_early_or_otherwise_fails() {
    if !has_kvm() {
        return;
    }
    let early = r#"
        cmdline = "run='poweroff 3'"
        steps = [{ expect = "> " }]"#;
    let words = ["step 1: the guest ended early, with status 3"];
    let case = fails("early", early, "ended_early", &words);
    assert_eq!(case["status"], 3);
    let wrong = "cmdline = \"run='poweroff 3'\"\nstatus = 4";
    let words = ["the guest ended with status 3, not 4"];
    fails("wrong", wrong, "status", &words);
    let panics = "cmdline = \"run='fault panic'\"\nstatus = 0";
    let words = ["status 101, not 0", "kernel panic"];
    fails("panics", panics, "status", &words);
}

/// The native kernel with a first instruction that no processor knows.
fn broken() -> Vec<u8> {
    let mut image = guest_images::NATIVE.to_vec();
    let plan = hypervisor::loader::plan(&image).expect("a good image");
    let of_entry = |segment: &&Segment| segment.virt_range().contains(&plan.entry);
    let segment = plan.segments.iter().find(of_entry).expect("code");
    let at = segment.file.start + (plan.entry - segment.virt) as usize;
    image[at..at + 2].copy_from_slice(&[0x0f, 0x0b]);
    image
}

#[test]
fn a_fault_brings_its_report() {
    if !has_kvm() {
        return;
    }
    let image = file("ci-broken.elf", &broken());
    let name = image.file_name().and_then(|name| name.to_str());
    let name = name.expect("text");
    let scenario = format!("image = \"{name}\"\nmode = \"hvm\"\nstatus = 0");
    let words = ["the guest cannot go on: ", "the console is empty"];
    let case = fails("fault", &scenario, "fault", &words);
    let report = case["report"].as_str().expect("a report");
    // KVM on SVM resets the processor at a triple fault, and says nothing of where it was.
    let is_readable = ["rip", "_start", "0f 0b"]
        .iter()
        .all(|word| report.contains(word));
    assert!(
        is_readable || report.contains("the registers are lost"),
        "{report}"
    );
    std::fs::remove_file(image).expect("it exists");
}

#[test]
fn a_guest_that_hangs_is_stopped() {
    if !has_kvm() {
        return;
    }
    let hanging = "cmdline = \"run='sleep 100000'\"\ntimeout = 0.4\n";
    let words = ["the guest did not end within 0.4 s"];
    fails("hang", &format!("{hanging}status = 0"), "timeout", &words);
    let steps = "steps = [{ expect = \"never\" }]";
    let words = ["step 1: the guest did not end within 0.4 s"];
    fails("hang-step", &format!("{hanging}{steps}"), "timeout", &words);
    let busy = "image = \"native\"\ntimeout = 0.4\nsteps = [{ expect = \"never\", timeout = 9 }]";
    fails("hang-native", busy, "timeout", &["step 1"]);
}

#[test]
fn output_without_end_and_input_without_reader_fail() {
    if !has_kvm() {
        return;
    }
    let chatty = "output_limit = \"4K\"\nstatus = 0\ncmdline = \"run='";
    let chatty = format!("{chatty}{}'\"", "help;".repeat(200));
    fails("chatty", &chatty, "output", &["wrote more than 4096 bytes"]);
    let deaf = format!(
        "cmdline = \"run='sleep 100000'\"\nsteps = [{{ send = \"{}\", timeout = 0.3 }}]",
        "x".repeat(70_000)
    );
    let words = ["step 1: the guest's console had no room for 4464 bytes"];
    fails("deaf", &deaf, "send", &words);
}

#[test]
fn hostile_output_is_escaped_everywhere() {
    if !has_kvm() {
        return;
    }
    let scenarios = Scenarios::new(
        "hostile",
        r#"
        [[scenario]]
        name = "<\"&]]>"
        cmdline = "quiet run='echo ]]></system-out>\u001b[31m\u0001&\uffff'"
        steps = [{ expect = "<never>&" }]
        "#,
    );
    let xml = file("hostile.xml", b"");
    let logs = xml.with_extension("logs");
    let ran = scenarios
        .run(&["--junit", arg(&xml), "--log", arg(&logs)])
        .expect(1);
    assert!(
        ran.out.contains(r"]]></system-out>\x1b[31m\x01&"),
        "{}",
        ran.out
    );
    assert!(!ran.out.contains('\x1b'), "{}", ran.out);
    let text = std::fs::read_to_string(&xml).expect("a report");
    let counts = xml::check(&text);
    assert_eq!(counts("testcase"), 1);
    assert_eq!(counts("failure"), 1);
    assert_eq!(counts("system-out"), 1);
    let log = std::fs::read(logs.join("01-------.log")).expect("a log");
    let raw = "]]></system-out>\x1b[31m\x01&\u{ffff}\n";
    assert_eq!(String::from_utf8_lossy(&log), raw, "as it came");
    std::fs::remove_dir_all(logs).expect("it exists");
    std::fs::remove_file(xml).expect("it exists");
}

#[test]
fn junit_counts_what_happened() {
    if !has_kvm() {
        return;
    }
    let scenarios = Scenarios::new(
        "junit",
        r#"
        [[scenario]]
        name = "good"
        cmdline = "run=mem"
        status = 0
        [[scenario]]
        name = "bad"
        cmdline = "run=mem"
        status = 1
        [[scenario]]
        name = "impossible"
        mode = "patch"
        image = "pv"
        status = 0
        "#,
    );
    let xml = file("junit.xml", b"");
    let json = xml.with_extension("json");
    let ran = scenarios.run(&["--junit", arg(&xml), "--json", arg(&json)]);
    let ran = ran.expect(125);
    assert!(ran.out.contains("ERROR impossible"), "{}", ran.out);
    assert!(ran.out.ends_with("1 passed, 2 failed\n"), "{}", ran.out);
    let text = std::fs::read_to_string(&xml).expect("a report");
    let counts = xml::check(&text);
    for (element, count) in [
        ("testcase", 3),
        ("failure", 1),
        ("error", 1),
        ("skipped", 0),
    ] {
        assert_eq!(counts(element), count, "{element} in {text}");
    }
    assert!(
        text.contains(r#"tests="3" failures="1" errors="1" skipped="0""#),
        "{text}"
    );
    let json: Value =
        serde_json::from_slice(&std::fs::read(&json).expect("a report")).expect("JSON");
    assert_eq!(json["errors"], 1);
    std::fs::remove_file(xml.with_extension("json")).expect("it exists");
    std::fs::remove_file(xml).expect("it exists");
}

#[test]
fn a_signal_ends_all_of_it() {
    if !has_kvm() {
        return;
    }
    let scenarios = Scenarios::new(
        "signal",
        r#"
        [[scenario]]
        name = "first"
        cmdline = "run=mem"
        status = 0
        [[scenario]]
        name = "second"
        cmdline = "run='sleep 100000'"
        status = 0
        [[scenario]]
        name = "third"
        status = 0
        "#,
    );
    let xml = file("signal.xml", b"");
    let mut child = command(&["ci", arg(&scenarios.0), "--junit", arg(&xml)])
        .spawn()
        .expect("it starts");
    let mut out = child.stdout.take().expect("a pipe");
    read_until(&mut out, "first");
    // Whether the second has begun or not, the signal ends all of it.
    signal(&child, libc::SIGTERM);
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("text");
    collect(child).expect(143);
    let text = std::fs::read_to_string(&xml).expect("a report");
    let counts = xml::check(&text);
    assert_eq!((counts("testcase"), counts("error")), (3, 1), "{text}");
    assert_eq!(counts("skipped"), 1, "{text}");
    std::fs::remove_file(xml).expect("it exists");
}

#[test]
fn a_bad_file_is_told_by_its_line() {
    let good = "[[scenario]]\nname = \"a\"\nstatus = 0\n";
    let cases = [
        ("[[scenario]\n", 1, "expected"),
        ("\n\n[[scenario]]\nname = 3\n", 4, "invalid type"),
        ("[[scenario]]\nname = \"a\"\nstatus = 256\n", 3, "256"),
        ("[[scenario]]\nname = \"a\"\ncolour = 1\n", 3, "colour"),
        ("[[scenario]]\nstatus = 0\n", 1, "name"),
        ("[[scenario]]\nname = \"a\"\n", 1, "asks for nothing"),
        ("name = \"empty\"\n", 1, "no scenario"),
        (&format!("{good}{good}"), 5, "second scenario"),
        (
            &format!("{good}mode = \"xen\"\n"),
            4,
            "hvm, trap, patch, pv",
        ),
        (&format!("{good}memory = \"lots\"\n"), 4, "64M"),
        (&format!("{good}timeout = 0\n"), 4, "above 0"),
        (&format!("{good}timeout = nan\n"), 4, "above 0"),
        (
            &format!("{good}steps = [\n  {{ }},\n]\n"),
            5,
            "either `expect` or `send`",
        ),
        (
            &format!("{good}steps = [{{ expect = \"a\", send = \"b\" }}]\n"),
            4,
            "either `expect` or `send`",
        ),
        (
            &format!("{good}steps = [{{ expect = \"\" }}]\n"),
            4,
            "empty pattern",
        ),
        (
            &format!("{good}steps = [{{ expect = \"a\\nb\" }}]\n"),
            4,
            "one line",
        ),
        (
            &format!("{good}steps = [{{ send = \"\", timeout = -1 }}]\n"),
            4,
            "above 0",
        ),
    ];
    for (text, line, words) in cases {
        let scenarios = Scenarios::new("bad", text);
        let ran = scenarios.run(&[]).expect(2);
        let place = format!("{}:{line}: ", arg(&scenarios.0));
        let ran = ran.says(&[&place, words]);
        assert_eq!(ran.out, "", "{text}");
        assert_eq!(ran.err.lines().count(), 1, "one sentence: {}", ran.err);
    }
    let scenarios = Scenarios::new("only", good);
    let ran = scenarios.run(&["--only", "b"]).expect(2);
    ran.says(&["no scenario is called \"b\""]);
    paravane(&["ci"]).expect(2).says(&["FILE"]);
}

#[test]
fn what_cannot_be_read_or_written_is_told_before_a_guest_boots() {
    let missing = "[[scenario]]\nname = \"a\"\nimage = \"not-there.elf\"\nstatus = 0\n";
    let scenarios = Scenarios::new("missing", missing);
    let ran = scenarios.run(&[]).expect(125);
    ran.says(&[&format!("{}:3: ", arg(&scenarios.0)), "not-there.elf"]);
    paravane(&["ci", "/nonexistent/ci.toml"])
        .expect(125)
        .says(&["/nonexistent/ci.toml"]);
    let scenarios = Scenarios::new("unwritable", "[[scenario]]\nname = \"a\"\nstatus = 0\n");
    for option in ["--junit", "--json", "--log"] {
        let ran = scenarios.run(&[option, "/proc/nowhere"]).expect(125);
        assert_eq!(ran.out, "");
        ran.says(&["cannot write the ", "/proc/nowhere"]);
    }
    let full = scenarios.run(&["--kvm", "/nonexistent/kvm", "--junit", "/dev/full"]);
    full.expect(125).says(&["cannot write the JUnit report"]);
}

#[test]
fn without_kvm_cases_are_errors_or_skipped_if_asked_for() {
    let scenarios = Scenarios::new("absent", "[[scenario]]\nname = \"a\"\nstatus = 0\n");
    let xml = file("absent.xml", b"");
    let node = ["--kvm", "/nonexistent/kvm", "--junit", arg(&xml)];
    let ran = scenarios.run(&node).expect(125);
    assert!(
        ran.out.contains("there is no /nonexistent/kvm"),
        "{}",
        ran.out
    );
    assert!(ran.out.ends_with("0 passed, 1 failed\n"), "{}", ran.out);
    let text = std::fs::read_to_string(&xml).expect("a report");
    assert_eq!(xml::check(&text)("error"), 1);
    let skipped = [&node[..], &["--skip-without-kvm"]].concat();
    let ran = scenarios.run(&skipped).expect(0);
    assert!(
        ran.out.ends_with("0 passed, 0 failed, 1 skipped\n"),
        "{}",
        ran.out
    );
    let text = std::fs::read_to_string(&xml).expect("a report");
    assert_eq!(xml::check(&text)("skipped"), 1);
    std::fs::remove_file(xml).expect("it exists");
}

/// A strict little reader of the XML that is written here: elements, quoted attributes, text.
mod xml {
    use std::collections::HashMap;

    /// Check that a document is well-formed; counts its elements by name.
    #[track_caller]
    pub fn check(text: &str) -> impl Fn(&str) -> usize {
        let body = text
            .strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
            .expect("a declaration");
        let mut counts: HashMap<String, usize> = HashMap::new();
        let mut open: Vec<&str> = Vec::new();
        let mut rest = body;
        let mut roots = 0;
        while let Some(start) = rest.find('<') {
            let (before, tag) = rest.split_at(start);
            assert!(!open.is_empty() || before.trim().is_empty(), "text outside");
            is_text(before);
            let end = end_of_tag(tag);
            let inner = &tag[1..end];
            rest = &tag[end + 1..];
            if let Some(name) = inner.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "an end tag fits its start");
                continue;
            }
            let (inner, is_empty) = match inner.strip_suffix('/') {
                Some(inner) => (inner, true),
                None => (inner, false),
            };
            let name = inner.split(' ').next().expect("a name");
            is_name(name);
            attributes(&inner[name.len()..]);
            roots += usize::from(open.is_empty());
            *counts.entry(name.to_owned()).or_default() += 1;
            if !is_empty {
                open.push(name);
            }
        }
        assert!(
            open.is_empty() && rest.trim().is_empty(),
            "{open:?} {rest:?}"
        );
        assert_eq!(roots, 1, "one root");
        move |name| counts.get(name).copied().unwrap_or(0)
    }

    /// Where a tag's `>` is; one inside quotes does not count.
    fn end_of_tag(tag: &str) -> usize {
        let mut is_quoted = false;
        for (at, next) in tag.char_indices() {
            match next {
                '"' => is_quoted = !is_quoted,
                '>' if !is_quoted => return at,
                _ => {}
            }
        }
        panic!("a tag does not end: {tag}");
    }

    fn attributes(mut text: &str) {
        let mut names = Vec::new();
        while !text.is_empty() {
            text = text.strip_prefix(' ').expect("a space before an attribute");
            let (name, rest) = text.split_once("=\"").expect("an attribute's value");
            is_name(name);
            assert!(!names.contains(&name), "{name} twice");
            names.push(name);
            let (value, rest) = rest.split_once('"').expect("a quote's end");
            is_text(value);
            assert!(
                !value.contains(['\n', '\t', '\r']),
                "it would become a space"
            );
            text = rest;
        }
    }

    fn is_name(name: &str) {
        let is_good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        assert!(!name.is_empty() && name.chars().all(is_good), "{name:?}");
    }

    /// XML 1.0, 2.2 Char and 4.1 references; `]]>` is forbidden in text (2.4).
    fn is_text(text: &str) {
        assert!(!text.contains(['<', '>']), "{text:?}");
        for next in text.chars() {
            let is_char = matches!(next, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
            assert!(is_char, "{next:?}");
        }
        for part in text.split('&').skip(1) {
            let (name, _) = part.split_once(';').expect("a reference's end");
            let known = ["amp", "lt", "gt", "quot", "apos", "#9", "#10", "#13"];
            assert!(known.contains(&name), "&{name};");
        }
    }
}
