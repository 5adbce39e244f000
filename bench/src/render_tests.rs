//! A report of made-up figures, as people see it.

use super::*;
use crate::floor::Platform;
use crate::goals::goals;
use crate::host::HostInfo;
use crate::report::{Conditions, SCHEMA};
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

fn bare(mechanism: &str, cell: Cell) -> Option<Bare> {
    Some(Bare {
        mechanism: mechanism.into(),
        cell,
    })
}

fn report() -> Report {
    let zero = Some(0.0);
    let rows = vec![
        Row::new(
            "irq_off_on",
            "interrupts off, and on again",
            [cell(1388.6, zero), cell(0.27, zero)],
            [bare("interrupts_off_on", cell(1350.0, zero)), None],
        ),
        Row::new(
            "load_root",
            "another root",
            [cell(2089.0, zero), cell(17_737.0, zero)],
            [
                bare("load_root", cell(865.0, zero)),
                bare("load_root_gate", cell(7292.0, zero)),
            ],
        ),
        Row::new(
            "null_machine",
            "a tier-2 call",
            [Cell::Absent, cell(29_679.0, Some(1.0))],
            [None, bare("machine_exit", cell(29_000.0, Some(1.0)))],
        ),
        Row::new(
            "null_batch",
            "a batched call",
            [Cell::Absent, cell(496.2, Some(1.0 / 64.0))],
            [
                None,
                bare(
                    "batch64",
                    Cell::Failed {
                        why: "floor row batch64".into(),
                    },
                ),
            ],
        ),
        Row::new(
            "process_run",
            "a process",
            [Cell::NotMeasured, cell(1.25e9, None)],
            [
                bare("floor-vm", cell(5.0e6, None)),
                bare("floor-vm", cell(5.0e6, None)),
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
    assert!(
        text.lines().all(|line| line.chars().count() <= 132),
        "{text}"
    );
}

#[test]
fn numbers_show_three_digits_that_count() {
    for (ns, text) in [
        (0.0, "0.00 ns"),
        (0.271, "0.27 ns"),
        (9.996, "10.0 ns"),
        (99.96, "100 ns"),
        (999.6, "1.00 us"),
        (12_345.0, "12.3 us"),
        (999_600.0, "1.00 ms"),
        (3.2e10, "32.0 s"),
    ] {
        assert_eq!(duration(ns), text);
    }
    assert_eq!(
        (grouped(0.7), grouped(999.0), grouped(1234567.4)),
        ("0.70".into(), "999".into(), "1 234 567".into())
    );
    assert_eq!(
        (times(0.0123), times(1.5), times(154.6)),
        ("1/81.3".into(), "1.50x".into(), "155x".into())
    );
}

#[test]
fn exits_are_counts_or_shares() {
    let shown = [0.0, 1.0, 64.0, 1.0 / 64.0, 0.5, 1.02].map(exits_text);
    assert_eq!(
        shown,
        [
            "0 exits",
            "1 exit",
            "64 exits",
            "1/64 exit",
            "0.50 exits",
            "1.02 exits"
        ]
    );
}

#[test]
fn programs_find_the_schema_and_the_state_of_each_cell() {
    let json = serde_json::to_value(report()).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["host"]["platform"], "kvm_pvm");
    assert_eq!(json["rows"][2]["hvm"]["state"], "absent");
    assert_eq!(json["rows"][2]["pv"]["state"], "measured");
    assert_eq!(json["rows"][2]["pv"]["exits_per_op"], 1.0);
    assert_eq!(json["goals"][0]["verdict"], "pass");
    assert!(json["rows"][3]["pv_floor"]["cell"]["why"].is_string());
}
