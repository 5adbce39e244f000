//! A short run of each target, and the ways in which a run may fail.

use std::process::{Command, Output};

fn fuzz(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fuzz"))
        .args(arguments)
        .output()
        .expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A number in the line of a target, before or behind some words.
fn number(line: &str, before: &str, after: &str) -> u64 {
    let rest = line.split(before).nth(1).unwrap_or_default();
    let word = rest.split(after).next().unwrap_or_default();
    word.parse()
        .unwrap_or_else(|_| panic!("no number between {before:?} and {after:?} in {line}"))
}

/// Run a target, and check that its generator got somewhere.
fn run(target: &str) {
    let output = fuzz(&[target, "--cases", "200", "--seed", "1"]);
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    let line = text(&output.stdout);
    assert_eq!(number(&line, ": ", " cases"), 200, "{line}");
    let reached = number(&line, "outcomes ", "/");
    let wanted = line
        .split("outcomes ")
        .nth(1)
        .and_then(|rest| rest.split(['/', ' ', ',']).nth(1));
    let wanted: u64 = wanted.and_then(|word| word.parse().ok()).expect("a number");
    assert!(3 * reached >= 2 * wanted, "{line}");
    if ["ata", "ne2000", "ioapic", "clocks"].contains(&target) {
        // They have registers alone.
        assert!(number(&line, "), ", " operations") > 10_000, "{line}");
        return;
    }
    let (finished, bytes) = (
        number(&line, "offered and ", " finished"),
        number(&line, "resets, ", " bytes"),
    );
    // A balloon moves none.
    assert!(
        finished > 200 && (bytes > 0 || target == "balloon"),
        "{line}"
    );
}

#[test]
fn mmio() {
    run("mmio");
}

#[test]
fn blk() {
    run("blk");
}

#[test]
fn blk_qcow2() {
    run("blk-qcow2");
}

#[test]
fn rng() {
    run("rng");
}

#[test]
fn console() {
    run("console");
}

#[test]
fn balloon() {
    run("balloon");
}

#[test]
fn net() {
    run("net");
}

#[test]
fn vsock() {
    run("vsock");
}

#[test]
fn ata() {
    run("ata");
}

#[test]
fn ne2000() {
    run("ne2000");
}

#[test]
fn ioapic() {
    run("ioapic");
}

#[test]
fn clocks() {
    run("clocks");
}

#[test]
fn image() {
    run("image");
}

#[test]
fn a_failure_is_told_with_its_replay() {
    for (trouble, words) in [
        ("trouble-check", "as it was wished"),
        ("trouble-panic", "as it was wished"),
        ("trouble-thread", "as it was wished"),
        ("trouble-stack", "signal 6"),
        ("trouble-hang", "a case of more than 1 s"),
    ] {
        let output = fuzz(&[trouble, "--seed", "5", "--limit", "1"]);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(words), "{errors}");
        let replay = format!("cargo run --release -p fuzz -- {trouble} --seed 5 --case 3");
        assert!(errors.contains(&replay), "{errors}");
    }
}

#[test]
fn what_is_left_over_is_a_failure() {
    for (trouble, words) in [
        ("trouble-files", "file descriptors have grown"),
        ("trouble-threads", "threads have grown"),
        ("trouble-memory", "memory has grown"),
    ] {
        let output = fuzz(&[trouble, "--limit", "20", "--cases", "1000"]);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(words), "{errors}");
    }
}

#[test]
fn a_case_is_the_same_each_time() {
    let show = |case| text(&fuzz(&["blk", "--case", case, "--show"]).stdout);
    assert!(show("7").contains("register 0x70"));
    assert_eq!(show("7"), show("7"));
    assert_ne!(show("7"), show("8"));
}

#[test]
fn what_is_not_there_is_said() {
    let output = fuzz(&["no-such-target"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("there is no target no-such-target"));
    assert!(text(&fuzz(&["--list"]).stdout).contains("blk-qcow2"));
}
