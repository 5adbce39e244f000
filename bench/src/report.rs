//! What a run found, as data: one shape for people and for programs.

use std::collections::BTreeMap;

use hypercall_abi::Mode;
use serde::Serialize;

use crate::goals::Goal;
use crate::host::HostInfo;
use crate::stats::Spread;

/// The version of [`Report`] as it is serialized; it rises when a field goes or changes its meaning.
pub const SCHEMA: u32 = 2;

/// What a run found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Which version of this structure it is: [`SCHEMA`].
    pub schema: u32,
    /// Where the figures come from.
    pub host: HostInfo,
    /// How they were taken.
    pub conditions: Conditions,
    /// The names of the columns, in their order.
    pub modes: Vec<&'static str>,
    /// The rows.
    pub rows: Vec<Row>,
    /// What is no time.
    pub extras: Vec<Extra>,
    /// What was to be reached, and whether it was.
    pub goals: Vec<Goal>,
    /// How long the run took, in milliseconds.
    pub took_ms: u64,
}

/// How figures were taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conditions {
    /// Whether it was the quick run.
    pub quick: bool,
    /// How often the columns were measured in turn.
    pub rounds: usize,
    /// Another virtual machine existed all the while, so that KVM stayed switched on.
    pub beside_another_vm: bool,
    /// Where the guests' consoles wrote.
    pub console: &'static str,
}

/// A row: one operation, in each column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// What one operation is.
    pub about: &'static str,
    /// By the mode's name: what it took there.
    pub modes: BTreeMap<&'static str, Column>,
}

/// A row in one mode. The ratios are by the lower tenth of each one's samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Column {
    /// What it took.
    pub cell: Cell,
    /// The bare mechanism that this mode needs for it, where there is one.
    pub floor: Option<Bare>,
    /// `cell` by its floor.
    pub to_floor: Option<f64>,
    /// `cell` by the row's in `hvm`; of another mode alone.
    pub to_hvm: Option<f64>,
    /// `cell` by the row's in `pv`; of another mode alone.
    pub to_pv: Option<f64>,
}

/// What a column is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The bare mechanism.
    Floor,
    /// The same row in mode `hvm`.
    Hvm,
    /// The same row in mode `pv`.
    Pv,
}

/// A mechanism in a minimal guest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bare {
    /// Which.
    pub mechanism: String,
    /// What it costs.
    pub cell: Cell,
}

/// A figure, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Cell {
    /// It was measured.
    Measured(Figure),
    /// There is no such thing in this column.
    Absent,
    /// It was not asked for, or could not be measured here.
    NotMeasured,
    /// It did not work.
    Failed {
        /// Why.
        why: String,
    },
}

/// A figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Nanoseconds an operation.
    pub ns: Spread,
    /// Cycles of the time-stamp counter an operation.
    pub cycles: Spread,
    /// How many samples there are.
    pub samples: usize,
    /// Exits to the hypervisor's process an operation, where they were counted.
    pub exits_per_op: Option<f64>,
}

/// A figure that is no time of an operation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Extra {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// The mode.
    pub mode: &'static str,
    /// The value; absent when it was not measured.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: &'static str,
}

impl Cell {
    /// The figure, if there is one.
    pub fn figure(&self) -> Option<&Figure> {
        match self {
            Self::Measured(figure) => Some(figure),
            _ => None,
        }
    }

    /// How often this figure holds another, by the quietest tenth of each: a busy host only ever
    /// adds to a sample, and adds to one column more than to another.
    pub fn to(&self, other: &Self) -> Option<f64> {
        ratio(self.figure()?.ns.p10, other.figure()?.ns.p10)
    }
}

/// A quotient that means something.
pub fn ratio(value: f64, by: f64) -> Option<f64> {
    (by > 0.0).then(|| value / by)
}

impl By {
    /// All of them, in the order of a report.
    pub const ALL: [Self; 3] = [Self::Floor, Self::Hvm, Self::Pv];

    /// The name: `floor`, or the mode's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Hvm => Mode::Hvm.name(),
            Self::Pv => Mode::Pv.name(),
        }
    }
}

impl Column {
    /// A ratio of this column's.
    pub const fn ratio(&self, by: By) -> Option<f64> {
        match by {
            By::Floor => self.to_floor,
            By::Hvm => self.to_hvm,
            By::Pv => self.to_pv,
        }
    }
}

impl Row {
    /// A row of its cells and their floors; the ratios follow.
    pub fn new(
        name: &'static str,
        about: &'static str,
        cells: Vec<(Mode, Cell, Option<Bare>)>,
    ) -> Self {
        let of = |wanted: Mode| {
            let cell = cells.iter().find(|(mode, ..)| *mode == wanted);
            cell.map(|(_, cell, _)| cell.clone())
        };
        let (hvm, pv) = (of(Mode::Hvm), of(Mode::Pv));
        let columns = cells.into_iter().map(|(mode, cell, floor)| {
            let by = |other: Mode, base: &Option<Cell>| {
                let base = base.as_ref().filter(|_| mode != other)?;
                cell.to(base)
            };
            let column = Column {
                to_floor: floor.as_ref().and_then(|bare| cell.to(&bare.cell)),
                to_hvm: by(Mode::Hvm, &hvm),
                to_pv: by(Mode::Pv, &pv),
                cell,
                floor,
            };
            (mode.name(), column)
        });
        Self {
            name,
            about,
            modes: columns.collect(),
        }
    }

    /// The row in a mode; `None` where that mode is no column.
    pub fn column(&self, mode: Mode) -> Option<&Column> {
        self.modes.get(mode.name())
    }
}
