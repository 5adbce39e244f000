//! How often each of the guest's rows leaves for the VMM: counted on this host's KVM, not timed.

use hypercall_abi::Mode;

use super::{Outcome, ROWS, run};
use crate::floor::{Platform, keep_kvm_on};
use crate::watch::Watch;

const SAMPLES: usize = 2;
/// So many that what happens once in 64 operations happens equally often in each sample.
const OPERATIONS: u64 = 128;

/// Exits an operation, of every row; `None` for a row that this image does not have.
fn exits_per_op(mode: Mode) -> Vec<(&'static str, Option<f64>)> {
    keep_kvm_on();
    let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
    let watch = Watch::start().unwrap();
    let lines = run(mode, &names, SAMPLES, Some(OPERATIONS), &watch).unwrap();
    assert_eq!(
        lines
            .iter()
            .map(|line| line.row.as_str())
            .collect::<Vec<_>>(),
        names
    );
    let exits = lines
        .iter()
        .zip(names)
        .map(|(line, name)| match &line.outcome {
            Outcome::Measured {
                n, exits, ticks, ..
            } => {
                assert_eq!(ticks.len(), SAMPLES, "{name}");
                assert!(ticks.iter().all(|ticks| *ticks > 0), "{name}: {ticks:?}");
                (name, Some(*exits as f64 / (*n as f64 * SAMPLES as f64)))
            }
            Outcome::Absent => (name, None),
            Outcome::Failed(why) => panic!("{name}: {why}"),
        });
    exits.collect()
}

#[test]
fn in_pv_only_what_must_reach_the_vmm_exits() {
    for (row, exits) in exits_per_op(Mode::Pv) {
        let expected = match row {
            "null_machine" | "console_line" => 1.0,
            "null_batch" | "console_byte" => 1.0 / 64.0,
            // 40 bytes fit an entry.
            "console_64" => 2.0 / 64.0,
            _ => 0.0,
        };
        assert_eq!(exits, Some(expected), "{row}");
    }
}

#[test]
fn in_hvm_every_byte_of_the_uart_exits_and_little_else() {
    keep_kvm_on();
    let platform = Platform::detect().unwrap();
    for (row, exits) in exits_per_op(Mode::Hvm) {
        let expected = match row {
            "null_monitor" | "null_machine" | "null_batch" => None,
            "console_byte" => Some(1.0),
            "console_64" | "console_line" => Some(64.0),
            // kvm_pvm cannot interpret INT3 at CPL 0; the VMM raises the exception.
            "breakpoint" if platform == Platform::KvmPvm => Some(1.0),
            _ => Some(0.0),
        };
        assert_eq!(exits, expected, "{row}");
    }
}
