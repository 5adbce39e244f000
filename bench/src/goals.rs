//! The targets that a run must reach (CLAIMS.md), and the verdicts, from the figures of that run.

use hypercall_abi::Mode;
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

    fn plus(self, other: Self) -> Self {
        Self {
            p10: self.p10 + other.p10,
            median: self.median + other.median,
        }
    }

    fn larger(self, other: Self) -> Self {
        Self {
            p10: self.p10.max(other.p10),
            median: self.median.max(other.median),
        }
    }
}

/// The rows of one run, and what is asked of them.
#[derive(Clone, Copy)]
struct Rows<'a>(&'a [Row]);

impl<'a> Rows<'a> {
    fn row(self, name: &str) -> Option<&'a Row> {
        self.0.iter().find(|row| row.name == name)
    }

    fn cell(self, mode: Mode, name: &str) -> Option<Found> {
        found(&self.row(name)?.column(mode)?.cell)
    }

    fn floor(self, mode: Mode, name: &str) -> Option<Found> {
        found(&self.row(name)?.column(mode)?.floor.as_ref()?.cell)
    }

    fn to_floor(self, mode: Mode, name: &str) -> Option<Found> {
        self.cell(mode, name)?.by(self.floor(mode, name)?)
    }

    /// A row in one mode by the same row in another.
    fn between(self, name: &str, mode: Mode, by: Mode) -> Option<Found> {
        self.cell(mode, name)?.by(self.cell(by, name)?)
    }

    /// The dearest of some; `None` when one is missing.
    fn dearest(self, names: &[&str], of: impl Fn(Self, &str) -> Option<Found>) -> Option<Found> {
        let all: Option<Vec<Found>> = names.iter().map(|name| of(self, name)).collect();
        all?.into_iter().reduce(Found::larger)
    }

    fn has(self, mode: Mode) -> bool {
        self.0.iter().any(|row| row.column(mode).is_some())
    }
}

/// What mode `patch` replaces by accesses to a shared word.
const INLINED: &[&str] = &["cli", "sti", "pushf", "popf"];
/// Those of them that are a single store then.
const STORES: &[&str] = &["cli", "sti"];

/// All goals, from the rows of one run.
pub fn goals(platform: Platform, rows: &[Row], extras: &[Extra]) -> Vec<Goal> {
    let rows = Rows(rows);
    let pv = |name: &str| rows.cell(Mode::Pv, name);
    let to_floor = |name: &str| rows.to_floor(Mode::Pv, name);
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
    // A call of the VMM, and what it takes to get out of the instruction and behind it.
    let of_a_trap = || {
        let bare = rows.floor(Mode::Pv, "general_protection")?;
        rows.cell(Mode::Trap, "cr0_read")?
            .by(pv("null_machine")?.plus(bare))
    };
    let mut goals = vec![
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
        goal(
            16,
            "trap: an instruction, by a tier-2 call and a bare #GP",
            of_a_trap(),
            1.2,
            "x",
        ),
    ];
    goals.push(goal(
        24,
        "trap: an instruction that trapped, fetched and decoded",
        rows.cell(Mode::Trap, life::DECODE),
        300.0,
        "ns",
    ));
    if rows.has(Mode::Patch) {
        goals.extend(of_patch(platform, rows));
    }
    goals
}

/// What mode `patch` is to reach, in a report that has its column.
fn of_patch(platform: Platform, rows: Rows<'_>) -> [Goal; 8] {
    let inlined = match platform {
        // Nothing here executes at CPL 0, so a few nanoseconds stand for it.
        Platform::KvmPvm => goal(
            17,
            "patch: the dearer of cli and sti",
            rows.dearest(STORES, |rows, name| rows.cell(Mode::Patch, name)),
            5.0,
            "ns",
        ),
        Platform::Hardware => goal(
            17,
            "patch: the dearest of cli, sti, pushf and popf, by hvm",
            rows.dearest(INLINED, |rows, name| {
                rows.between(name, Mode::Patch, Mode::Hvm)
            }),
            3.0,
            "x",
        ),
    };
    let flags = |name| rows.cell(Mode::Patch, name);
    let of_flags = || {
        let pair = flags("pushf")?.plus(flags("popf")?);
        pair.by(rows.floor(Mode::Patch, "popf")?)
    };
    [
        inlined,
        goal(
            23,
            "patch: pushf and popf, by the bare pair at CPL 3",
            of_flags(),
            3.0,
            "x",
        ),
        goal(
            18,
            "patch: from nothing to the shell's prompt, by pv",
            rows.between(life::SHELL_PROMPT, Mode::Patch, Mode::Pv),
            2.0,
            "x",
        ),
        goal(
            22,
            "patch: likewise, less shadow page tables, by pv",
            rows.between(life::PROMPT_LESS_TABLES, Mode::Patch, Mode::Pv),
            1.3,
            "x",
        ),
        goal(
            25,
            "patch: to the prompt, the code known from a file, by pv",
            rows.between(life::KEPT_PROMPT, Mode::Patch, Mode::Pv),
            2.0,
            "x",
        ),
        goal(
            27,
            "patch: likewise, less shadow page tables, by pv",
            rows.between(life::KEPT_LESS_TABLES, Mode::Patch, Mode::Pv),
            1.3,
            "x",
        ),
        goal(
            26,
            "patch: less tables, the code known in this process, by pv",
            rows.between(life::LEARNED_LESS_TABLES, Mode::Patch, Mode::Pv),
            1.3,
            "x",
        ),
        goal(
            19,
            "patch: a boot in which traps dominate, by trap",
            rows.between(life::BUSY_BOOT, Mode::Patch, Mode::Trap),
            0.5,
            "x",
        ),
    ]
}

fn goal(
    claim: u32,
    text: &'static str,
    found: Option<Found>,
    limit: f64,
    unit: &'static str,
) -> Goal {
    Goal {
        claim,
        text,
        value: found.map(|found| found.p10),
        by_medians: found.map(|found| found.median),
        limit,
        unit,
        verdict: verdict(found, limit),
    }
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
#[path = "goals_tests.rs"]
mod tests;
