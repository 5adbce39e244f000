//! `hypervisor::ci` as a program uses it: vendor calls, steps, and verdicts by their type.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hypervisor::ci::{self, Action, Failure, Pattern, Scenario, Step, Verdict};
use tests::{each_mode, kernel, need_kvm, script};

hypercall_abi::hypercalls! {
    /// Calls of these tests.
    topic ours {
        /// Add two numbers.
        0x8001 add(a: u32, b: u8) -> u64 tier machine in [pv];
    }
}

/// A minute, for a host that has other things to do.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_vendor_call_is_tested_with_its_host() {
    need_kvm!();
    let served = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&served);
    let scenario = Scenario::new("adds", script("machine 8001 2 3"))
        .prepare(move |vm| {
            let counted = Arc::clone(&counted);
            vm.vendors().on(ours::calls::add, move |_, (a, b)| {
                counted.fetch_add(1, Ordering::Relaxed);
                Ok(u64::from(a) + u64::from(b))
            })
        })
        .timeout(LONG)
        .expect("5")
        .expect("a pattern")
        .status(0);
    let report = ci::run("ours", &[scenario]);
    assert!(report.is_good(), "{}", report.suites[0].cases[0].evidence());
    assert_eq!(served.load(Ordering::Relaxed), 1);
    assert_eq!(report.summary(), "1 passed, 0 failed");
}

#[test]
fn a_preparation_that_fails_is_the_host_s_error() {
    need_kvm!();
    hypercall_abi::hypercalls! {
        /// A call that cannot be registered.
        topic refused {
            /// Below the vendors' range.
            0x7ffe below() -> () tier machine in [pv];
        }
    }
    let scenario = Scenario::new("refused", script("say hello"))
        .prepare(|vm| vm.vendors().on(refused::calls::below, |_, ()| Ok(())))
        .status(0);
    let case = ci::run_case(&scenario, |_| {});
    assert_eq!(case.verdict, Verdict::Error);
    assert!(case.evidence().contains("0x7ffe"), "{}", case.evidence());
    assert!(case.console.is_empty(), "it never ran");
}

#[test]
fn a_step_has_its_own_time_in_every_mode() {
    each_mode(|mode| {
        let scenario = Scenario::new("waits", kernel(mode, "sleep 100000"))
            .timeout(LONG)
            .expect("Paravane")
            .expect("a pattern")
            .step(Step {
                action: Action::Expect(Pattern::new("never").expect("a pattern")),
                timeout: Some(Duration::from_millis(50)),
            });
        let case = ci::run_case(&scenario, |_| {});
        let failed = case.failure.expect("a failure");
        assert_eq!(failed.step, Some(2));
        assert!(matches!(failed.why, Failure::Pattern { .. }), "{failed:?}");
        assert_eq!(case.status, None);
    });
}

#[test]
fn a_guest_that_is_stopped_from_outside_has_no_verdict() {
    each_mode(|mode| {
        let scenario = Scenario::new("stopped", kernel(mode, "sleep 100000"))
            .timeout(LONG)
            .status(0);
        let case = ci::run_case(&scenario, |stop| {
            stop.stop(hypervisor::StopReason::Signal(15));
        });
        assert_eq!(case.signal(), Some(15));
        assert_eq!(case.verdict, Verdict::Error);
    });
}

#[test]
fn the_same_scenario_runs_again() {
    each_mode(|mode| {
        let scenario = Scenario::new("again", kernel(mode, "echo hello"))
            .timeout(LONG)
            .expect("hello")
            .expect("a pattern")
            .status(0);
        for _ in 0..2 {
            let case = ci::run_case(&scenario, |_| {});
            assert_eq!(case.verdict, Verdict::Passed, "{}", case.evidence());
            assert_eq!(case.status, Some(0));
        }
    });
}
