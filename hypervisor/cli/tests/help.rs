//! The help teaches: every command has examples, and every exit status is told.

mod common;

use common::paravane;

#[test]
fn the_help_shows_commands_examples_and_exit_statuses() {
    let help = paravane(&["--help"]).expect(0).out;
    for word in [
        "run",
        "bench",
        "audit",
        "hypercalls",
        "ci",
        "doctor",
        "Examples:",
        "Exit status:",
    ] {
        assert!(help.contains(word), "no {word:?} in {help}");
    }
    for status in [
        "1 ", "2 ", "70", "101", "102", "124", "125", "126", "129", "130", "143",
    ] {
        assert!(help.contains(status), "no status {status} in {help}");
    }
    assert!(!help.contains("floor-vm"), "{help}");
}

#[test]
fn every_command_has_examples() {
    for command in ["run", "bench", "audit", "hypercalls", "ci", "doctor"] {
        for flag in ["-h", "--help"] {
            let help = paravane(&[command, flag]).expect(0).out;
            assert!(
                help.contains("Examples:") && help.contains(&format!("paravane {command}")),
                "{help}"
            );
        }
    }
}

#[test]
fn the_help_of_run_names_every_option_and_its_default() {
    let help = paravane(&["run", "--help"]).expect(0).out;
    let words = [
        "--mode",
        "hvm",
        "trap",
        "patch",
        "[default: pv]",
        "--mem",
        "[default: 64M]",
        "--cpus",
        "--cmdline",
        "--initrd",
        "--stats",
        "--trace",
        "--timeout",
        "--json",
        "--kvm",
        "[default: /dev/kvm]",
        "Ctrl-C",
        "Exit status:",
    ];
    for word in words {
        assert!(help.contains(word), "no {word:?} in {help}");
    }
}

#[test]
fn the_help_of_audit_explains_what_is_counted() {
    let help = paravane(&["audit", "--help"]).expect(0).out;
    assert!(help.contains(&hypervisor::audit::explain()), "{help}");
}

#[test]
fn the_version_is_told() {
    let version = paravane(&["--version"]).expect(0).out;
    assert_eq!(
        version,
        concat!("paravane ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn lines_fit_a_terminal() {
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["bench", "--help"],
        &["ci", "--help"],
        &["doctor", "--help"],
        &["hypercalls"],
    ] {
        for line in paravane(args).expect(0).out.lines() {
            assert!(line.chars().count() <= 110, "{args:?}: {line}");
        }
    }
}
