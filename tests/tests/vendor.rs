//! Calls of other people, declared and served here: a number of theirs is as well kept as one of
//! ours.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::CallError;
use hypervisor::vendor::Vendors;
use hypervisor::{End, HostError, StopReason, Vm};
use tests::{Output, need_kvm, run_with, script};

hypercall_abi::hypercalls! {
    /// Calls of these tests.
    topic ours {
        /// Add two numbers.
        0x8001 add(a: u32, b: u8) -> u64 tier machine in [pv];
        /// Count, from the ring.
        0x8002 count() -> () tier batch in [pv];
        /// A call of other modes.
        0x8003 native() -> () tier machine in [hvm, trap];
        /// A call of other modes, from the ring.
        0x8004 native_batch() -> () tier batch in [patch];
        /// Sum bytes in guest memory.
        0x8005 sum(at: GuestPtr<u8>, len: u16) -> u64 tier machine in [pv];
        /// Answer with any word.
        0xffff answer(word: u64) -> u64 tier machine in [pv];
    }
    /// Calls that cannot be registered.
    topic refused {
        /// Below the vendors' range.
        0x7fff below() -> () tier machine in [pv];
        /// Above it.
        0x10000 above() -> () tier machine in [pv];
        /// Ours.
        0x40 taken() -> () tier machine in [pv];
        /// Without an exit.
        0x8006 inside() -> () tier monitor in [pv];
    }
}

fn serve(vendors: &mut Vendors, counted: &Arc<AtomicU64>) -> Result<(), HostError> {
    let counted = Arc::clone(counted);
    vendors.on(
        ours::calls::add,
        |_, (a, b)| Ok(u64::from(a) + u64::from(b)),
    )?;
    vendors.on(ours::calls::count, move |_, ()| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    })?;
    vendors.on(ours::calls::native, |_, ()| Ok(()))?;
    vendors.on(ours::calls::native_batch, |_, ()| Ok(()))?;
    vendors.on(ours::calls::sum, |memory, (at, len)| {
        let mut bytes = vec![0; usize::from(len)];
        memory.read(at.0, &mut bytes)?;
        Ok(bytes.iter().map(|byte| u64::from(*byte)).sum())
    })?;
    vendors.on(ours::calls::answer, |_, (word,)| match word {
        0 => Err(CallError::Vendor),
        word => Ok(word),
    })
}

#[track_caller]
fn answers(statements: &str) -> (Vec<String>, u64) {
    let counted = Arc::new(AtomicU64::new(0));
    let ran = run_with(script(statements), |vm| {
        serve(vm.vendors(), &counted).expect("the calls can be registered");
    });
    let lines = ran.lines().into_iter().map(str::to_owned).collect();
    (lines, counted.load(Ordering::Relaxed))
}

#[test]
fn a_vendor_call_is_served_with_typed_arguments() {
    need_kvm!();
    let (lines, _) = answers(
        "machine 8001 ffffffff ff; machine 8001 100000000 0; machine 8001 1 100; \
         fill 800000 3 5; machine 8005 800000 3; machine 8005 800000 10000; \
         machine 8005 ffffff 2; machine 8005 fd000000 1",
    );
    assert_eq!(
        lines,
        [
            "Ok(1000000fe)",
            "Err(BadArgument)",
            "Err(BadArgument)",
            "Ok(f)",
            "Err(BadArgument)",
            "Err(BadRange)",
            "Err(BadRange)"
        ]
    );
}

#[test]
fn a_vendor_call_of_another_mode_is_refused_as_such() {
    need_kvm!();
    let (lines, _) = answers("machine 8003; batch 8004; machine 8004; batch 8003; monitor 8003");
    assert_eq!(
        lines,
        [
            "Err(WrongMode)",
            "Err(WrongMode)",
            "Err(WrongMode)",
            "Err(Unknown)",
            "Err(Unknown)"
        ]
    );
}

#[test]
fn only_a_vendor_call_of_tier_batch_is_reached_from_the_ring() {
    need_kvm!();
    let (lines, counted) = answers("batch 8002; machine 8002; batch 8001 1 2; batch ffff 1");
    assert_eq!(lines, ["Ok(0)", "Ok(0)", "Err(Unknown)", "Err(Unknown)"]);
    assert_eq!(counted, 2);
}

#[test]
fn an_answer_that_looks_like_an_error_is_one() {
    need_kvm!();
    let (lines, _) = answers(
        "machine ffff 7fffffffffffffff; machine ffff 8000000000000000; machine ffff ffffffffffffffff; \
         machine ffff 0",
    );
    assert_eq!(
        lines,
        [
            "Ok(7fffffffffffffff)",
            "Err(BadArgument)",
            "Err(BadArgument)",
            "Err(Vendor)"
        ]
    );
}

#[test]
fn a_number_that_is_not_free_for_vendors_is_refused_by_name() {
    let mut vendors = Vendors::default();
    let sentences = [
        vendors.on(refused::calls::below, |_, ()| Ok(())),
        vendors.on(refused::calls::above, |_, ()| Ok(())),
        vendors.on(refused::calls::taken, |_, ()| Ok(())),
        vendors.on(refused::calls::inside, |_, ()| Ok(())),
        serve(&mut vendors, &Arc::default()).and_then(|()| serve(&mut vendors, &Arc::default())),
    ]
    .map(|result| result.expect_err("it is refused").to_string());
    for (sentence, number) in sentences.iter().zip([
        "0x7fff (below)",
        "0x10000 (above)",
        "0x40 (taken)",
        "0x8006 (inside)",
        "0x8001 (add)",
    ]) {
        assert!(sentence.contains(number), "{sentence}");
    }
}

#[test]
fn a_handler_that_panics_leaves_the_run_by_its_panic_and_nothing_hangs() {
    need_kvm!();
    for call in ["machine 8001 1 2", "batch 8002"] {
        let output = Output::default();
        let config = script(&format!("say before; {call}; say never"));
        let mut vm = Vm::new(config, Box::new(output.clone())).expect("it can be built");
        let vendors = vm.vendors();
        let registered = vendors
            .on(ours::calls::add, |_, _| panic!("the handler is wrong"))
            .and_then(|()| vendors.on(ours::calls::count, |_, ()| panic!("the handler is wrong")));
        registered.expect("the calls can be registered");
        let stop = vm.stop_handle();
        let panic = catch_unwind(AssertUnwindSafe(|| vm.run())).expect_err("it panics");
        assert_eq!(panic.downcast_ref(), Some(&"the handler is wrong"));
        assert_eq!(output.text(), "before\n");
        // Whoever waits for the run's end is told, and the machine can be dropped.
        assert!(stop.stop(StopReason::Timeout));
        drop(vm);
    }
}

#[test]
fn a_handler_may_stop_its_own_guest() {
    need_kvm!();
    let ran = run_with(script("machine 8001 1 2; say never"), |vm| {
        let stop = vm.stop_handle();
        let registered = vm.vendors().on(ours::calls::add, move |_, _| {
            assert!(
                !stop.stop(StopReason::Signal(1)),
                "the run goes on until this returns"
            );
            Ok(0)
        });
        registered.expect("the call can be registered");
    });
    assert_eq!(ran.outcome.end, End::Stopped(StopReason::Signal(1)));
    assert_eq!(ran.output, "");
}
