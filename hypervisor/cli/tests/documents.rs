//! The documents for scripts name every field that the commands print, and their examples work.

mod common;

use std::collections::BTreeSet;

use serde_json::Value;

use common::{arg, file, has_kvm, paravane};

const BENCH: &str = include_str!("../../../docs/bench.md");
const CI: &str = include_str!("../../../docs/ci.md");
const DOCTOR: &str = include_str!("../../../docs/doctor.md");

/// The paths of all fields, but for those below a map of free names.
fn paths(at: &str, value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) if !at.ends_with("stats") => {
            for (name, value) in fields {
                let path = if at.is_empty() {
                    name.clone()
                } else {
                    format!("{at}.{name}")
                };
                paths(&path, value, into);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for item in items {
                paths(&format!("{at}[]"), item, into);
            }
        }
        _ => {
            into.insert(at.to_owned());
        }
    }
}

#[track_caller]
fn documented(value: &Value, document: &str) {
    let mut found = BTreeSet::new();
    paths("", value, &mut found);
    for path in found {
        assert!(document.contains(&format!("`{path}`")), "no `{path}`");
    }
}

#[test]
fn every_field_of_the_doctor_is_documented() {
    let bad = paravane(&["doctor", "--json", "--kvm", "/dev/null"]);
    let bad = bad.expect(1).json();
    assert_eq!((&bad["usable"], &bad["schema"]), (&false.into(), &1.into()));
    assert_eq!(bad["problems"][0]["kind"], "node_wrong");
    documented(&bad, DOCTOR);
    if has_kvm() {
        let good = paravane(&["doctor", "--json"]).expect(0).json();
        assert_eq!(good["usable"], true);
        documented(&good, DOCTOR);
    }
}

#[test]
fn every_field_of_a_check_is_documented() {
    if !has_kvm() {
        return;
    }
    // Of the platform that it knows not it compares little, and of a row that is wrong much.
    let baseline = br#"{"kind": "paravane bench baseline", "schema": 1, "platforms": {
        "a": {"counts": {"null_machine": {"pv": {"exits": "2"}}}},
        "b": {"counts": {"null_machine": {"pv": {"exits": "2"}}}}}}"#;
    let path = file("documents.json", baseline);
    let options = ["bench", "--check", arg(&path), "--counts-only", "--json"];
    let only = ["--only", "null_machine"];
    let mut json = paravane(&[&options[..], &only].concat()).expect(1).json();
    assert_eq!(json["comparison"]["moved"][0]["was"], "2");
    // A map by mode, which the document shows as MODE.
    for row in json["counts"].as_array_mut().expect("rows") {
        let modes = row["modes"].as_object_mut().expect("modes");
        let pv = modes.remove("pv").expect("it is counted");
        assert_eq!(pv["state"], "counts");
        *modes = serde_json::Map::from_iter([(
            "MODE".into(),
            serde_json::json!({"state": pv["state"]}),
        )]);
    }
    documented(&json, BENCH);
    std::fs::remove_file(path).expect("it exists");
}

#[test]
fn every_field_of_a_report_is_documented() {
    if !has_kvm() {
        return;
    }
    let only = ["--only", "null_machine,vmm_memory"];
    let options = ["bench", "--quick", "--json"];
    let mut json = paravane(&[&options[..], &only].concat()).expect(0).json();
    let modes = json["modes"].clone();
    for row in json["rows"].as_array_mut().expect("rows") {
        let columns = row["modes"].as_object_mut().expect("columns");
        let names: BTreeSet<&str> = columns.keys().map(String::as_str).collect();
        let listed = modes.as_array().expect("a list").iter();
        assert_eq!(names, listed.filter_map(Value::as_str).collect());
        // A map by mode, which the document shows as MODE; in words, what is there a second time.
        let mut pv = columns.remove("pv").expect("it is measured");
        assert!(pv["floor"]["mechanism"].is_string() && pv["floor"]["cell"].is_object());
        assert!(pv["cell"]["cycles"]["p10"].is_number());
        pv["floor"] = Value::Null;
        pv["cell"]["cycles"] = Value::Null;
        *columns = serde_json::Map::from_iter([("MODE".into(), pv)]);
    }
    documented(&json, BENCH);
}

#[test]
fn every_field_of_input_and_output_is_documented() {
    if !has_kvm() {
        return;
    }
    let options = ["bench", "io", "--smoke", "--quick", "--json"];
    let mut json = paravane(&options).expect(0).json();
    // The same figures, shown once.
    for rows in ["rows", "rates"] {
        for row in json[rows].as_array_mut().expect("rows") {
            let of_disk: BTreeSet<String> = row["found"]
                .as_object()
                .expect("figures")
                .keys()
                .cloned()
                .collect();
            assert!(
                of_disk.contains("copied") && of_disk.len() == 8,
                "{of_disk:?}"
            );
            row["found"] = Value::Null;
        }
    }
    let net = json["net"].as_array().expect("rows");
    assert!(net.iter().any(|row| row["found"]["ns"]["p10"].is_number()));
    documented(&json, BENCH);
}

#[test]
fn every_field_of_ci_is_documented() {
    let scenarios = file(
        "documents.toml",
        b"[[scenario]]\nname = \"a\"\nstatus = 0\n",
    );
    let options = ["ci", arg(&scenarios), "--json", "-", "--kvm", "/dev/null"];
    documented(&paravane(&options).expect(125).json(), CI);
    std::fs::remove_file(scenarios).expect("it exists");
}

/// What a document shows in blocks of this language.
fn blocks<'a>(document: &'a str, language: &'a str) -> impl Iterator<Item = &'a str> {
    document
        .split("\n```")
        .filter_map(move |part| part.strip_prefix(language)?.strip_prefix('\n'))
}

#[test]
fn the_example_of_a_scenario_file_is_one() {
    let mut count = 0;
    for text in blocks(CI, "toml") {
        let text = text.replace("build/my-kernel.elf", "pv");
        let scenarios = file("example.toml", text.as_bytes());
        let options = ["ci", arg(&scenarios), "--kvm", "/dev/null"];
        let ran = paravane(&[&options[..], &["--skip-without-kvm"]].concat()).expect(0);
        assert!(ran.out.ends_with("1 skipped\n"), "{}", ran.out);
        std::fs::remove_file(scenarios).expect("it exists");
        count += 1;
    }
    assert_eq!(count, 1);
}

#[test]
fn the_scenarios_of_this_repository_pass() {
    if !has_kvm() {
        return;
    }
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/scenarios/kernel.toml"
    );
    let ran = paravane(&["ci", path]).expect(0);
    assert!(ran.out.ends_with("7 passed, 0 failed\n"), "{}", ran.out);
}
