//! The memory balloon, driven by the kernel in each mode.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hypercall_abi::Mode;
use hypervisor::Config;
use hypervisor::io::{BalloonHandle, Device};
use tests::{Ran, each_mode, kernel, run, run_with};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// One test at a time: the memory of the process is measured.
static ALONE: Mutex<()> = Mutex::new(());

fn with(mode: Mode, memory: u64, balloon: u64, script: &str) -> Config {
    let mut config = kernel(mode, script);
    config.memory_bytes = memory * MIB;
    config.devices = vec![Device::Balloon(balloon * MIB)];
    config
}

#[track_caller]
fn assert_says(ran: &Ran, text: &str) {
    assert!(ran.output.contains(text), "{text}: {}", ran.output);
}

/// Wait until the guest says that it has given so many pages.
fn wait_for(handle: &BalloonHandle, pages: u32) {
    let begin = Instant::now();
    while handle.actual() != pages {
        let actual = handle.actual();
        assert!(begin.elapsed() < PATIENCE, "{actual} pages, not {pages}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_balloon_follows_the_host_s_wish() {
    let _alone = ALONE.lock();
    each_mode(|mode| {
        let script = "balloon 4096; balloon 100; balloon 3000; balloon 0; lsdev";
        let mut host = None;
        let ran = run_with(with(mode, 64, 16, script), |vm| {
            let handle = vm.balloon().expect("there is a balloon");
            host = Some(thread::spawn(move || {
                for pages in [4096, 100, 3000, 0] {
                    handle.set_target(pages);
                    wait_for(&handle, pages);
                    // The guest looks each 5 ms.
                    thread::sleep(Duration::from_millis(50));
                }
            }));
        });
        let host = host.expect("the machine was built");
        assert_eq!(ran.status(), 0, "{}", ran.output);
        host.join().expect("the guest said so each time");
        assert_says(&ran, "100 pages wanted, 100 given; 0 taken back in need");
        assert_says(
            &ran,
            "  balloon                    memory   virtio-mmio  virtio-balloon",
        );
    });
}

#[test]
fn a_wish_for_too_much_leaves_the_guest_enough() {
    let _alone = ALONE.lock();
    each_mode(|mode| {
        let ran = run(with(mode, 32, 32, "sleep 300; balloon; mem use 1024; mem"));
        assert_eq!(ran.status(), 0, "{}", ran.output);
        assert_says(&ran, "8192 pages wanted, ");
        assert!(!ran.output.contains("8192 given"), "{}", ran.output);
    });
}

#[test]
fn memory_comes_back_in_need() {
    let _alone = ALONE.lock();
    each_mode(|mode| {
        // It grows again as soon as much is free.
        let script = "balloon 4096; mem use 20000; balloon; balloon 4096";
        let ran = run(with(mode, 32, 16, script));
        assert_eq!(ran.status(), 0, "{}", ran.output);
        let relieved: Vec<&str> = ran
            .output
            .lines()
            .filter(|line| line.contains("taken back in need"))
            .collect();
        assert!(
            relieved[0].contains("4096 given; 0 taken back"),
            "{relieved:?}"
        );
        assert!(!relieved[1].contains(" 0 taken back"), "{relieved:?}");
        assert_says(&ran, "used 20000 KiB\n");
    });
}

/// The memory that this process has, in bytes: proc(5), statm.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse::<u64>().ok());
    pages.expect("a number of pages") * 4096
}

#[test]
fn what_the_guest_does_not_use_any_more_is_the_host_s_again() {
    let _alone = ALONE.lock();
    each_mode(|mode| {
        let (peak, last) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = (peak.clone(), last.clone(), is_over.clone());
        let watch = thread::spawn(move || {
            while !seen.2.load(Ordering::Relaxed) {
                let now = resident();
                seen.0.fetch_max(now, Ordering::Relaxed);
                seen.1.store(now, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        let config = with(mode, 48, 0, "mem use 24576; sleep 600; balloon; sleep 50");
        let mut ran = None;
        thread::scope(|scope| {
            // What was seen last is from before the machine's memory is unmapped.
            let run = scope.spawn(|| {
                run_with(config, |vm| {
                    let handle = vm.balloon().expect("there is a balloon");
                    assert_eq!(handle.actual(), 0);
                })
            });
            ran = run.join().ok();
        });
        is_over.store(true, Ordering::Relaxed);
        watch.join().expect("the watch watches");
        let ran = ran.expect("the run does not panic");
        assert_eq!(ran.status(), 0, "{}", ran.output);
        let (_, line) = ran
            .output
            .split_once("given; 0 taken back in need, ")
            .expect("a line");
        let reported: u64 = line
            .split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a number");
        assert!(reported > 4_500, "{reported} pages of 6144");
        let (peak, last) = (peak.load(Ordering::Relaxed), last.load(Ordering::Relaxed));
        assert!(
            peak - last > 14 * MIB,
            "{peak} at the most, {last} at the end"
        );
    });
}
