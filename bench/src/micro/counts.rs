//! How often each of the guest's rows leaves for the VMM and calls it: exact, because each row does a fixed
//! number of operations, and the same on a busy host and an idle one.

use hypercall_abi::Mode;

use super::{Outcome, guest};
use crate::check::{Counted, Counts, PerOp};
use crate::error::BenchError;
use crate::watch::Watch;

const SAMPLES: usize = 2;
/// So many that what happens once in 64 operations happens equally often in each sample.
const OPERATIONS: u64 = 128;
/// How often it is tried. A signal that interrupts the guest is an exit too, and none of the row's.
const TRIES: usize = 3;

/// Count these rows in a fresh virtual machine, in their order.
pub fn count(
    mode: Mode,
    rows: &[&'static str],
    watch: &Watch,
) -> Result<Vec<(&'static str, Counted)>, BenchError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    for _ in 0..TRIES {
        let ran = guest::run(mode, rows, SAMPLES, Some(OPERATIONS), watch)?;
        if ran.interruptions > 0 {
            continue;
        }
        let of = |name: &str| ran.lines.iter().find(|line| line.row == name);
        return Ok(rows
            .iter()
            .map(|name| (*name, counted(of(name).map(|line| &line.outcome))))
            .collect());
    }
    Err(BenchError::Interrupted {
        mode: mode.name(),
        tries: TRIES,
    })
}

fn counted(outcome: Option<&Outcome>) -> Counted {
    let failed = |why: &str| Counted::Failed { why: why.into() };
    match outcome {
        Some(Outcome::Measured {
            n,
            exits,
            calls,
            entries,
            ticks,
        }) => {
            let operations = n.saturating_mul(ticks.len() as u64);
            let per_op = |count: u64| PerOp::new(count, operations);
            match (per_op(*exits), per_op(*calls), per_op(*entries)) {
                (Some(exits), Some(machine_calls), Some(batch_calls)) => Counted::Counts(Counts {
                    exits,
                    machine_calls,
                    batch_calls,
                }),
                _ => failed("the guest made no operation"),
            }
        }
        Some(Outcome::Absent) => Counted::Absent,
        Some(Outcome::Failed(why)) => failed(why),
        None => failed("the guest left it out"),
    }
}

#[cfg(test)]
#[path = "counts_tests.rs"]
mod tests;
