//! What a file must be, and what becomes of it when a run is written into it.

use super::*;
use crate::check::fixtures::{PV_TO_FLOOR, baseline, counts, per_op, ratio, report};

#[test]
fn a_file_is_read_back_as_it_was_written() {
    let baseline = baseline();
    let text = baseline.text().unwrap();
    assert_eq!(Baseline::parse(&text), Ok(baseline));
    assert!(text.ends_with("}\n"));
    // A count that is not there is 0; what the image lacks is null.
    assert!(
        text.contains("\"hvm\": {}") && text.contains("\"hvm\": null"),
        "{text}"
    );
    assert!(text.contains("\"exits\": \"1/64\""), "{text}");
}

#[test]
fn a_baseline_of_another_schema_is_told_from_what_is_no_baseline() {
    let text = baseline().text().unwrap();
    let other = text.replace("\"schema\": 1", "\"schema\": 2");
    let error = Baseline::parse(&other).unwrap_err();
    assert_eq!(error, BaselineError::Schema { found: 2 });
    let sentence = error.to_string();
    assert!(sentence.contains("schema 2") && sentence.contains("schema 1"));
    assert!(sentence.contains("--write-baseline"));
    // Such a one may have any shape.
    let other = r#"{"kind": "paravane bench baseline", "schema": 7, "rows": []}"#;
    assert_eq!(
        Baseline::parse(other),
        Err(BaselineError::Schema { found: 7 })
    );
}

#[test]
fn what_is_no_baseline_is_refused() {
    for text in ["", "{", "not json", "{} {}"] {
        let error = Baseline::parse(text).unwrap_err();
        assert!(matches!(error, BaselineError::Json(_)), "{text}: {error}");
    }
    let a_report = r#"{"schema": 1, "rows": [], "goals": []}"#;
    for text in [
        "{}",
        "[]",
        "null",
        "7",
        a_report,
        r#"{"kind": "other", "schema": 1}"#,
    ] {
        assert_eq!(Baseline::parse(text), Err(BaselineError::Kind), "{text}");
    }
}

#[test]
fn a_fault_inside_a_baseline_is_named() {
    let text = baseline().text().unwrap();
    for (from, to, word) in [
        ("\"1/64\"", "\"1/0\"", "1/0"),
        ("\"1/64\"", "0.5", "line "),
        ("\"exits\"", "\"exit\"", "unknown field `exit`"),
        ("\"pv_to_floor\"", "\"pv_to_moon\"", "pv_to_moon"),
        ("\"platforms\"", "\"platform\"", "platform"),
        ("\"factor\": 2.0", "\"factor\": 0.5", "the factor 0.5"),
        ("\"value\": 1.02", "\"value\": -1.02", "the value -1.02"),
        ("\"value\": 1.02", "\"value\": 0", "the value 0"),
    ] {
        assert!(text.contains(from), "{from}");
        let error = Baseline::parse(&text.replace(from, to)).unwrap_err();
        assert!(matches!(error, BaselineError::Content(_)), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn other_platforms_stay_when_one_is_written() {
    let mut baseline = baseline();
    let other = baseline.platforms["svm"].clone();
    let mut counts = counts();
    counts[0].modes.insert("pv", Counted::Absent);
    baseline.update("kvm_pvm", &counts, None, &[]).unwrap();
    assert_eq!(
        baseline.platforms["kvm_pvm"].counts["irq_off_on"]["pv"],
        None
    );
    assert_eq!(baseline.platforms["svm"], other);
    baseline.update("vmx", &counts, None, &[]).unwrap();
    assert_eq!(baseline.platforms.len(), 3);
}

#[test]
fn only_the_rows_that_were_asked_for_are_replaced() {
    let mut baseline = baseline();
    let only = ["irq_off_on".to_owned()];
    let one = &counts()[..1];
    baseline.update("kvm_pvm", one, None, &only).unwrap();
    assert_eq!(baseline.platforms["kvm_pvm"].counts.len(), counts().len());
    baseline.update("kvm_pvm", one, None, &[]).unwrap();
    let rows: Vec<_> = baseline.platforms["kvm_pvm"].counts.keys().collect();
    assert_eq!(rows, ["irq_off_on"]);
    // Ratios are replaced by ratios alone.
    assert!(!baseline.platforms["kvm_pvm"].ratios.is_empty());
}

#[test]
fn a_ratio_keeps_the_factor_that_somebody_gave_it() {
    let mut baseline = baseline();
    let entry = baseline.platforms.get_mut("kvm_pvm").unwrap();
    entry
        .ratios
        .get_mut("null_batch")
        .unwrap()
        .insert(PV_TO_FLOOR, ratio(1.0, 3.5));
    let report = report(1.23456);
    baseline
        .update("kvm_pvm", &counts(), Some(&report), &[])
        .unwrap();
    let ratios = &baseline.platforms["kvm_pvm"].ratios;
    assert_eq!(ratios["null_batch"][&PV_TO_FLOOR], ratio(1.23, 3.5));
    let mut fresh = Baseline::default();
    fresh
        .update("kvm_pvm", &counts(), Some(&report), &[])
        .unwrap();
    let ratios = &fresh.platforms["kvm_pvm"].ratios;
    assert_eq!(ratios["null_batch"][&PV_TO_FLOOR], ratio(1.23, FACTOR));
    // What was not measured has no ratio.
    assert_eq!(ratios["null_batch"].len(), 1);
}

#[test]
fn a_row_that_failed_is_not_written() {
    let mut counts = counts();
    counts[1]
        .modes
        .insert("pv", Counted::Failed { why: "lost".into() });
    let mut baseline = Baseline::default();
    let error = baseline.update("kvm_pvm", &counts, None, &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "null_batch failed in mode pv: lost; a baseline holds what works"
    );
    assert_eq!(baseline, Baseline::default());
}

#[test]
fn an_unknown_platform_gets_what_the_others_agree_on() {
    let baseline = baseline();
    assert!(baseline.entry("svm").unwrap().1);
    let (common, is_own) = baseline.entry("vmx").unwrap();
    assert!(!is_own && common.ratios.is_empty());
    assert!(!common.counts["breakpoint"].contains_key("hvm"));
    let counts = common.counts["null_batch"]["pv"].unwrap();
    assert_eq!(
        (counts.exits, counts.batch_calls),
        (per_op(1, 64), per_op(1, 1))
    );
    assert_eq!(counts.machine_calls, per_op(1, 64));
}

#[test]
fn one_platform_says_nothing_of_another() {
    let mut baseline = baseline();
    baseline.platforms.remove("svm");
    let error = baseline.entry("vmx").unwrap_err().to_string();
    assert!(
        error.contains("platform vmx") && error.contains("kvm_pvm"),
        "{error}"
    );
    let error = Baseline::default().entry("vmx").unwrap_err().to_string();
    assert!(
        error.contains("none") && error.contains("--write-baseline"),
        "{error}"
    );
}

#[test]
fn a_ratio_s_name_is_a_mode_and_what_it_is_divided_by() {
    let names: Vec<String> = RatioName::all().map(String::from).collect();
    let expected = [
        "hvm_to_floor",
        "trap_to_floor",
        "trap_to_hvm",
        "trap_to_pv",
        "patch_to_floor",
        "patch_to_hvm",
        "patch_to_pv",
        "pv_to_floor",
        "pv_to_hvm",
    ];
    assert_eq!(names, expected);
    for name in RatioName::all() {
        assert_eq!(RatioName::try_from(name.to_string()), Ok(name));
    }
    for text in ["", "pv", "pv_to_pv", "hvm_to_pv", "pv_to_floor "] {
        let error = RatioName::try_from(text.to_owned()).unwrap_err();
        assert!(error.contains("trap_to_pv"), "{error}");
    }
}
