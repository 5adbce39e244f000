use std::process::Command as Process;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::*;
use crate::device::feature;
use crate::driver::{Driver, WRITE};
use crate::echo::Echo;

const SHORT: Duration = Duration::from_millis(100);

fn echo(driver: &mut Driver, queue: usize, bytes: &[u8]) {
    driver.put(0x10_0000, bytes);
    let len = bytes.len() as u32;
    driver.submit(queue, &[(0x10_0000, len, 0), (0x10_1000, len, WRITE)]);
}

#[test]
fn an_idle_worker_does_not_wake() {
    let (device, seen) = Echo::new();
    let mut driver = Driver::new(device);
    driver.start(feature::EVENT_IDX);
    echo(&mut driver, 0, b"hello");
    driver.wait_used(0, 1);
    std::thread::sleep(SHORT);
    let steps = seen.steps.load(Ordering::SeqCst);
    std::thread::sleep(SHORT);
    assert_eq!(seen.steps.load(Ordering::SeqCst), steps);
}

#[test]
fn a_descriptor_of_the_device_is_served() {
    let (device, _) = Echo::new();
    let event = Arc::clone(&device.event);
    let mut driver = Driver::new(device);
    driver.start(0);
    for _ in 0..3 {
        event.write(1).expect("rings");
        assert_eq!(driver.interrupted(), 1);
    }
}

#[test]
fn a_configuration_change_reaches_the_driver_from_any_thread() {
    let (mut device, _) = Echo::new();
    let mut driver = {
        let told = Arc::new(std::sync::Mutex::new(None));
        let keep = Arc::clone(&told);
        device.keep = Some(Box::new(move |tell| {
            *keep.lock().expect("whole") = Some(tell)
        }));
        let driver = Driver::new(device);
        let tell = told.lock().expect("whole").take().expect("told once");
        (driver, tell)
    };
    driver.0.start(0);
    let tell = driver.1;
    std::thread::spawn(move || tell()).join().expect("no panic");
    assert_eq!(driver.0.interrupted(), 2);
}

#[test]
fn after_a_bad_chain_the_device_needs_a_reset_and_the_worker_stops() {
    for queue in [0, 1] {
        let (device, seen) = Echo::new();
        let mut driver = Driver::new(device);
        driver.start(0);
        driver.submit(queue, &[(0x10_1000, 5, WRITE), (0x10_0000, 5, 0)]);
        assert!(driver.wait_fault().starts_with(&format!("queue {queue}: ")));
        assert_eq!(driver.interrupted(), 2, "a configuration change (2.1.2)");
        // Nothing is served any more, in no queue.
        let steps = seen.steps.load(Ordering::SeqCst);
        echo(&mut driver, 1 - queue, b"hello");
        std::thread::sleep(SHORT);
        assert_eq!(driver.rings[1 - queue].used_index(&driver.memory), 0);
        assert_eq!(seen.steps.load(Ordering::SeqCst), steps);
        driver.set_ready(1 - queue, 0);
        driver.set_status(0);
        assert_eq!(driver.status(), 0);
        driver.start(0);
        echo(&mut driver, queue, b"hello");
        driver.wait_used(queue, 1);
    }
}

#[test]
fn a_driver_is_told_of_a_failure_until_it_has_heard() {
    let (device, _) = Echo::new();
    let mut driver = Driver::new(device);
    driver.start(0);
    driver.submit(0, &[(0x10_1000, 5, WRITE), (0x10_0000, 5, 0)]);
    driver.wait_fault();
    // The driver takes the first two for something else, and acknowledges the third.
    for _ in 0..2 {
        assert!(driver.is_interrupted_within(crate::driver::PATIENCE));
    }
    assert_eq!(driver.interrupted(), 2);
    assert!(!driver.is_interrupted_within(Duration::from_millis(1500)));
}

#[test]
fn an_index_too_far_ahead_needs_a_reset() {
    let (device, _) = Echo::new();
    let mut driver = Driver::new(device);
    driver.start(0);
    driver.lay_out(0, 0, &[(0x10_0000, 5, 0)]);
    driver.rings[0].set_available_index(&driver.memory, 17);
    driver.kick(0);
    assert!(driver.wait_fault().contains("16 entries ahead"));
}

#[test]
fn a_full_ring_is_served() {
    let (device, _) = Echo::new();
    let mut driver = Driver::new(device);
    driver.start(0);
    driver.put(0x10_0000, b"hello");
    for head in 0..16 {
        driver.lay_out(0, head, &[(0x10_0000, 5, 0)]);
        driver.rings[0].offer(&driver.memory, head);
    }
    driver.kick(0);
    driver.wait_used(0, 16);
}

#[test]
fn a_driver_that_refills_forever_keeps_no_worker_from_stopping() {
    let (device, seen) = Echo::new();
    let mut driver = Driver::new(device);
    driver.start(0);
    driver.lay_out(0, 0, &[(0x10_0000, 5, 0)]);
    let (memory, rings) = (driver.memory.clone(), driver.rings[0]);
    let doorbell = driver.transport.doorbells()[0]
        .try_clone()
        .expect("a clone");
    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let other_cpu = std::thread::spawn(move || {
        while !over.load(Ordering::SeqCst) {
            // Keep the ring full, as the device goes on.
            let next = rings.used_index(&memory).wrapping_add(16);
            rings.set_available_index(&memory, next);
            let _ = doorbell.write(1);
        }
    });
    let begin = Instant::now();
    while seen.steps.load(Ordering::SeqCst) < 100 {
        assert_eq!(driver.transport.fault(), None);
        assert!(
            begin.elapsed() < crate::driver::PATIENCE,
            "it is not served"
        );
        std::thread::yield_now();
    }
    let start = Instant::now();
    driver.set_status(0);
    let served = seen.steps.load(Ordering::SeqCst);
    let took = start.elapsed();
    is_over.store(true, Ordering::SeqCst);
    other_cpu.join().expect("no panic");
    assert!(served >= 100, "{served} steps");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn interrupts_are_suppressed_as_the_driver_asks() {
    let (device, _) = Echo::new();
    let mut driver = Driver::new(device);
    // Without EVENT_IDX: VIRTQ_AVAIL_F_NO_INTERRUPT.
    driver.start(0);
    driver.put(driver.rings[0].available, &[1, 0]);
    echo(&mut driver, 0, b"a");
    driver.wait_used(0, 1);
    assert!(!driver.is_interrupted_within(SHORT));
    // With EVENT_IDX: when the used index passes used_event.
    driver.start(feature::EVENT_IDX);
    driver.rings[0].set_used_event(&driver.memory, 1);
    echo(&mut driver, 0, b"a");
    driver.wait_used(0, 1);
    assert!(!driver.is_interrupted_within(SHORT));
    echo(&mut driver, 0, b"a");
    driver.wait_used(0, 2);
    assert_eq!(driver.interrupted(), 1);
}

#[test]
fn the_device_asks_for_the_next_doorbell() {
    let (device, _) = Echo::new();
    let mut driver = Driver::new(device);
    driver.start(feature::EVENT_IDX);
    for count in 1..40u16 {
        echo(&mut driver, 0, b"a");
        driver.wait_used(0, count);
        let start = Instant::now();
        while driver.rings[0].available_event(&driver.memory) != count {
            assert!(
                start.elapsed() < crate::driver::PATIENCE,
                "no avail_event {count}"
            );
            std::thread::yield_now();
        }
    }
}

const CHILD: &str = "PARAVANE_TEST_WORKER_CHILD";

/// The harness runs this in the child that the next test starts.
#[test]
fn child_has_a_worker_that_panics() {
    if std::env::var_os(CHILD).is_some() {
        let (device, _) = Echo::new();
        let mut driver = Driver::new(device);
        driver.start(0);
        echo(&mut driver, 0, b"panic");
        std::thread::sleep(Duration::from_secs(60));
    }
}

#[test]
fn a_panic_of_a_worker_ends_the_process() {
    let start = Instant::now();
    let output = Process::new(std::env::current_exe().expect("this test's path"))
        .args([
            "--exact",
            "worker::tests::child_has_a_worker_that_panics",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .output()
        .expect("the child runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("as the test wishes"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(10));
}
