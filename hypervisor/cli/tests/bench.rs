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
    let net = report["net"].as_array().expect("rows");
    // A trapped network, and what needs a tap, are not there on every host; what is missing says why.
    for row in net {
        assert_eq!(row["found"].is_null(), row["why"].is_string(), "{row}");
    }
    let is_tap = |row: &&serde_json::Value| row["over"] == "tap" && row["device"] == "virtio-net";
    let pv = net.iter().filter(is_tap).find(|row| row["mode"] == "pv");
    let has_tap = pv.expect("it is there")["why"].is_null();
    for row in net.iter().filter(is_tap) {
        assert_eq!(row["why"].is_null(), has_tap, "{row}");
    }
    if has_tap {
        for row in net.iter().filter(is_tap).filter(|row| row["mode"] == "pv") {
            let found = &row["found"];
            assert!(found["ns"]["median"].as_f64().expect("a time") > 0.0);
            assert_eq!(
                (&found["exits"], &found["copied"]),
                (&0.0.into(), &0.0.into()),
                "{row}"
            );
            assert!(row["frames"].as_f64().expect("a count") > 0.0, "{row}");
        }
    }
    let rates = report["rates"].as_array().expect("rows");
    for (what, mode, exits) in [
        ("console", "pv", Some(1.0)),
        ("console", "hvm", Some(64.0)),
        ("random", "pv", Some(0.0)),
        ("random", "trap", None),
        ("random", "host", Some(0.0)),
    ] {
        let is_it = |row: &&serde_json::Value| row["what"] == what && row["mode"] == mode;
        let row = rates.iter().find(is_it).expect("the row is there");
        assert!(row["found"]["ns"]["median"].as_f64().expect("a time") > 0.0);
        let found = row["found"]["exits"].as_f64().expect("a count");
        // A flush at the end, and what is left of a batch, are exits of no line.
        let is_near = exits.is_none_or(|exits: f64| (found - exits).abs() < 0.1);
        assert!(is_near, "{row}");
    }
    assert!(
        report["idle"]["cpu_percent"].is_number(),
        "{}",
        report["idle"]
    );
    let goals = report["goals"].as_array().expect("goals");
    for goal in goals {
        let is_there = match goal["claim"].as_u64() {
            Some(39) => net
                .iter()
                .filter(|row| row["device"] == "ne2000" && row["mode"] == "pv")
                .all(|row| row["why"].is_null()),
            Some(40) => has_tap,
            _ => true,
        };
        assert_eq!(goal["value"].is_number(), is_there, "{goal}");
    }
}

#[test]
fn without_a_tap_the_network_of_this_process_is_measured() {
    if !has_kvm() {
        return;
    }
    let mut command = common::command(&["bench", "io", "--smoke", "--quick"]);
    let text = {
        command.env("PARAVANE_NO_TAP", "1");
        common::finish(command)
    }
    .expect(0)
    .out;
    assert!(text.contains("pv virtio-blk") && text.contains("of the host loop's requests"));
    assert!(text.contains("Not measured: PARAVANE_NO_TAP=1"), "{text}");
    let (_, user) = text
        .split_once("user-mode network")
        .expect("the row over the user-mode network");
    let row = user.lines().find(|line| line.contains("pv virtio-net"));
    assert!(!row.expect("its row").contains("not measured"), "{text}");
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    if !has_kvm() {
        return;
    }
    let nowhere = paravane(&["bench", "io", "--dir", "/nonexistent"]).expect(125);
    assert!(nowhere.err.contains("--dir"), "{}", nowhere.err);
}
