//! A storm of two interrupt vectors, and one of timers between them, at random offsets.
//!
//! The argument: `A B ROUNDS`, vectors in hexadecimal. The guest sends both to itself, in both
//! orders, with its interrupt flag on and off, while the timer fires whenever it likes, up to
//! [`TIMERS`] times a round: a timer that is always armed again leaves a slow host no time for
//! anything else. At the end every vector must have come, no interrupt may be lost, and the stack must
//! have stayed shallow.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::boot::BootInfo;
use hypercall_abi::table::irq::Guest as _;
use hypercall_abi::table::time::Guest as _;
use hypercall_abi::{GuestVirt, Vector, layout};
use pv_runtime::{PAGE, TrapFrame, shared_page};

use crate::{events, exit, println};

static SEEN: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
static LOWEST_STACK: AtomicU64 = AtomicU64::new(u64::MAX);
static WITH_FLAG_OFF: AtomicU64 = AtomicU64::new(0);
/// How often the timer fires in a round.
const TIMERS: u64 = 16;
/// How often it may still be armed in this round.
static TIMERS_LEFT: AtomicU64 = AtomicU64::new(0);

fn handle(vector: u64) {
    let _ = PAGE.end_of_interrupt();
    if let Some(seen) = SEEN.get(vector as usize) {
        seen.fetch_add(1, Ordering::Relaxed);
    }
    if vector == u64::from(layout::TIMER_VECTOR) {
        arm_timer();
    }
}

fn arm_timer() {
    let less = |left: u64| left.checked_sub(1);
    if TIMERS_LEFT
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
    {
        let _ = PAGE.arm_timer(2_000 + random() as u32 % 30_000);
    }
}

fn on_event(frame: &mut TrapFrame) {
    LOWEST_STACK.fetch_min(&raw const *frame as u64, Ordering::Relaxed);
    if frame.vector == layout::ENTRY_PENDING {
        deliver();
        return;
    }
    if frame.vector < 32 {
        println!("exception {} at {:#x}", frame.vector, frame.rip);
        exit(94);
    }
    if frame.rflags & 0x200 == 0 {
        WITH_FLAG_OFF.fetch_add(1, Ordering::Relaxed);
    }
    handle(frame.vector);
}

fn deliver() {
    let pending = &shared_page().pending;
    while let Some(vector) = pending.load(Ordering::Acquire).checked_ilog2() {
        pending.fetch_and(!(1 << vector), Ordering::AcqRel);
        handle(u64::from(vector));
    }
}

fn enable() {
    let shared = shared_page();
    shared.hold.cli.store(0, Ordering::SeqCst);
    if shared.needs_unmask.load(Ordering::SeqCst) != 0 {
        loop {
            shared.hold.cli.store(1, Ordering::SeqCst);
            deliver();
            if PAGE.unmask() == Ok(0) {
                return;
            }
        }
    }
}

static STATE: AtomicU64 = AtomicU64::new(0x1234_5678_9abc_def1);

/// xorshift64.
fn random() -> u64 {
    let mut x = STATE.load(Ordering::Relaxed);
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    STATE.store(x, Ordering::Relaxed);
    x
}

fn spin(turns: u64) {
    for turn in 0..turns {
        core::hint::black_box(turn);
    }
}

/// See the module.
pub fn storm(_: &'static BootInfo, argument: &str) {
    let mut words = argument.split(' ');
    let mut vector = || {
        words
            .next()
            .and_then(|word| u8::from_str_radix(word, 16).ok())
            .and_then(Vector::new)
    };
    let (Some(a), Some(b)) = (vector(), vector()) else {
        exit(96)
    };
    let rounds: u64 = words
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(1000);
    if PAGE
        .set_event_entries(GuestVirt(pv_runtime::entries()))
        .is_err()
    {
        exit(95);
    }
    events::on_event(on_event);
    enable();
    let here = &raw const rounds as u64;

    let mut sent = [0u64; 2];
    for round in 0..rounds {
        TIMERS_LEFT.store(TIMERS, Ordering::Relaxed);
        arm_timer();
        let before = [a, b].map(|v| SEEN[usize::from(v.number())].load(Ordering::Relaxed));
        let order = if random() & 1 == 0 { [a, b] } else { [b, a] };
        let held = random() & 1 == 0;
        if held {
            shared_page().hold.cli.store(1, Ordering::SeqCst);
        }
        for vector in order {
            if PAGE.send_interrupt(0, vector).is_err() {
                exit(93);
            }
            sent[usize::from(vector == b)] += 1;
            spin(random() % 64);
        }
        if held {
            enable();
        }
        // Neither may be lost: both have to arrive, soon.
        let mut turns = 0u64;
        while [a, b]
            .iter()
            .zip(before)
            .any(|(v, n)| SEEN[usize::from(v.number())].load(Ordering::Relaxed) == n)
        {
            turns += 1;
            if turns > 200_000_000 {
                println!(
                    "round {round}: lost one; pending {:#x}",
                    shared_page().pending.load(Ordering::Relaxed)
                );
                exit(92);
            }
            core::hint::spin_loop();
        }
    }
    let depth = here.saturating_sub(LOWEST_STACK.load(Ordering::Relaxed));
    let count = |v: Vector| SEEN[usize::from(v.number())].load(Ordering::Relaxed);
    println!(
        "sent {} {}, seen {} {}, timers {}, with the flag off {}, stack {}",
        sent[0],
        sent[1],
        count(a),
        count(b),
        SEEN[usize::from(layout::TIMER_VECTOR)].load(Ordering::Relaxed),
        WITH_FLAG_OFF.load(Ordering::Relaxed),
        if depth < 4096 { "shallow" } else { "DEEP" },
    );
}
