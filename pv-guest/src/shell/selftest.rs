//! `selftest`: the kernel tries its own promises on the machine it runs on. For the test suite,
//! which runs it in every mode.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{Command, CommandError};
use crate::arch::raise;
use crate::sync::{Mutex, Semaphore, TimedQueue};
use crate::time::{MILLISECOND, SECOND, now_ns};
use crate::trap::{self, PAGE_FAULT, Resume};
use crate::{hooks, mm, println, sched};

pub const COMMANDS: &[Command] = &[Command {
    name: "selftest",
    args: "[NAME]",
    about: "check threads, time, faults and memory",
    run: selftest,
}];

/// A check's name, and the check.
type Check = (&'static str, fn() -> bool);

const CHECKS: [Check; 13] = [
    ("threads", threads_share_the_processor),
    ("preempt", busy_threads_are_preempted),
    ("semaphore", semaphores_hand_over),
    ("sleep", sleepers_wake_in_time),
    ("timed", timed_waits_end_by_news_or_by_the_clock),
    ("mutex", a_mutex_is_held_by_one_thread),
    ("full", the_thread_table_fills_and_empties),
    ("heap", the_heap_grows_and_is_given_back),
    ("map", pages_come_and_go),
    ("rights", pages_are_as_restricted_as_they_should),
    ("root", roots_share_the_kernel),
    ("fault", exceptions_are_passed_over),
    ("breakpoint", breakpoints_are_counted),
];

fn selftest(args: &str) -> Result<(), CommandError<'_>> {
    let mut failed = 0;
    let chosen = |check: &&Check| args.is_empty() || args == check.0;
    for (name, check) in CHECKS.iter().filter(chosen) {
        let is_good = check();
        println!("{name}: {}", if is_good { "ok" } else { "FAILED" });
        failed += u32::from(!is_good);
    }
    match failed {
        0 => Ok(()),
        count => Err(CommandError::Failed(count)),
    }
}

/// Run `count` threads at once; `false` when one could not be made.
fn run_threads(count: u32, work: impl Fn(u32) + Clone + Send + 'static) -> bool {
    let spawn = |number| {
        let work = work.clone();
        sched::spawn("selftest", move || work(number))
    };
    let handles: Result<Vec<_>, _> = (0..count).map(spawn).collect();
    handles
        .map(|all| all.into_iter().for_each(|one| one.join()))
        .is_ok()
}

fn threads_share_the_processor() -> bool {
    let sum = Arc::new(AtomicU32::new(0));
    let add = sum.clone();
    let all_ran = run_threads(8, move |number| {
        for _ in 0..50 {
            add.fetch_add(number, Ordering::Relaxed);
            sched::yield_now();
        }
    });
    all_ran && sum.load(Ordering::Relaxed) == 50 * (1 + 2 + 3 + 4 + 5 + 6 + 7)
}

/// Each waits for the other without giving way: only the timer can let both go on.
fn busy_threads_are_preempted() -> bool {
    let seen = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
    let deadline = now_ns().saturating_add(10 * SECOND);
    let shared = seen.clone();
    let all_ran = run_threads(2, move |number| {
        let (own, other) = match number {
            0 => (&shared[0], &shared[1]),
            _ => (&shared[1], &shared[0]),
        };
        own.store(true, Ordering::Relaxed);
        while !other.load(Ordering::Relaxed) && now_ns() < deadline {}
    });
    all_ran && now_ns() < deadline
}

fn semaphores_hand_over() -> bool {
    let ball = Arc::new((Semaphore::new(0), Semaphore::new(0), AtomicU32::new(0)));
    let shared = ball.clone();
    let all_ran = run_threads(2, move |number| {
        let (ping, pong, count) = &*shared;
        for round in 0..50 {
            match number {
                0 => {
                    pong.release();
                    ping.acquire();
                }
                _ => {
                    pong.acquire();
                    if count.fetch_add(1, Ordering::Relaxed) == round {
                        ping.release();
                    }
                }
            }
        }
    });
    all_ran && ball.2.load(Ordering::Relaxed) == 50
}

/// None before its time, and in the order of their times, unless a busy host started them too late.
fn sleepers_wake_in_time() -> bool {
    let order = Arc::new(AtomicU32::new(0));
    let is_early = Arc::new(AtomicBool::new(false));
    let is_late = Arc::new(AtomicBool::new(false));
    let begin = now_ns();
    let shared = (order.clone(), is_early.clone(), is_late.clone());
    let all_ran = run_threads(3, move |number| {
        let (order, is_early, is_late) = &shared;
        let until = begin + u64::from(30 - 10 * number) * MILLISECOND;
        let start = now_ns();
        sched::sleep_ns(until.saturating_sub(start));
        is_late.fetch_or(start > begin + 10 * MILLISECOND, Ordering::Relaxed);
        is_early.fetch_or(now_ns() < until, Ordering::Relaxed);
        let append = |digits| Some(digits * 10 + number);
        // Never refused: the closure always says yes.
        let _ = order.fetch_update(Ordering::Relaxed, Ordering::Relaxed, append);
    });
    let in_order = order.load(Ordering::Relaxed) == 210 || is_late.load(Ordering::Relaxed);
    all_ran && in_order && !is_early.load(Ordering::Relaxed)
}

/// Threads 0 and 1 wait, one of them for good; thread 2 brings the news that one of them waits for.
fn timed_waits_end_by_news_or_by_the_clock() -> bool {
    let queue = Arc::new((TimedQueue::new(), AtomicU32::new(0), AtomicU32::new(0)));
    let shared = queue.clone();
    let all_ran = run_threads(3, move |number| {
        let (queue, news, good) = &*shared;
        let arrived = |least| (news.load(Ordering::Relaxed) >= least).then_some(());
        let begin = now_ns();
        let is_good = match number {
            0 => queue.wait_until(sched::NEVER, || arrived(2)).is_some(),
            1 => {
                let result = queue.wait_until(begin + 30 * MILLISECOND, || arrived(3));
                result.is_none() && now_ns() >= begin + 30 * MILLISECOND
            }
            _ => {
                for _ in 0..2 {
                    sched::sleep_ns(5 * MILLISECOND);
                    news.fetch_add(1, Ordering::Relaxed);
                    queue.wake_all();
                }
                true
            }
        };
        good.fetch_add(u32::from(is_good), Ordering::Relaxed);
    });
    all_ran && queue.2.load(Ordering::Relaxed) == 3
}

/// Each sleeps between reading and writing, so that two holders would lose a count.
fn a_mutex_is_held_by_one_thread() -> bool {
    let sum = Arc::new(Mutex::new(0u32));
    let shared = sum.clone();
    let all_ran = run_threads(4, move |_| {
        for _ in 0..5 {
            let mut sum = shared.lock();
            let old = *sum;
            sched::sleep_ns(MILLISECOND / 4);
            *sum = old + 1;
        }
    });
    all_ran && *sum.lock() == 20
}

fn the_thread_table_fills_and_empties() -> bool {
    let free = mm::frames::counts().free;
    for _ in 0..2 {
        let gate = Arc::new(Semaphore::new(0));
        let mut handles = Vec::new();
        loop {
            let gate = gate.clone();
            match sched::spawn("selftest", move || gate.acquire()) {
                Ok(handle) => handles.push(handle),
                Err(_) => break,
            }
        }
        handles.iter().for_each(|_| gate.release());
        handles.into_iter().for_each(|handle| handle.join());
    }
    // What stays is the heap's growth, and a few stacks for the next threads.
    free - mm::frames::counts().free < 64
}

fn the_heap_grows_and_is_given_back() -> bool {
    let used = mm::heap_use().used;
    {
        let mut numbers = Vec::new();
        numbers.extend(0..40_000u32);
        let sum: u64 = numbers.iter().map(|number| u64::from(*number)).sum();
        if sum != 799_980_000 || mm::heap_use().used < used + 160_000 {
            return false;
        }
    }
    mm::heap_use().used == used
}

fn pages_come_and_go() -> bool {
    let Some(frame) = mm::frames::take() else {
        return false;
    };
    let before = faults(PAGE_FAULT, raise::READ_LENGTH, || raise::read(mm::SCRATCH));
    let is_mapped = mm::map(mm::SCRATCH, frame, mm::Access::Write).is_ok();
    let within = faults(PAGE_FAULT, raise::READ_LENGTH, || raise::read(mm::SCRATCH));
    let leads_there = mm::translate(mm::SCRATCH) == Some(frame.start().0);
    let is_back = mm::unmap(mm::SCRATCH) == Some(frame);
    let after = faults(PAGE_FAULT, raise::READ_LENGTH, || raise::read(mm::SCRATCH));
    mm::frames::put(frame);
    is_mapped && leads_there && is_back && (before, within, after) == (1, 0, 1)
}

fn pages_are_as_restricted_as_they_should() -> bool {
    let image = mm::image();
    let write = |at| {
        faults(PAGE_FAULT, raise::REWRITE_LENGTH, move || {
            raise::rewrite(at)
        })
    };
    let read = |at| faults(PAGE_FAULT, raise::READ_LENGTH, move || raise::read(at));
    let constants = write(image.text.start) + write(image.rodata.start);
    let alias = read(mm::to_virt(image.phys().start));
    let holes = read(0) + read(mm::STACKS);
    let data = write(image.data.start) + read(image.text.start);
    (constants, alias, holes, data) == (2, 1, 2, 0)
}

fn roots_share_the_kernel() -> bool {
    let Ok(root) = mm::Root::new() else {
        return false;
    };
    hooks::load_root(root.phys());
    sched::yield_now();
    let length = raise::READ_LENGTH;
    let reads = faults(PAGE_FAULT, length, || raise::read(mm::image().data.start));
    hooks::load_root(mm::root());
    reads == 0
}

fn exceptions_are_passed_over() -> bool {
    let counts = [
        faults(0, raise::DIVIDE_LENGTH, raise::divide_error),
        faults(6, raise::UNDEFINED_LENGTH, raise::undefined_instruction),
        faults(13, raise::READ_LENGTH, || raise::read(raise::NOT_CANONICAL)),
        faults(PAGE_FAULT, raise::READ_LENGTH, || raise::read(8)),
    ];
    counts == [1; 4]
}

fn breakpoints_are_counted() -> bool {
    let before = trap::breakpoints();
    raise::breakpoint();
    trap::breakpoints() == before + 1
}

/// How many exceptions of a vector the work raises; 99 when another expectation stands.
fn faults(vector: u8, len: u8, work: impl FnOnce()) -> u64 {
    let Some(expected) = trap::expect(vector, Resume::Skip(len)) else {
        return 99;
    };
    work();
    expected.count()
}
