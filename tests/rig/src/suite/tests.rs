//! What becomes of the binaries of a rig that is lost: QEMU is a script here.

use super::*;
use crate::machine::tests::start;

const READY: &str = r#"echo 'RIG {"Ready":{"kernel":"6.1"}}'"#;

fn chosen(name: &str) -> Chosen {
    Chosen {
        binary: Binary {
            package: "tests".to_owned(),
            name: name.to_owned(),
            path: name.into(),
            dir: "/".into(),
            is_unit: false,
        },
        tests: vec!["one".to_owned()],
    }
}

/// A script's lines for a job that says how its test went, and ends if that is known.
fn says(job: usize, result: Option<&str>) -> String {
    let text = match result {
        Some(result) => format!("test one ... {result}\\n\\ntest result: {result}. 1 {result}\\n"),
        None => "test one ... ".to_owned(),
    };
    let mut script = format!(
        r#"; printf '%s\n' 'RIG {{"Output":{{"job":{job},"stream":"Out","text":"{text}"}}}}'"#
    );
    if result.is_some() {
        script += &format!(
            r#"; printf '%s\n' 'RIG {{"Ended":{{"job":{job},"end":{{"Status":0}},"ms":5}}}}'"#
        );
    }
    script
}

/// A script for a rig whose two jobs end so.
fn ends(results: [&str; 2]) -> String {
    let [first, second] = results.map(Some);
    [
        READY,
        &says(0, first),
        &says(1, second),
        r#"; echo 'RIG "Done"'"#,
    ]
    .concat()
}

/// Run three binaries in rigs that do what these scripts say, one after another: what was left for each
/// of them, and what it came to.
fn run_rigs(scripts: &[String]) -> (Vec<Vec<usize>>, Report, Option<RigError>) {
    let chosen = ["a", "b", "c"].map(chosen);
    let mut progress = Progress::new(&chosen, 7);
    let mut boots = Vec::new();
    let (lost, error) = work(&mut progress, 1, |left| {
        boots.push(left.to_vec());
        Ok(start(&scripts[boots.len() - 1]))
    });
    let report = Report::new(String::new(), progress.runs(), lost, None);
    (boots, report, error)
}

#[test]
fn a_rig_that_hangs_is_booted_again_for_what_has_not_ended() {
    let first = [
        READY,
        &says(1, Some("ok")),
        &says(0, None),
        "; exec sleep 100",
    ]
    .concat();
    let second = ends(["ok", "ok"]);
    let (boots, report, error) = run_rigs(&[first, second]);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(boots, [vec![0, 1, 2], vec![0, 2]]);
    assert_eq!((report.passed, report.failed, report.lost), (3, 0, 1));
}

#[test]
fn what_fails_in_the_second_rig_has_failed() {
    let first = [READY, &says(0, Some("ok"))].concat();
    let second = ends(["FAILED", "ok"]);
    let (_, report, error) = run_rigs(&[first, second]);
    assert!(error.is_none(), "{error:?}");
    assert_eq!((report.passed, report.failed, report.lost), (2, 1, 1));
}

#[test]
fn a_rig_that_is_lost_each_time_has_failed() {
    let hung = [READY, &says(0, None), "; exec sleep 100"].concat();
    let (boots, report, error) = run_rigs(&[hung.clone(), hung.clone(), hung]);
    assert!(matches!(error, Some(RigError::Hung { .. })), "{error:?}");
    assert_eq!(boots, vec![vec![0, 1, 2]; BOOTS]);
    assert_eq!(
        (report.passed, report.failed, report.lost),
        (0, 3, BOOTS - 1)
    );
}

#[test]
fn a_rig_that_does_not_boot_is_not_booted_again() {
    let (boots, report, error) = run_rigs(&["exit 1".to_owned()]);
    assert!(matches!(error, Some(RigError::Boot { .. })), "{error:?}");
    assert_eq!((boots.len(), report.failed, report.lost), (1, 3, 0));
}
