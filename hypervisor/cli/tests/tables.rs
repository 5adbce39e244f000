//! The commands that answer: `audit`, `hypercalls`, `doctor`.

mod common;

use common::{arg, file, has_kvm, paravane};

#[test]
fn the_audit_of_the_native_image_counts_and_forbids_nothing_of_it() {
    let ran = paravane(&["audit", "--image", "native", "--forbid"]).expect(0);
    for word in [
        "built-in native guest",
        "native rules",
        ".text",
        "privileged",
        "counted",
        "nothing that these rules forbid",
    ] {
        assert!(ran.out.contains(word), "no {word:?} in {}", ran.out);
    }
}

#[test]
fn the_same_image_fails_the_pv_rules() {
    let args = ["audit", "--image", "native", "--kind", "pv"];
    let ran = paravane(&args).expect(0);
    assert!(
        ran.out.contains("more: --all lists them")
            && ran.out.contains("findings that these rules forbid")
    );
    paravane(&[&args[..], &["--forbid"]].concat()).expect(1);
    let all = paravane(&[&args[..], &["--all"]].concat()).expect(0);
    assert!(all.out.lines().count() > ran.out.lines().count());
    assert!(all.out.contains(": privileged: ") && all.out.contains("(allowed: "));
}

#[test]
fn the_kind_of_a_file_is_in_its_note() {
    for (path, rules) in [
        (guest_images::NATIVE_PATH, "native"),
        (guest_images::PV_PATH, "pv"),
    ] {
        let ran = paravane(&["audit", path]).expect(0);
        assert!(
            ran.out
                .contains(&format!("{path}, held to the {rules} rules")),
            "{}",
            ran.out
        );
    }
}

#[test]
fn the_built_in_pv_guest_is_audited_by_default_and_has_nothing_privileged() {
    let json = paravane(&["audit", "--json"]).expect(0).json();
    assert_eq!(
        (&json["schema"], &json["kind"]),
        (&1.into(), &"paravirtual".into())
    );
    assert_eq!(json["image"], "the built-in pv guest");
    assert_eq!(json["counts"]["privileged"], 0);
    assert!(
        json["instructions"]
            .as_u64()
            .is_some_and(|count| count > 1000)
    );
}

#[test]
fn hypercalls_are_a_table() {
    let text = paravane(&["hypercalls"]).expect(0).out;
    for row in hypercall_abi::table::rows() {
        assert!(
            text.lines()
                .any(|line| line.starts_with(&format!("{:#04x} ", row.number))
                    && line.contains(row.name))
        );
    }
}

#[test]
fn hypercalls_are_json() {
    let json = paravane(&["hypercalls", "--json"]).expect(0).json();
    let calls = json["calls"].as_array().expect("a list");
    assert_eq!(calls.len(), hypercall_abi::table::rows().count());
    let call = calls
        .iter()
        .find(|call| call["name"] == "load_root")
        .expect("load_root");
    assert_eq!(call["number"], 1);
    assert_eq!(
        call["args"],
        serde_json::json!([{ "name": "root", "type": "Frame" }])
    );
    assert_eq!(
        (&call["tier"], &call["tier_name"], &call["modes"]),
        (&1.into(), &"monitor".into(), &serde_json::json!(["pv"]))
    );
    assert_eq!(call["twin"], "mov cr3, r64");
}

#[test]
fn hypercalls_are_the_document() {
    assert_eq!(
        paravane(&["hypercalls", "--markdown"]).expect(0).out,
        hypervisor::abi_doc::markdown()
    );
}

#[test]
fn the_doctor_shows_gates_and_their_cost() {
    if !has_kvm() {
        return;
    }
    let text = paravane(&["doctor"]).expect(0).out;
    for word in [
        "this host can run guests",
        "platform",
        "gate, tier 1",
        "gate, tier 2",
        "ns bare",
    ] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    let json = paravane(&["doctor", "--json"]).expect(0).json();
    let gates = json["gates"].as_array().expect("a list");
    let cost = |slot: &str| {
        gates
            .iter()
            .find(|gate| gate["slot"] == slot)
            .and_then(|gate| gate["cost_ns"].as_f64())
    };
    // Which one is dearer is a matter of times, and of what else the host does.
    for slot in ["monitor", "machine"] {
        assert!(cost(slot).expect("a cost") > 0.0, "{slot}: {gates:?}");
    }
}

#[test]
fn the_doctor_has_a_mend_without_kvm() {
    let plain = file("no-kvm", b"");
    for node in ["/nonexistent/kvm", "/dev/null", "/", arg(&plain)] {
        let ran = paravane(&["doctor", "--kvm", node]).expect(1);
        assert!(
            ran.out.contains("cannot run guests yet") && ran.out.contains("mend: "),
            "{}",
            ran.out
        );
        let json = paravane(&["doctor", "--json", "--kvm", node])
            .expect(1)
            .json();
        assert_eq!(json["problems"][0]["severity"], "error");
        assert!(json["gates"].is_null());
    }
    std::fs::remove_file(plain).expect("it exists");
}
