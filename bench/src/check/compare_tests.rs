//! Each way in which a run may differ from its baseline.

use super::*;
use crate::check::fixtures::{baseline, counts, per_op, report};
use crate::check::why_no_ratios;

fn on_kvm_pvm(counts: &[RowCounts], report: Option<&Report>) -> Comparison {
    compare(&baseline(), "kvm_pvm", counts, report, &[]).unwrap()
}

/// The lines of what moved.
fn moved(comparison: &Comparison) -> Vec<String> {
    comparison.moved.iter().map(Moved::to_string).collect()
}

fn counted(exits: (u64, u64), machine_calls: (u64, u64)) -> Counted {
    Counted::Counts(Counts {
        exits: per_op(exits.0, exits.1),
        machine_calls: per_op(machine_calls.0, machine_calls.1),
        ..Counts::default()
    })
}

#[test]
fn the_same_run_has_not_moved() {
    let found = on_kvm_pvm(&counts(), Some(&report(1.02)));
    assert!(found.is_same() && !found.is_empty() && found.platform_known);
    // Five cells of three counts; what is absent in both is none.
    let shown = "15 counts and 1 ratios compared on kvm_pvm, 0 moved\n";
    assert_eq!(found.to_string(), shown);
}

#[test]
fn a_count_that_moved_is_shown_with_both_values() {
    let mut counts = counts();
    counts[0].modes.insert("pv", counted((1, 1), (1, 64)));
    let found = on_kvm_pvm(&counts, None);
    let expected = [
        "irq_off_on pv: exits per operation 0 -> 1",
        "irq_off_on pv: machine calls per operation 0 -> 1/64",
    ];
    assert_eq!(moved(&found), expected);
    assert!(!found.is_same());
    let first = &found.moved[0];
    assert_eq!((first.kind, first.count), (MovedKind::Count, Some("exits")));
    assert!(found.to_string().starts_with("MOVED  irq_off_on pv: exits"));
    assert!(
        found
            .to_string()
            .ends_with("compared on kvm_pvm, 2 moved\n")
    );
}

#[test]
fn one_exit_in_a_thousand_operations_has_moved() {
    let mut counts = counts();
    counts[0].modes.insert("pv", counted((1, 1000), (0, 1)));
    let found = on_kvm_pvm(&counts, None);
    assert_eq!(
        moved(&found),
        ["irq_off_on pv: exits per operation 0 -> 1/1000"]
    );
}

#[test]
fn a_ratio_may_move_within_its_factor_either_way_and_no_further() {
    for (value, is_same) in [(0.52, true), (2.03, true), (0.50, false), (2.06, false)] {
        let found = on_kvm_pvm(&counts(), Some(&report(value)));
        assert_eq!(found.is_same(), is_same, "{value}");
    }
    let found = on_kvm_pvm(&counts(), Some(&report(3.0)));
    let line = "null_batch pv_to_floor: 1.02 -> 3.00, more than a factor of 2 away";
    assert_eq!(moved(&found), [line]);
    assert_eq!(found.moved[0].kind, MovedKind::Ratio);
}

#[test]
fn a_ratio_that_was_not_measured_has_moved() {
    let mut report = report(1.0);
    report.rows.clear();
    let found = on_kvm_pvm(&counts(), Some(&report));
    assert!(moved(&found)[0].contains("1.02 -> not measured"), "{found}");
}

#[test]
fn ratios_without_a_report_are_not_compared() {
    assert_eq!(on_kvm_pvm(&counts(), None).ratios, 0);
}

#[test]
fn a_row_that_the_baseline_lacks_has_moved() {
    let mut counts = counts();
    counts.push(RowCounts {
        row: "brand_new",
        modes: BTreeMap::from([("pv", counted((0, 1), (0, 1)))]),
    });
    let found = on_kvm_pvm(&counts, None);
    assert_eq!(
        moved(&found),
        ["brand_new pv: not in the baseline -> counted"]
    );
}

#[test]
fn a_row_that_the_run_lacks_has_moved() {
    let found = on_kvm_pvm(&counts()[1..], None);
    let expected = [
        "irq_off_on hvm: counted -> no such row any more",
        "irq_off_on pv: counted -> no such row any more",
    ];
    assert_eq!(moved(&found), expected);
}

#[test]
fn a_mode_that_one_of_both_lacks_has_moved() {
    let mut counts = counts();
    counts[0].modes.remove("hvm");
    counts[0].modes.insert("patch", Counted::Absent);
    let found = on_kvm_pvm(&counts, None);
    let expected = [
        "irq_off_on patch: not in the baseline -> absent",
        "irq_off_on hvm: counted -> no such row any more",
    ];
    assert_eq!(moved(&found), expected);
}

#[test]
fn a_row_that_came_went_or_failed_has_moved() {
    let mut counts = counts();
    counts[0].modes.insert("hvm", Counted::Absent);
    let why = "the timer did not fire".into();
    counts[0].modes.insert("pv", Counted::Failed { why });
    counts[1].modes.insert("hvm", counted((0, 1), (0, 1)));
    let found = on_kvm_pvm(&counts, None);
    let expected = [
        "irq_off_on hvm: counted -> absent",
        "irq_off_on pv: counted -> failed, the timer did not fire",
        "null_batch hvm: absent -> counted",
    ];
    assert_eq!(moved(&found), expected);
    assert!(found.moved.iter().all(|moved| moved.kind == MovedKind::Row));
}

#[test]
fn rows_that_were_not_asked_for_are_not_missed() {
    let only = ["null_batch".to_owned()];
    let counts = &counts()[1..2];
    let found = compare(&baseline(), "kvm_pvm", counts, None, &only).unwrap();
    assert!(found.is_same());
    assert_eq!(found.counts, 3);
    let only = ["irq_off_on".to_owned()];
    let found = compare(&baseline(), "kvm_pvm", &[], Some(&report(9.0)), &only).unwrap();
    assert_eq!((found.ratios, found.moved.len()), (0, 2), "{found}");
}

#[test]
fn nothing_compared_is_told_from_nothing_moved() {
    let only = ["vm_create".to_owned()];
    let found = compare(&baseline(), "kvm_pvm", &[], None, &only).unwrap();
    assert!(found.is_same() && found.is_empty());
}

#[test]
fn an_unknown_platform_is_held_to_what_the_others_agree_on() {
    let found = compare(&baseline(), "vmx", &counts(), None, &[]).unwrap();
    assert!(found.is_same() && !found.platform_known);
    assert_eq!(
        (found.counts, &found.not_compared[..]),
        (12, &["breakpoint hvm".to_owned()][..])
    );
    assert!(found.to_string().contains("nothing about vmx"), "{found}");
    let mut counts = counts();
    counts[0].modes.insert("pv", counted((1, 1), (0, 1)));
    let found = compare(&baseline(), "vmx", &counts, None, &[]).unwrap();
    assert_eq!(moved(&found), ["irq_off_on pv: exits per operation 0 -> 1"]);
}

#[test]
fn ratios_of_a_debug_build_and_of_an_emulator_are_left_out() {
    let mut host = report(1.0).host;
    assert_eq!(why_no_ratios(&host), None);
    host.build = "debug";
    assert!(why_no_ratios(&host).unwrap().contains("debug build"));
    host.hypervisor = Some("TCGTCGTCGTCG".into());
    assert!(why_no_ratios(&host).unwrap().contains("emulated"));
    let mut found = on_kvm_pvm(&counts(), None);
    found.ratios_left_out = Some("so it is".into());
    assert!(
        found
            .to_string()
            .contains("ratios were not compared: so it is\n")
    );
}
