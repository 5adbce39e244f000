//! What is said of a rig that does not do as it should: QEMU is a script here.

use super::*;

const READY: &str = r#"echo 'RIG {"Ready":{"kernel":"6.1"}}'"#;

/// A "QEMU" that does what a script says.
pub(crate) fn start(script: &str) -> Machine {
    let folder = tempfile::tempdir().unwrap();
    let qemu = folder.path().join("fake-qemu");
    let text = folder.path().join("text");
    fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
    // Another process writes it: a child that another thread starts meanwhile would hold a file that
    // this one has open for writing, and such a file cannot be run.
    let mut install = Command::new("install");
    let installed = install.args(["-m", "755"]).args([&text, &qemu]).status();
    assert!(installed.unwrap().success());
    fs::write(
        folder.path().join("console"),
        "kernel: first\nkernel: last\r\n",
    )
    .unwrap();
    let hardware = Hardware {
        qemu,
        kernel: "/kernel".into(),
        initramfs: "/initramfs".into(),
        cpus: 2,
        memory_mib: 512,
        disk_bytes: Some(1 << 20),
    };
    Machine::start(&hardware, folder).unwrap()
}

/// Watch it, and return what was reported and how it ended.
fn watch(script: &str) -> (Vec<Report>, Result<(), RigError>) {
    let mut reports = Vec::new();
    let end = start(script).watch(1, |report, _| reports.push(report));
    (reports, end)
}

#[track_caller]
fn assert_lost(script: &str, status: u8, sentence: &str) {
    let (_, end) = watch(script);
    let error = end.unwrap_err();
    assert_eq!(error.status(), status, "{error}");
    let said = error.to_string();
    assert!(said.starts_with(sentence), "{said}");
}

#[test]
fn reports_are_handed_on_until_the_last() {
    let (reports, end) = watch(&format!(
        r#"{READY}; echo; echo 'RIG {{"Started":{{"job":0}}}}'; echo 'RIG "Done"'; exec sleep 100"#
    ));
    assert!(end.is_ok(), "{end:?}");
    let ready = Report::Ready {
        kernel: "6.1".to_owned(),
    };
    assert_eq!(reports, [ready, Report::Started { job: 0 }]);
}

#[test]
fn a_qemu_that_ends_at_once_did_not_boot_and_its_words_are_shown() {
    let script = "echo 'warning: TCG doesn'\"'\"'t support requested feature: x' >&2; \
        echo 'could not load kernel' >&2; exit 1";
    assert_lost(
        script,
        125,
        "the rig did not boot: QEMU ended with status 1",
    );
    let said = watch(script).1.unwrap_err().to_string();
    assert!(
        said.contains("could not load kernel") && said.contains("kernel: last"),
        "{said}"
    );
    assert!(!said.contains("TCG"), "{said}");
}

#[test]
fn a_rig_that_dies_at_work_is_told_from_one_that_did_not_boot() {
    assert_lost(
        READY,
        125,
        "the rig ended before its work was done\n  | kernel: first",
    );
}

#[test]
fn a_silent_rig_is_hung() {
    let script = format!("{READY}; exec sleep 100");
    assert_lost(&script, 124, "the rig is hung: it said nothing for 1 s");
}

#[test]
fn what_is_no_report_is_shown() {
    assert_lost(
        "echo 'login: '; exec sleep 100",
        125,
        "the rig reported what cannot be read",
    );
    let half = r#"echo 'RIG {"Ended":'"#;
    assert_lost(half, 125, "the rig reported what cannot be read");
}

#[test]
fn what_the_agent_says_of_the_rig_is_passed_on() {
    let script = r#"echo 'RIG {"Broken":"its processor has no SVM"}'; exec sleep 100"#;
    assert_lost(script, 125, "inside the rig: its processor has no SVM");
}

#[test]
fn the_first_of_many_processors_is_kept_from_programs() {
    assert_eq!(processors(1), (1, ""));
    assert_eq!(processors(2), (3, " isolcpus=0"));
    assert_eq!(processors(255), (256, " isolcpus=0"));
}
