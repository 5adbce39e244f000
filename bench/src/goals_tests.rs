//! Verdicts of made-up figures.

use super::*;
use crate::report::{Bare, Figure};

fn cell(ns: f64) -> Cell {
    let ns = Spread {
        p10: ns,
        median: ns * 2.0,
        ..Spread::default()
    };
    Cell::Measured(Figure {
        ns,
        cycles: ns,
        samples: 3,
        exits_per_op: None,
    })
}

fn row(name: &'static str, pv: f64, floor: f64) -> Row {
    let bare = Bare {
        mechanism: "bare".into(),
        cell: cell(floor),
    };
    let pv = (Mode::Pv, cell(pv), Some(bare));
    Row::new(name, "", vec![(Mode::Hvm, Cell::Absent, None), pv])
}

fn verdicts(platform: Platform, rows: &[Row], extras: &[Extra]) -> Vec<Verdict> {
    goals(platform, rows, extras)
        .iter()
        .map(|goal| goal.verdict)
        .collect()
}

/// A row with a figure in some modes.
fn modes(name: &'static str, cells: &[(Mode, f64)]) -> Row {
    let cells = cells.iter().map(|(mode, ns)| (*mode, cell(*ns), None));
    Row::new(name, "", cells.collect())
}

/// What all goals ask for, each figure so many times its limit, where the floor is 1 or as it says.
fn rows(times: f64) -> Vec<Row> {
    vec![
        row("irq_off_on", 3.0 * times, 1.0),
        row("null_monitor", 20.0 * times, 10.0),
        row("null_machine", 110.0, 100.0 / times),
        row("null_batch", 4.4 * times, 1.0),
        row("general_protection", 7.0, 10.0),
        modes("cr0_read", &[(Mode::Trap, 144.0 * times)]),
        modes(life::DECODE, &[(Mode::Trap, 300.0 * times)]),
        row(life::PROCESS_FIRST_BYTE, 2.0 * times, 1.0),
        row(life::PROCESS_RUN, 2.0 * times, 1.0),
    ]
}

fn extras(times: f64) -> [Extra; 2] {
    [(life::VMM_MEMORY, 8.0), (life::IDLE_CPU, 1.0)].map(|(name, value)| Extra {
        name,
        about: "",
        mode: "pv",
        value: Some(value * times),
        unit: "",
    })
}

#[test]
fn a_limit_is_still_reached_and_a_little_more_is_not() {
    use Verdict::*;
    let found = verdicts(Platform::KvmPvm, &rows(1.0), &extras(1.0));
    assert_eq!(found, [Pass; 10]);
    let found = verdicts(Platform::KvmPvm, &rows(1.01), &extras(1.01));
    assert_eq!(found, [Fail; 10]);
    // The gate's limit is the platform's.
    let on_hardware = verdicts(Platform::Hardware, &rows(1.0), &extras(1.0));
    assert_eq!(on_hardware[1], Fail);
}

/// What mode patch is measured by, each figure so many times its limit.
fn patched(times: f64) -> Vec<Row> {
    let inline = |name, patch| {
        modes(
            name,
            &[(Mode::Hvm, 5.0 / 3.0), (Mode::Patch, patch * times)],
        )
    };
    let mut popf = inline("popf", 4.0);
    if let Some(column) = popf.modes.get_mut("patch") {
        column.floor = Some(Bare {
            mechanism: "flags".to_owned(),
            cell: cell(2.0),
        });
    }
    let lives = |name, trap, pv| {
        let all = [(Mode::Trap, trap), (Mode::Patch, 2000.0), (Mode::Pv, pv)];
        modes(name, &all)
    };
    vec![
        inline("cli", 1.0),
        inline("sti", 5.0),
        inline("pushf", 2.0),
        popf,
        lives(life::SHELL_PROMPT, 1.0, 1000.0 / times),
        lives(life::PROMPT_LESS_TABLES, 1.0, 2000.0 / (1.3 * times)),
        lives(life::KEPT_PROMPT, 1.0, 1000.0 / times),
        lives(life::KEPT_LESS_TABLES, 1.0, 2000.0 / (1.3 * times)),
        lives(life::LEARNED_LESS_TABLES, 1.0, 2000.0 / (1.3 * times)),
        lives(life::BUSY_BOOT, 4000.0 / times, 1.0),
    ]
}

#[test]
fn goals_of_mode_patch_come_with_its_column() {
    use Verdict::*;
    let of = |platform, rows: &[Row]| {
        let goals = goals(platform, rows, &[]);
        let patch = goals
            .into_iter()
            .filter(|goal| goal.claim > 16 && goal.claim != 24);
        patch.map(|goal| goal.verdict).collect::<Vec<_>>()
    };
    for platform in [Platform::KvmPvm, Platform::Hardware] {
        assert_eq!(of(platform, &patched(0.99)), [Pass; 8], "{platform}");
        assert_eq!(of(platform, &patched(1.01)), [Fail; 8], "{platform}");
        assert_eq!(of(platform, &rows(1.0)), []);
        // The dearest is not known while one is missing.
        let missing = of(platform, &patched(0.99)[1..]);
        assert_eq!(
            missing,
            [NotMeasured, Pass, Pass, Pass, Pass, Pass, Pass, Pass],
            "{platform}"
        );
    }
}

#[test]
fn a_figure_that_is_missing_is_no_verdict() {
    assert_eq!(
        verdicts(Platform::KvmPvm, &[], &[]),
        [Verdict::NotMeasured; 10]
    );
    let mut failed = row("null_monitor", 1.0, 1.0);
    failed.modes.get_mut("pv").unwrap().cell = Cell::Failed { why: "lost".into() };
    let goals = goals(Platform::KvmPvm, &[failed], &[]);
    assert_eq!(
        (goals[1].verdict, goals[1].value),
        (Verdict::NotMeasured, None)
    );
}

#[test]
fn medians_are_shown_and_do_not_decide() {
    let mut rows = [row("null_monitor", 19.0, 10.0)];
    if let Cell::Measured(figure) = &mut rows[0].modes.get_mut("pv").unwrap().cell {
        figure.ns.median = 60.0;
    }
    let goal = &goals(Platform::KvmPvm, &rows, &[])[1];
    assert_eq!((goal.value, goal.by_medians), (Some(1.9), Some(3.0)));
    assert_eq!(goal.verdict, Verdict::Pass);
}
