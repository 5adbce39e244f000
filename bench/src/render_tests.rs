//! A report of made-up figures, as people see it.

use hypercall_abi::Mode;

use super::*;
use crate::goals::goals;
use crate::host::HostInfo;
use crate::report::{Bare, Cell, Conditions, Figure, Row, SCHEMA};
use crate::stats::Spread;

fn cell(ns: f64, exits_per_op: Option<f64>) -> Cell {
    let ns = Spread {
        min: ns * 0.9,
        p10: ns * 0.98,
        median: ns,
        p90: ns * 1.02,
        max: ns * 2.0,
    };
    Cell::Measured(Figure {
        ns,
        cycles: ns.scaled(2.5),
        samples: 15,
        exits_per_op,
    })
}

fn bare(mechanism: &str, ns: f64) -> Option<Bare> {
    Some(Bare {
        mechanism: mechanism.into(),
        cell: cell(ns, Some(0.0)),
    })
}

fn failed(why: &str) -> Cell {
    Cell::Failed { why: why.into() }
}

/// A row in all four modes.
fn row(name: &'static str, cells: [(Cell, Option<Bare>); 4]) -> Row {
    let cells = Mode::ALL.into_iter().zip(cells);
    let cells = cells.map(|(mode, (cell, floor))| (mode, cell, floor));
    Row::new(name, "an operation", cells.collect())
}

fn report() -> Report {
    let zero = Some(0.0);
    let rows = vec![
        row(
            "irq_off_on",
            [
                (cell(1388.6, zero), bare("interrupts_off_on", 1350.0)),
                (cell(45_100.0, Some(1.0625)), None),
                (cell(0.61, zero), None),
                (cell(0.27, zero), None),
            ],
        ),
        row(
            "load_root",
            [
                (cell(2089.0, zero), bare("load_root", 865.0)),
                (cell(61_000.0, Some(1.0)), bare("trap_exit", 40_000.0)),
                (cell(60_100.0, Some(1.0)), None),
                (cell(17_737.0, zero), bare("load_root_gate", 7292.0)),
            ],
        ),
        row(
            "null_machine",
            [
                (Cell::Absent, None),
                (Cell::Absent, None),
                (Cell::Absent, None),
                (cell(29_679.0, Some(1.0)), bare("machine_exit", 29_000.0)),
            ],
        ),
        row(
            "null_batch",
            [
                (Cell::Absent, None),
                (Cell::Absent, None),
                (failed("not every exception arrived"), None),
                (
                    cell(496.2, Some(1.0 / 64.0)),
                    Some(Bare {
                        mechanism: "batch64".into(),
                        cell: failed("floor row batch64: no"),
                    }),
                ),
            ],
        ),
        row(
            "process_first_byte",
            [
                (Cell::NotMeasured, bare("floor-vm", 5.0e6)),
                (cell(1.5e9, None), bare("floor-vm", 5.0e6)),
                (Cell::NotMeasured, bare("floor-vm", 5.0e6)),
                (cell(1.25e9, None), bare("floor-vm", 5.0e6)),
            ],
        ),
    ];
    let extras = vec![Extra {
        name: "vmm_memory",
        about: "resident memory beside the guest's",
        mode: "pv",
        value: Some(5.125),
        unit: "MiB",
    }];
    let host = HostInfo {
        kvm: "kvm_pvm (software KVM)".into(),
        platform: Platform::KvmPvm,
        cpu: "A processor".into(),
        hypervisor: Some("KVMKVMKVM".into()),
        kernel: "6.18.0".into(),
        huge_pages: None,
        processors: 2,
        load: Some(1.25),
        tsc_khz: 2_500_000,
        build: "release",
        version: "1.2.3",
    };
    let conditions = Conditions {
        quick: true,
        rounds: 3,
        beside_another_vm: true,
        console: "memory; of processes, a pipe",
    };
    let goals = goals(host.platform, &rows, &extras);
    Report {
        schema: SCHEMA,
        host,
        conditions,
        modes: Mode::ALL.map(Mode::name).to_vec(),
        rows,
        extras,
        goals,
        took_ms: 7654,
    }
}

#[test]
fn the_report_reads_like_this() {
    let text = render(&report());
    let shown: Vec<&str> = text.split("\nEach cell:").collect();
    assert_eq!(shown[0], include_str!("render_tests.txt"), "\n{}", shown[0]);
}

#[test]
fn four_modes_fit_a_hundred_columns() {
    let text = render(&report());
    // The header has names of any length, and the goals are sentences.
    let (_, tables) = text.split_once("\n\n").unwrap();
    let (tables, _) = tables.split_once("\nGoals").unwrap();
    assert!(tables.contains("patch") && tables.contains("machine_exit"));
    for line in tables
        .lines()
        .chain(NOTES.lines())
        .chain(INTERPRETED.lines())
    {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn hvm_is_a_reference_where_it_runs_on_hardware() {
    let mut report = report();
    assert!(!table::table(&report).contains("/hvm"));
    report.host.platform = Platform::Hardware;
    let table = table::table(&report);
    // 45 100 by 1388.6.
    assert!(table.contains("/hvm 32.5"), "{table}");
}

#[test]
fn programs_find_the_schema_and_the_state_of_each_cell() {
    let json = serde_json::to_value(report()).unwrap();
    assert_eq!(json["schema"], 2);
    assert_eq!(json["host"]["platform"], "kvm_pvm");
    let names = serde_json::json!(["hvm", "trap", "patch", "pv"]);
    assert_eq!(json["modes"], names);
    let modes = &json["rows"][2]["modes"];
    assert_eq!(modes["hvm"]["cell"]["state"], "absent");
    assert_eq!(modes["pv"]["cell"]["state"], "measured");
    assert_eq!(modes["pv"]["cell"]["exits_per_op"], 1.0);
    assert!(modes["pv"]["to_floor"].is_f64() && modes["pv"]["to_pv"].is_null());
    let trap = &json["rows"][0]["modes"]["trap"];
    assert!(trap["to_hvm"].is_f64() && trap["to_pv"].is_f64() && trap["floor"].is_null());
    assert_eq!(json["goals"][0]["verdict"], "pass");
    let floor = &json["rows"][3]["modes"]["pv"]["floor"];
    assert!(floor["cell"]["why"].is_string());
}
