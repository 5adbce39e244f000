//! The benchmark, by way of the program.

mod common;

use common::{has_kvm, paravane};

#[test]
fn an_unknown_row_is_a_usage_error_that_lists_the_rows() {
    let ran = paravane(&["bench", "--only", "nonsense"]).expect(2);
    let ran = ran.says(&["no row is called nonsense", "null_monitor"]);
    assert_eq!(ran.out, "");
}

#[test]
fn chosen_rows_are_measured() {
    if !has_kvm() {
        return;
    }
    let only = ["bench", "--quick", "--only", "null_monitor,null_machine"];
    let ran = paravane(&only).expect(0);
    assert!(ran.out.contains("null_machine") && !ran.out.contains("page_remap"));
    // Without a terminal there is no progress bar.
    assert_eq!(ran.err, "");
    let json = paravane(&[&only[..], &["--json"]].concat())
        .expect(0)
        .json();
    assert!(json["schema"].is_u64() && json["rows"].as_array().is_some_and(|rows| rows.len() == 2));
}

#[test]
fn the_program_alone_greets_and_measures() {
    if !has_kvm() {
        return;
    }
    let ran = paravane(&[]).expect(0);
    let greeting = ran.out.find("Paravane 0.").expect("the greeting");
    let table = ran.out.find("null_monitor").expect("the table");
    let reading = ran.out.find("How to read it").expect("how to read it");
    assert!(greeting < table && table < reading);
}

#[test]
fn the_floor_says_its_byte_and_nothing_else() {
    if !has_kvm() {
        return;
    }
    let ran = paravane(&["floor-vm"]).expect(0);
    assert_eq!(ran.out, "P");
}

#[test]
fn input_and_output_is_measured_in_each_mode_and_beside_the_host() {
    if !has_kvm() {
        return;
    }
    let report = paravane(&["bench", "io", "--quick", "--smoke", "--json"])
        .expect(0)
        .json();
    let rows = report["rows"].as_array().expect("rows");
    for (mode, device) in [
        ("host", "loop"),
        ("pv", "virtio-blk"),
        ("patch", "virtio-blk"),
        ("trap", "virtio-blk"),
        ("hvm", "virtio-blk"),
        ("pv", "doorbell exits"),
    ] {
        let is_it = |row: &&serde_json::Value| row["mode"] == mode && row["device"] == device;
        let row = rows.iter().find(is_it).expect("the row is there");
        let found = &row["found"];
        assert!(found["ns"]["median"].as_f64().expect("a time") > 0.0);
        assert_eq!(found["copied"], 0.0, "{mode} {device}");
        let exits = found["exits"].as_f64().expect("a count");
        let is_exiting = device == "doorbell exits" || matches!(mode, "trap" | "patch");
        assert_eq!(exits > 0.0, is_exiting, "{mode} {device}: {exits}");
    }
    let goals = report["goals"].as_array().expect("goals");
    assert!(
        goals.iter().all(|goal| goal["value"].is_number()),
        "{goals:?}"
    );
    let text = paravane(&["bench", "io", "--smoke", "--quick"])
        .expect(0)
        .out;
    assert!(text.contains("pv virtio-blk") && text.contains("of the host loop's requests"));
    let nowhere = paravane(&["bench", "io", "--dir", "/nonexistent"]).expect(125);
    assert!(nowhere.err.contains("--dir"), "{}", nowhere.err);
}
