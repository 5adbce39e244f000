//! Each row on this host's KVM: what crosses the wall is counted, what it costs is not judged.

use std::time::Duration;

use super::vm::{Duty, Start, Vm};
use super::watchdog::Watchdog;
use super::*;

const EFFORT: Effort = Effort {
    iterations: 64,
    repeats: 3,
};

/// The tests that make VMs begin with this: see [`KvmOn`].
pub(crate) fn keep_kvm_on() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::mem::forget(KvmOn::hold().unwrap()));
}

#[test]
fn every_row_exits_as_often_as_its_mechanism_says() {
    keep_kvm_on();
    let mut heard = Vec::new();
    let samples = measure(Row::ALL, EFFORT, &mut |row| heard.push(row)).unwrap();
    assert_eq!(heard, Row::ALL);
    for (row, sample) in samples {
        assert_eq!(sample.exits_per_op, exits_per_op(row), "{row}");
        assert!(
            sample.ticks.iter().all(|&ticks| ticks > 0),
            "{row}: {:?}",
            sample.ticks
        );
    }
}

fn exits_per_op(row: Row) -> f64 {
    match row {
        Row::MachineExit | Row::ConsoleByte | Row::TrapExit => 1.0,
        Row::Batch64 => 1.0 / 64.0,
        // KVM's emulator takes a string operation apart, though its interface could carry it whole.
        Row::Console64 | Row::Console64String => 64.0,
        _ => 0.0,
    }
}

#[test]
fn effort_decides_how_many_samples_there_are() {
    keep_kvm_on();
    let effort = Effort {
        iterations: 2,
        repeats: 5,
    };
    let samples = measure(&[Row::EmptyLoop, Row::TimerInterrupt], effort, &mut |_| {}).unwrap();
    let counts: Vec<_> = samples
        .iter()
        .map(|(_, sample)| sample.ticks.len())
        .collect();
    assert_eq!(counts, [5, 40]);
}

#[test]
fn any_effort_measures_something() {
    keep_kvm_on();
    for effort in [
        Effort {
            iterations: 0,
            repeats: 0,
        },
        Effort {
            iterations: 1,
            repeats: u64::MAX,
        },
    ] {
        let samples = measure(&[Row::Gate, Row::Batch64], effort, &mut |_| {}).unwrap();
        assert!(
            samples.iter().all(|(_, sample)| !sample.ticks.is_empty()),
            "{effort:?}"
        );
    }
}

#[test]
fn one_byte_arrives_and_the_vm_closes() {
    keep_kvm_on();
    let before = monotonic_ns();
    let life = one_byte().unwrap();
    assert!(
        life.create_ns > 0 && life.create_ns < life.first_byte_ns,
        "{life:?}"
    );
    assert!(
        life.first_byte_at_ns >= before + life.first_byte_ns,
        "{life:?}"
    );
}

#[test]
fn a_guest_that_hangs_is_interrupted() {
    keep_kvm_on();
    let spin = [0xeb, 0xfe]; // jmp to itself
    let watchdog = Watchdog::start(Duration::from_millis(50)).unwrap();
    let error = run_user_bytes(&spin, &watchdog).unwrap_err();
    assert!(
        matches!(
            error,
            FloorError::Stuck {
                rip: layout::USER_CODE,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn a_guest_that_faults_is_an_error_with_its_address() {
    keep_kvm_on();
    let undefined = [0x90, 0x0f, 0x0b]; // nop; ud2, for which there is no handler
    let watchdog = Watchdog::start(Duration::from_secs(5)).unwrap();
    let error = run_user_bytes(&undefined, &watchdog).unwrap_err();
    assert!(matches!(error, FloorError::Stopped { .. }), "{error:?}");
}

fn run_user_bytes(bytes: &[u8], watchdog: &Watchdog) -> Result<vm::Outcome, FloorError> {
    let mut vm = Vm::new(layout::MEMORY_LEN)?;
    let regs = kvm_bindings::kvm_regs {
        rip: layout::USER_CODE,
        rflags: 2,
        ..Default::default()
    };
    vm.prepare(&Start {
        ring: tables::Ring::User,
        gates: &[],
        syscall: None,
        timer: None,
        regs,
    })?;
    vm.load(layout::USER_CODE, bytes)?;
    vm.run(Duty::Answer, watchdog)
}

#[test]
fn rows_keep_their_names_in_reports() {
    for &row in Row::ALL {
        assert_eq!(serde_json::to_string(&row).unwrap(), format!("\"{row}\""));
    }
}

#[test]
fn guest_code_fits_its_pages() {
    assert!(code::user_image().len() as u64 <= layout::RESULTS - layout::USER_CODE);
    let room = layout::MONITOR_STACK_TOP - layout::MONITOR_CODE - 0x1000;
    assert!(code::monitor_image().len() as u64 <= room);
}
