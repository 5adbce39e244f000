//! Small runs and baselines for the tests.

use std::collections::BTreeMap;

use hypercall_abi::Mode;

use super::baseline::{Ratio, RatioName};
use super::{Baseline, Counted, Counts, PerOp, RowCounts};
use crate::report::{Bare, By, Cell, Figure, Report, Row, SCHEMA};
use crate::stats::Spread;

/// The ratio that [`report`] has.
pub const PV_TO_FLOOR: RatioName = RatioName {
    mode: Mode::Pv,
    by: By::Floor,
};

pub fn per_op(count: u64, operations: u64) -> PerOp {
    PerOp::new(count, operations).unwrap()
}

pub fn ratio(value: f64, factor: f64) -> Ratio {
    Ratio { value, factor }
}

fn row(row: &'static str, hvm: Counted, pv: Counted) -> RowCounts {
    let modes = BTreeMap::from([("hvm", hvm), ("pv", pv)]);
    RowCounts { row, modes }
}

/// What a run counted on kvm_pvm.
pub fn counts() -> Vec<RowCounts> {
    let none = || Counted::Counts(Counts::default());
    let batch = Counted::Counts(Counts {
        exits: per_op(1, 64),
        machine_calls: per_op(1, 64),
        batch_calls: per_op(1, 1),
    });
    let exit = Counted::Counts(Counts {
        exits: per_op(1, 1),
        ..Counts::default()
    });
    vec![
        row("irq_off_on", none(), none()),
        row("null_batch", Counted::Absent, batch),
        row("breakpoint", exit, none()),
    ]
}

/// The baseline of [`counts`] and a report on kvm_pvm, and of svm, where `breakpoint` does not exit.
pub fn baseline() -> Baseline {
    let mut baseline = Baseline::default();
    baseline
        .update("kvm_pvm", &counts(), Some(&report(1.02)), &[])
        .unwrap();
    let mut svm = counts();
    svm[2]
        .modes
        .insert("hvm", Counted::Counts(Counts::default()));
    baseline.update("svm", &svm, None, &[]).unwrap();
    assert!(baseline.platforms["kvm_pvm"].ratios["null_batch"].contains_key(&PV_TO_FLOOR));
    baseline
}

fn cell(ns: f64) -> Cell {
    let ns = Spread {
        p10: ns,
        ..Spread::default()
    };
    Cell::Measured(Figure {
        ns,
        cycles: ns,
        samples: 3,
        exits_per_op: None,
    })
}

/// A report with one ratio: `null_batch` by its floor.
pub fn report(pv_to_floor: f64) -> Report {
    let bare = Bare {
        mechanism: "batch64".into(),
        cell: cell(1.0),
    };
    let rows = vec![Row::new(
        "null_batch",
        "",
        vec![
            (Mode::Hvm, Cell::Absent, None),
            (Mode::Pv, cell(pv_to_floor), Some(bare)),
        ],
    )];
    Report {
        schema: SCHEMA,
        host: crate::host::HostInfo {
            kvm: "kvm_pvm".into(),
            platform: crate::floor::Platform::KvmPvm,
            cpu: String::new(),
            hypervisor: None,
            kernel: String::new(),
            huge_pages: None,
            processors: 1,
            load: None,
            tsc_khz: 1,
            build: "release",
            version: "0",
        },
        conditions: crate::report::Conditions {
            quick: true,
            rounds: 1,
            beside_another_vm: true,
            console: "",
        },
        modes: vec!["hvm", "pv"],
        rows,
        extras: Vec::new(),
        goals: Vec::new(),
        took_ms: 0,
    }
}
