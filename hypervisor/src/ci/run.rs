//! Runs a scenario: the guest on this thread, its director on another.

use std::panic;
use std::thread;
use std::time::Instant;

use super::case::{Case, Failed, Failure};
use super::direct::Director;
use super::report::{Report, Suite};
use super::scenario::Scenario;
use super::transcript::Transcript;
use crate::error::HostError;
use crate::stop::{Stop, StopReason};
use crate::vcpu::End;
use crate::vm::{Outcome, Vm};

/// Run scenarios one after the other.
pub fn run(suite: impl Into<String>, scenarios: &[Scenario]) -> Report {
    let cases = scenarios.iter().map(|scenario| run_case(scenario, |_| {}));
    Report::new(vec![Suite {
        name: suite.into(),
        cases: cases.collect(),
    }])
}

/// Run one scenario. `on_start` gets a handle that ends the run from another thread.
pub fn run_case(scenario: &Scenario, on_start: impl FnOnce(Stop)) -> Case {
    let mut case = Case::begun(scenario);
    let transcript = Transcript::new(scenario.output_limit);
    match play(scenario, &transcript, on_start, &mut case) {
        Ok((outcome, directed)) => {
            let judged = judge(&outcome.end, directed, scenario.status);
            if let End::PowerOff(status) = outcome.end {
                case.status = Some(status);
            }
            case.console_bytes = outcome.console_bytes;
            case.stats = outcome.stats;
            if let Err(failed) = judged {
                case.fail(failed);
                case.report = outcome.report;
            }
        }
        Err(error) => case.fail(Failed {
            step: None,
            why: Failure::Host(error.to_string()),
        }),
    }
    case.console = transcript.take();
    case
}

/// Boot the guest and lead it to its end.
fn play(
    scenario: &Scenario,
    transcript: &Transcript,
    on_start: impl FnOnce(Stop),
    case: &mut Case,
) -> Result<(Outcome, Result<(), Failed>), HostError> {
    let mut vm = Vm::new(scenario.config.clone(), Box::new(transcript.clone()))?;
    if let Some(prepare) = &scenario.prepare {
        prepare(&mut vm)?;
    }
    on_start(vm.stop_handle());
    let director = Director {
        scenario,
        transcript,
        keyboard: vm.keyboard(),
        stop: vm.stop_handle(),
    };
    thread::scope(|scope| {
        let directing = thread::Builder::new()
            .name("director".into())
            .spawn_scoped(scope, || director.direct())
            .map_err(HostError::Thread)?;
        let start = Instant::now();
        let result = vm.run();
        case.run_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        transcript.end();
        let directed = directing
            .join()
            .unwrap_or_else(|payload| panic::resume_unwind(payload));
        Ok((result?, directed))
    })
}

/// Put together what the director saw and how the guest ended.
fn judge(end: &End, directed: Result<(), Failed>, wanted: Option<u8>) -> Result<(), Failed> {
    let step = directed.as_ref().err().and_then(|failed| failed.step);
    let fail = |why| Err(Failed { step, why });
    match (end, directed) {
        (End::Stopped(StopReason::Signal(signal)), _) => fail(Failure::Signal(*signal)),
        (End::Fault(fault), _) => fail(Failure::Fault(fault.clone())),
        (End::PowerOff(status), Err(failed)) if matches!(failed.why, Failure::Ended { .. }) => {
            fail(Failure::Ended {
                status: Some(*status),
            })
        }
        (_, Err(failed)) => Err(failed),
        (End::PowerOff(got), Ok(())) => match wanted {
            Some(wanted) if wanted != *got => fail(Failure::Status { wanted, got: *got }),
            _ => Ok(()),
        },
        (End::Stopped(StopReason::Timeout), Ok(())) => Ok(()),
    }
}
