//! What a run found, as data: one shape for people and for programs.

use serde::Serialize;

use crate::goals::Goal;
use crate::host::HostInfo;
use crate::stats::Spread;

/// The version of [`Report`] as it is serialized; it rises when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// What a run found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Which version of this structure it is: [`SCHEMA`].
    pub schema: u32,
    /// Where the figures come from.
    pub host: HostInfo,
    /// How they were taken.
    pub conditions: Conditions,
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
    /// The native image, with KVM's virtualization.
    pub hvm: Cell,
    /// The pv image.
    pub pv: Cell,
    /// The bare mechanism that `hvm` needs.
    pub hvm_floor: Option<Bare>,
    /// The bare mechanism that `pv` needs.
    pub pv_floor: Option<Bare>,
    /// `hvm` by its floor, each by the lower tenth of its samples.
    pub hvm_to_floor: Option<f64>,
    /// `pv` by its floor, likewise.
    pub pv_to_floor: Option<f64>,
    /// `pv` by `hvm`, likewise.
    pub pv_to_hvm: Option<f64>,
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

impl Row {
    /// A row of its cells; the ratios follow.
    pub fn new(
        name: &'static str,
        about: &'static str,
        [hvm, pv]: [Cell; 2],
        [hvm_floor, pv_floor]: [Option<Bare>; 2],
    ) -> Self {
        let by =
            |cell: &Cell, bare: &Option<Bare>| bare.as_ref().and_then(|bare| cell.to(&bare.cell));
        Self {
            name,
            about,
            hvm_to_floor: by(&hvm, &hvm_floor),
            pv_to_floor: by(&pv, &pv_floor),
            pv_to_hvm: pv.to(&hvm),
            hvm,
            pv,
            hvm_floor,
            pv_floor,
        }
    }
}
