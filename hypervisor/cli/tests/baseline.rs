//! `bench --check` and `--write-baseline`, by way of the program. What is compared are counts: this is a debug
//! build, or the host is busy.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{arg, file, holds_kvm, paravane};
use serde_json::Value;

/// Rows that exit always, now and then, and never.
const ROWS: &str = "null_machine,null_batch,clock_read";
const COMMITTED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../bench/baselines/baseline.json"
);

/// A file with this host's counts of [`ROWS`].
fn written(name: &str) -> PathBuf {
    let path = file(name, b"");
    let options = ["bench", "--write-baseline", arg(&path), "--counts-only"];
    let ran = paravane(&[&options[..], &["--only", ROWS]].concat()).expect(0);
    assert!(ran.out.starts_with("wrote the entry of "), "{}", ran.out);
    path
}

fn check(path: &Path, more: &[&str]) -> common::Ran {
    let options = [
        "bench",
        "--check",
        arg(path),
        "--counts-only",
        "--only",
        ROWS,
    ];
    paravane(&[&options[..], more].concat())
}

/// Change a file's text; what is changed must be there.
#[track_caller]
fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("it is there");
    assert!(text.contains(from), "no {from} in {text}");
    fs::write(path, text.replacen(from, to, 1)).expect("it is ours");
}

fn remove(path: &Path) {
    fs::remove_file(path).expect("it is there");
}

#[test]
fn a_baseline_holds_until_a_count_is_another() {
    if !holds_kvm() {
        return;
    }
    let path = written("planted.json");
    let same = check(&path, &[]).expect(0);
    // Three counts each: of clock_read in every mode, of the two calls in pv alone.
    let counts = 3 * (bench::MODES.len() + 2);
    let line = format!("{counts} counts and 0 ratios compared on ");
    assert!(same.out.starts_with(&line), "{}", same.out);
    assert!(same.out.ends_with(", 0 moved\n") && same.err.is_empty());

    edit(&path, "\"exits\": \"1/64\"", "\"exits\": \"1/32\"");
    let moved = check(&path, &[]).expect(1);
    let line = "MOVED  null_batch pv: exits per operation 1/32 -> 1/64\n";
    assert!(moved.out.starts_with(line), "{}", moved.out);
    assert!(moved.out.ends_with(", 1 moved\n"));
    moved.says(&["if that is meant", "--write-baseline", arg(&path)]);

    let json = check(&path, &["--json"]).expect(1).json();
    let moved = &json["comparison"]["moved"][0];
    assert_eq!(
        (&moved["was"], &moved["now"]),
        (&"1/32".into(), &"1/64".into())
    );
    assert_eq!(
        (&moved["row"], &moved["count"]),
        (&"null_batch".into(), &"exits".into())
    );
    assert_eq!(json["counts"][0]["row"], "clock_read");
    assert_eq!(json["report"], Value::Null);
    remove(&path);
}

#[test]
fn a_row_that_only_one_of_both_has_has_moved() {
    if !holds_kvm() {
        return;
    }
    let path = written("rows.json");
    edit(&path, "\"null_batch\"", "\"null_bunch\"");
    let all = ["bench", "--check", arg(&path), "--counts-only"];
    let ran = paravane(&all).expect(1);
    for line in [
        "MOVED  null_batch pv: not in the baseline -> counted\n",
        "MOVED  null_bunch pv: counted -> no such row any more\n",
    ] {
        assert!(ran.out.contains(line), "no {line:?} in {}", ran.out);
    }
    remove(&path);
}

#[test]
fn other_platforms_and_other_rows_stay() {
    if !holds_kvm() {
        return;
    }
    let path = file("kept.json", &fs::read(COMMITTED).expect("it is committed"));
    let platforms = |path: &Path| -> Value {
        let text = fs::read_to_string(path).expect("it is there");
        serde_json::from_str::<Value>(&text).expect("JSON")["platforms"].clone()
    };
    let before = platforms(&path);
    let options = ["bench", "--write-baseline", arg(&path), "--counts-only"];
    paravane(&[&options[..], &["--only", "null_machine"]].concat()).expect(0);
    let after = platforms(&path);
    for (platform, entry) in before.as_object().expect("platforms") {
        assert_eq!(&after[platform], entry, "{platform}");
    }
    remove(&path);
}

#[test]
fn the_committed_baseline_holds_here() {
    if !holds_kvm() {
        return;
    }
    let ran = paravane(&["bench", "--check", COMMITTED, "--counts-only"]).expect(0);
    assert!(ran.out.ends_with(", 0 moved\n"), "{}", ran.out);
}

#[test]
fn a_platform_that_the_baseline_lacks_is_held_to_what_the_others_agree_on() {
    if !holds_kvm() {
        return;
    }
    let committed = fs::read_to_string(COMMITTED).expect("it is committed");
    let mut baseline: Value = serde_json::from_str(&committed).expect("JSON");
    let platform = check(Path::new(COMMITTED), &["--json"]).expect(0).json();
    let platform = platform["comparison"]["platform"]
        .as_str()
        .expect("a name")
        .to_owned();
    let entries = baseline["platforms"].as_object_mut().expect("platforms");
    if let Some(entry) = entries.remove(&platform) {
        entries.insert("another".into(), entry);
    }
    assert!(entries.len() > 1, "a committed baseline has two platforms");
    let path = file("another.json", baseline.to_string().as_bytes());
    let options = ["bench", "--check", arg(&path), "--counts-only"];
    let ran = paravane(&options).expect(0);
    let words = [
        &format!("nothing about {platform}: compared with what its platforms agree on"),
        "do not agree on it: breakpoint hvm\n",
    ];
    assert!(
        words.iter().all(|word| ran.out.contains(*word)),
        "{}",
        ran.out
    );

    let entries = baseline["platforms"].as_object_mut().expect("platforms");
    entries.retain(|name, _| name == "another");
    fs::write(&path, baseline.to_string()).expect("it is ours");
    let ran = paravane(&options).expect(2);
    ran.says(&[arg(&path), &platform, "another", "--write-baseline"]);
    remove(&path);
}

#[test]
fn a_baseline_that_makes_no_sense_is_named_with_its_mend() {
    let report = br#"{"schema": 1, "rows": [], "goals": []}"#;
    let newer = br#"{"kind": "paravane bench baseline", "schema": 2, "rows": {}}"#;
    let wrong =
        br#"{"kind": "paravane bench baseline", "schema": 1, "platforms": {"vmx": {"counts":
        {"a": {"pv": {"exits": "often"}}}}}}"#;
    let cases: [(&str, &[u8], &[&str]); 6] = [
        ("empty.json", b"", &["not JSON"]),
        ("broken.json", b"{\"kind\": ", &["not JSON", "line 1"]),
        ("report.json", report, &["not a baseline"]),
        (
            "newer.json",
            newer,
            &["schema 2", "schema 1", "write it again"],
        ),
        ("wrong.json", wrong, &["\"often\" is no count", "line 2"]),
        ("binary.json", &[0xff, 0xfe], &["not UTF-8"]),
    ];
    for (name, content, words) in cases {
        let path = file(name, content);
        let ran = check(&path, &[]).expect(2).says(words);
        let ran = ran.says(&["the baseline", arg(&path)]);
        assert_eq!(
            (ran.out.as_str(), ran.err.lines().count()),
            ("", 1),
            "{}",
            ran.err
        );
        remove(&path);
    }
}

#[test]
fn a_baseline_that_cannot_be_read_or_written_is_named() {
    for path in ["/nonexistent/baseline.json", "/proc"] {
        let ran = check(Path::new(path), &[]).expect(125);
        ran.says(&["cannot read the baseline", path]);
    }
    check(Path::new("/dev/zero"), &[])
        .expect(125)
        .says(&["/dev/zero has more than"]);
    let write = |path: &str| paravane(&["bench", "--write-baseline", path]);
    let ran = write("/nonexistent/baseline.json").expect(125);
    ran.says(&["cannot write the baseline", "/nonexistent/baseline.json"]);
    for path in ["/dev/null", "/proc"] {
        write(path).expect(2).says(&[path, "no regular file"]);
    }
}

#[test]
fn a_file_that_is_no_baseline_is_not_overwritten() {
    let path = file("precious.json", b"{\"schema\": 1, \"precious\": true}");
    let before = fs::read(&path).expect("it is there");
    let ran = paravane(&["bench", "--write-baseline", arg(&path)]).expect(2);
    ran.says(&[arg(&path), "not a baseline"]);
    assert_eq!(fs::read(&path).expect("it is there"), before);
    remove(&path);
}

#[test]
fn a_baseline_of_another_schema_starts_anew() {
    if !holds_kvm() {
        return;
    }
    let path = written("old.json");
    edit(&path, "\"schema\": 1", "\"schema\": 9");
    let options = ["bench", "--write-baseline", arg(&path), "--counts-only"];
    let ran = paravane(&[&options[..], &["--only", ROWS]].concat()).expect(0);
    ran.says(&[arg(&path), "schema 9", "starts anew"]);
    check(&path, &[]).expect(0);
    remove(&path);
}

#[test]
fn a_check_that_compares_nothing_does_not_pass() {
    if !holds_kvm() {
        return;
    }
    let options = ["bench", "--check", COMMITTED, "--counts-only"];
    let ran = paravane(&[&options[..], &["--only", "vm_create"]].concat()).expect(2);
    ran.says(&["nothing to compare", "--only"]);
    let ran = paravane(&[&options[..], &["--only", "nonsense"]].concat()).expect(2);
    ran.says(&["no row is called nonsense"]);
}

#[test]
fn options_of_a_baseline_go_together() {
    let both = ["bench", "--check", "a", "--write-baseline", "b"];
    paravane(&both).expect(2).says(&["--write-baseline"]);
    paravane(&["bench", "--counts-only"])
        .expect(2)
        .says(&["--check"]);
}

#[cfg(debug_assertions)]
#[test]
fn ratios_of_a_debug_build_are_not_compared() {
    if !holds_kvm() {
        return;
    }
    let path = written("ratios.json");
    let ratios = "{\n      \"ratios\": {\"null_batch\": {\"pv_to_floor\": {\"value\": 9, \"factor\": 1}}},\n\
                  \"counts\"";
    edit(&path, "{\n      \"counts\"", ratios);
    let ran = paravane(&["bench", "--check", arg(&path), "--only", ROWS]).expect(0);
    // Where the host is emulated, that is said instead.
    assert!(
        ran.out.contains("ratios were not compared: this "),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("debug build") || ran.out.contains("emulated"));
    remove(&path);
}
