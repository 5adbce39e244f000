//! `paravane patches`: what becomes of each site, counted in two runs.

mod common;

use common::{has_kvm, paravane};

const SCRIPT: &str = "quiet run='selftest threads; poweroff'";

fn report(policy: &str) -> serde_json::Value {
    let ran = paravane(&["patches", "--patch", policy, "--json", "--cmdline", SCRIPT]).expect(0);
    serde_json::from_str(&ran.out).expect("it is JSON")
}

/// The sum of a field of all sites.
fn sum(report: &serde_json::Value, field: &str) -> u64 {
    let sites = report["sites"].as_array().expect("a list");
    sites
        .iter()
        .map(|site| site[field].as_u64().expect("a count"))
        .sum()
}

#[test]
fn patches_save_traps_and_exits() {
    if !has_kvm() {
        return;
    }
    for policy in ["found", "adaptive", "eager"] {
        let report = report(policy);
        assert_eq!(report["schema"], 1);
        assert_eq!(report["policy"], policy);
        let [without, with] = ["traps_unpatched", "traps_patched"].map(|field| sum(&report, field));
        assert!(with < without, "{policy}: {with} of {without}");
        for site in report["sites"].as_array().expect("a list") {
            let is_patched = site["patched"].as_bool().expect("yes or no");
            assert_eq!(is_patched, site["moved_to"].is_string(), "{site}");
            assert_eq!(is_patched, site["after"][0].is_string(), "{site}");
        }
    }
}

#[test]
fn without_patches_both_runs_trap_alike() {
    if !has_kvm() {
        return;
    }
    let report = report("never");
    let sites = report["sites"].as_array().expect("a list");
    assert!(!sites.is_empty() && sites.iter().all(|site| site["patched"] == false));
}

#[test]
fn the_list_has_the_code_before_and_after() {
    if !has_kvm() {
        return;
    }
    let ran = paravane(&["patches", "--code", "--cmdline", SCRIPT]).expect(0);
    for words in [
        " bytes moved to 0xfffffffff0",
        "  before:\n",
        "  pushfq\n",
        "sites patched (found)",
    ] {
        assert!(ran.out.contains(words), "no {words:?} in {}", ran.out);
    }
}

#[test]
fn a_guest_that_does_not_end_and_an_image_of_the_other_kind_are_named() {
    if !has_kvm() {
        return;
    }
    let hanging = ["patches", "--timeout", "0.5", "--cmdline", common::HANGING];
    paravane(&hanging).expect(124).says(&["--timeout"]);
    let ran = paravane(&["patches", guest_images::PV_PATH]).expect(125);
    ran.says(&["native"]);
}
