//! The targets that a run must reach (CLAIMS.md), and the verdicts, from the figures of that run.

use serde::Serialize;

use crate::floor::Platform;
use crate::life;
use crate::report::{Cell, Extra, Row, ratio};
use crate::stats::Spread;

/// A target, and what was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Goal {
    /// The claim's number in CLAIMS.md.
    pub claim: u32,
    /// What is to be reached.
    pub text: &'static str,
    /// What was found, by the lower tenth of each row's samples: what a busy host disturbs least.
    pub value: Option<f64>,
    /// The same by medians.
    pub by_medians: Option<f64>,
    /// What it may be at most.
    pub limit: f64,
    /// The unit of all three: `ns`, `x` (a ratio), `MiB` or `%`.
    pub unit: &'static str,
    /// Whether `value` reaches it.
    pub verdict: Verdict,
}

/// Whether a goal was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was.
    Pass,
    /// It was not.
    Fail,
    /// A figure is missing.
    NotMeasured,
}

/// Two figures of the same thing: by the lower tenth, and by the median.
#[derive(Clone, Copy)]
struct Found {
    p10: f64,
    median: f64,
}

impl Found {
    fn of(spread: &Spread) -> Self {
        Self {
            p10: spread.p10,
            median: spread.median,
        }
    }

    fn by(self, other: Self) -> Option<Self> {
        Some(Self {
            p10: ratio(self.p10, other.p10)?,
            median: ratio(self.median, other.median)?,
        })
    }
}

/// All goals, from the rows of one run.
pub fn goals(platform: Platform, rows: &[Row], extras: &[Extra]) -> Vec<Goal> {
    let row = |name: &str| rows.iter().find(|row| row.name == name);
    let pv = |name: &str| found(&row(name)?.pv);
    let floor = |name: &str| found(&row(name)?.pv_floor.as_ref()?.cell);
    let to_floor = |name: &str| pv(name)?.by(floor(name)?);
    let extra = |name: &str| {
        let value = extras.iter().find(|extra| extra.name == name)?.value?;
        Some(Found {
            p10: value,
            median: value,
        })
    };
    let of_a_call = || pv("null_batch")?.by(pv("null_machine")?);
    let gate_limit = match platform {
        Platform::KvmPvm => 2.0,
        Platform::Hardware => 1.5,
    };
    let goal = |claim, text, found: Option<Found>, limit, unit| Goal {
        claim,
        text,
        value: found.map(|found| found.p10),
        by_medians: found.map(|found| found.median),
        limit,
        unit,
        verdict: verdict(found, limit),
    };
    vec![
        goal(
            1,
            "tier 0: interrupts off and on",
            pv("irq_off_on"),
            3.0,
            "ns",
        ),
        goal(
            2,
            "tier 1: null call, by the bare gate",
            to_floor("null_monitor"),
            gate_limit,
            "x",
        ),
        goal(
            3,
            "tier 2: null call, by the bare exit",
            to_floor("null_machine"),
            1.1,
            "x",
        ),
        goal(
            4,
            "tier 3: one of 64 batched calls, by a tier-2 call",
            of_a_call(),
            1.0 / 25.0,
            "x",
        ),
        goal(
            5,
            "process start to the first guest byte, by the floor's",
            to_floor(life::PROCESS_FIRST_BYTE),
            2.0,
            "x",
        ),
        goal(
            6,
            "whole run of a guest that powers off at once, by the floor's",
            to_floor(life::PROCESS_RUN),
            2.0,
            "x",
        ),
        goal(
            7,
            "memory beside the guest's",
            extra(life::VMM_MEMORY),
            8.0,
            "MiB",
        ),
        goal(
            8,
            "processor time of an idle guest",
            extra(life::IDLE_CPU),
            1.0,
            "%",
        ),
    ]
}

fn found(cell: &Cell) -> Option<Found> {
    cell.figure().map(|figure| Found::of(&figure.ns))
}

fn verdict(found: Option<Found>, limit: f64) -> Verdict {
    match found {
        None => Verdict::NotMeasured,
        Some(found) if found.p10 <= limit => Verdict::Pass,
        Some(_) => Verdict::Fail,
    }
}

impl Verdict {
    /// The verdict in a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::NotMeasured => "not measured",
        }
    }
}

#[cfg(test)]
mod tests {
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
        Row::new(name, "", [Cell::Absent, cell(pv)], [None, Some(bare)])
    }

    fn verdicts(platform: Platform, rows: &[Row], extras: &[Extra]) -> Vec<Verdict> {
        goals(platform, rows, extras)
            .iter()
            .map(|goal| goal.verdict)
            .collect()
    }

    #[test]
    fn a_limit_is_still_reached_and_a_little_more_is_not() {
        use Verdict::*;
        let reached = [
            row("irq_off_on", 3.0, 1.0),
            row("null_monitor", 20.0, 10.0),
            row("null_machine", 110.0, 100.0),
            row("null_batch", 4.4, 1.0),
            row(life::PROCESS_FIRST_BYTE, 2.0, 1.0),
            row(life::PROCESS_RUN, 2.0, 1.0),
        ];
        let extra = |name, value| Extra {
            name,
            about: "",
            mode: "pv",
            value: Some(value),
            unit: "",
        };
        let extras = [extra(life::VMM_MEMORY, 8.0), extra(life::IDLE_CPU, 1.0)];
        assert_eq!(verdicts(Platform::KvmPvm, &reached, &extras), [Pass; 8]);
        // The gate's limit is the platform's.
        assert_eq!(verdicts(Platform::Hardware, &reached, &extras)[1], Fail);

        let missed = [
            row("irq_off_on", 3.1, 1.0),
            row("null_monitor", 20.1, 10.0),
            row("null_machine", 110.1, 100.0),
            row("null_batch", 4.5, 1.0),
            row(life::PROCESS_FIRST_BYTE, 2.1, 1.0),
            row(life::PROCESS_RUN, 2.1, 1.0),
        ];
        let extras = [extra(life::VMM_MEMORY, 8.1), extra(life::IDLE_CPU, 1.1)];
        assert_eq!(verdicts(Platform::KvmPvm, &missed, &extras), [Fail; 8]);
    }

    #[test]
    fn a_figure_that_is_missing_is_no_verdict() {
        assert_eq!(
            verdicts(Platform::KvmPvm, &[], &[]),
            [Verdict::NotMeasured; 8]
        );
        let mut failed = row("null_monitor", 1.0, 1.0);
        failed.pv = Cell::Failed { why: "lost".into() };
        let goals = goals(Platform::KvmPvm, &[failed], &[]);
        assert_eq!(
            (goals[1].verdict, goals[1].value),
            (Verdict::NotMeasured, None)
        );
    }

    #[test]
    fn medians_are_shown_and_do_not_decide() {
        let mut rows = [row("null_monitor", 19.0, 10.0)];
        if let Cell::Measured(figure) = &mut rows[0].pv {
            figure.ns.median = 60.0;
        }
        let goal = &goals(Platform::KvmPvm, &rows, &[])[1];
        assert_eq!((goal.value, goal.by_medians), (Some(1.9), Some(3.0)));
        assert_eq!(goal.verdict, Verdict::Pass);
    }
}
