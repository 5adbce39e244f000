//! Runs on this host's KVM: that figures come together, not what they are.

use super::*;
use crate::goals::Verdict;

#[test]
fn a_run_of_one_row_has_that_row_and_the_goals_that_follow() {
    floor::keep_kvm_on();
    let options = Options {
        quick: true,
        only: vec!["null_machine".into()],
        paravane: None,
    };
    let mut steps = Vec::new();
    let report = run(&options, &mut |at, of, what: &str| {
        steps.push((at, of, what.to_owned()))
    })
    .unwrap();

    let names: Vec<_> = report.rows.iter().map(|row| row.name).collect();
    assert_eq!(names, ["null_machine"]);
    let row = &report.rows[0];
    assert_eq!(row.modes.len(), MODES.len());
    let of_pv = row.column(Mode::Pv).unwrap();
    let pv = of_pv.cell.figure().unwrap();
    assert_eq!(pv.exits_per_op, Some(1.0));
    assert_eq!(
        pv.samples,
        options.effort().rounds * options.effort().samples
    );
    assert!(pv.ns.min > 0.0 && pv.ns.min <= pv.ns.median && pv.ns.median <= pv.ns.max);
    for native in [Mode::Hvm, Mode::Trap, Mode::Patch] {
        assert_eq!(row.column(native).unwrap().cell, Cell::Absent);
    }
    assert!(of_pv.to_floor.is_some_and(|ratio| ratio > 0.0));

    for goal in &report.goals {
        let is_measured = goal.verdict != Verdict::NotMeasured;
        assert_eq!(is_measured, goal.claim == 3, "{goal:?}");
    }
    let last = steps.last().unwrap();
    assert_eq!(
        (steps.len(), last.0),
        (last.1, last.1),
        "every step is heard of"
    );
}

#[test]
fn lives_have_every_column() {
    floor::keep_kvm_on();
    let only = [life::VM_CREATE, life::SHELL_PROMPT]
        .map(String::from)
        .into();
    let report = run(
        &Options {
            quick: true,
            only,
            paravane: None,
        },
        &mut (),
    )
    .unwrap();
    let [create, prompt] = &report.rows[..] else {
        panic!("{:?}", report.rows)
    };
    for &mode in MODES {
        assert!(create.column(mode).unwrap().to_floor.is_some(), "{mode:?}");
        let prompt = prompt.column(mode).unwrap();
        let exits = prompt.cell.figure().unwrap().exits_per_op;
        assert!(exits.is_some_and(|exits| exits > 1.0) && prompt.floor.is_none());
        assert_eq!(prompt.to_hvm.is_none(), mode == Mode::Hvm);
        assert_eq!(prompt.to_pv.is_none(), mode == Mode::Pv);
    }
    assert!(report.extras.is_empty());
}

#[test]
fn a_program_that_is_not_paravane_is_an_error() {
    floor::keep_kvm_on();
    let only = vec![life::PROCESS_RUN.to_owned()];
    let options = Options {
        quick: true,
        only,
        paravane: Some("/bin/true".into()),
    };
    let error = run(&options, &mut ()).unwrap_err().to_string();
    assert!(
        error.contains("/bin/true floor-vm` did not begin its output"),
        "{error}"
    );
}
