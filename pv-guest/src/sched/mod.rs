//! Threads of the kernel, preempted and round robin, on one processor.
//!
//! The policy says who runs next, the alarm when the timer must fire, and this module carries both
//! out: it owns the state, arms the timer and switches contexts.

mod alarm;
mod list;
mod policy;
mod state;
mod thread;

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::arch::context::Context;
use crate::mm::stacks::Stack;
use crate::sync::{SpinLock, hold_interrupts};
use crate::{hooks, time};

use alarm::Alarm;
use list::Slot;
pub use list::{List, MAX_THREADS};
pub use policy::NEVER;
use policy::{Policy, Switch};
pub use state::{State, ThreadId};
use thread::Entry;
pub use thread::{JoinHandle, SpawnError, exit, spawn};

static SCHEDULER: SpinLock<Scheduler> = SpinLock::new(Scheduler::new());
static CONTEXTS: [Context<Stack>; MAX_THREADS] = [const { Context::new() }; MAX_THREADS];
/// Whether the current thread must give way once its interrupt is handled.
static MUST_SWITCH: AtomicBool = AtomicBool::new(false);
/// The current thread's number, for those who must not take a lock.
static CURRENT: AtomicU32 = AtomicU32::new(0);
/// The same thread's slot.
static CURRENT_SLOT: AtomicU32 = AtomicU32::new(0);

struct Scheduler {
    policy: Policy,
    alarm: Alarm,
    entries: [Option<Entry>; MAX_THREADS],
}

impl Scheduler {
    const fn new() -> Self {
        Self {
            policy: Policy::new(),
            alarm: Alarm::new(),
            entries: [const { None }; MAX_THREADS],
        }
    }

    /// Let an admitted thread have its turn.
    fn launch(&mut self, id: ThreadId, entry: Entry, stack: Stack) {
        self.entries[id.slot.index()] = Some(entry);
        CONTEXTS[id.slot.index()].adopt(stack, thread::begin);
        self.wake(|policy| policy.make_ready(id.slot));
    }

    fn take_entry(&mut self) -> Option<Entry> {
        self.entries[self.policy.current().slot.index()].take()
    }

    fn wait_for(&mut self, id: ThreadId) -> Option<Switch> {
        let switch = self.policy.wait_for(id)?;
        Some(self.prepare(switch))
    }

    fn exit(&mut self) -> Switch {
        let switch = self.policy.exit();
        self.prepare(switch)
    }

    /// Make threads ready, and see to it that they get their turn.
    fn wake(&mut self, wake: impl FnOnce(&mut Policy)) {
        wake(&mut self.policy);
        if self.policy.is_idle() && self.policy.has_ready() {
            MUST_SWITCH.store(true, Ordering::Relaxed);
        }
        self.arm(time::now_ns);
    }

    /// The policy has chosen who runs next: make the rest of the state follow.
    fn prepare(&mut self, switch: Switch) -> Switch {
        let current = self.policy.current();
        CURRENT.store(current.number(), Ordering::Relaxed);
        CURRENT_SLOT.store(current.slot.index() as u32, Ordering::Relaxed);
        MUST_SWITCH.store(false, Ordering::Relaxed);
        self.arm(time::now_ns);
        switch
    }

    fn arm(&mut self, now: impl FnOnce() -> u64) {
        let (wants_tick, earliest) = (self.policy.wants_tick(), self.policy.earliest());
        if let Some(delta_ns) = self.alarm.plan(wants_tick, earliest, now) {
            hooks::arm_timer(delta_ns);
        }
    }

    /// The timer fired: wake who is due, and end the current thread's time slice.
    fn tick(&mut self, now: u64) {
        self.alarm.fired();
        self.policy.wake_sleepers(now);
        if self.policy.has_ready() {
            MUST_SWITCH.store(true, Ordering::Relaxed);
        }
        self.arm(|| now);
    }
}

fn with_scheduler<R>(work: impl FnOnce(&mut Scheduler) -> R) -> R {
    work(&mut SCHEDULER.lock())
}

/// Carry a switch out. Interrupts are off, and stay off; returns when the old thread's turn comes.
fn perform(switch: Switch) {
    if switch.from != switch.to {
        CONTEXTS[switch.from.index()].switch_to(&CONTEXTS[switch.to.index()]);
    }
}

/// Let a choice of the policy happen now.
fn switch(choose: impl FnOnce(&mut Policy) -> Switch) {
    let _held = hold_interrupts();
    perform(with_scheduler(|s| {
        let switch = choose(&mut s.policy);
        s.prepare(switch)
    }));
}

/// Leave the boot stack for good: `main` becomes the first thread.
///
/// # Errors
/// [`SpawnError`].
pub fn start(
    main: impl FnOnce() + Send + 'static,
) -> Result<core::convert::Infallible, SpawnError> {
    static BOOT: Context<Stack> = Context::running();
    let idle = Stack::new().ok_or(SpawnError::NoMemory)?;
    CONTEXTS[Slot::IDLE.index()].adopt(idle, idle_thread);
    drop(spawn("main", main)?);
    let first = with_scheduler(|s| {
        let switch = s.policy.give_way();
        s.prepare(switch).to
    });
    BOOT.switch_to(&CONTEXTS[first.index()]);
    unreachable!("the boot stack is left for good")
}

/// The thread that runs when no other can: it sleeps until an interrupt makes one ready.
extern "sysv64" fn idle_thread() -> ! {
    loop {
        thread::bury();
        hooks::idle();
        preempt();
    }
}

/// The timer's top half.
pub(crate) fn on_timer() {
    with_scheduler(|s| s.tick(time::now_ns()));
}

/// Switch if an interrupt handler found that it is time. Called with interrupts off, at the end of
/// an interrupt of a context that had them on, or was about to.
pub(crate) fn preempt() {
    if MUST_SWITCH.load(Ordering::Relaxed) {
        switch(Policy::give_way);
    }
}

/// Let the other ready threads run first.
pub fn yield_now() {
    switch(Policy::give_way);
}

/// Sleep for at least this many nanoseconds.
pub fn sleep_ns(ns: u64) {
    let until = time::now_ns().saturating_add(ns);
    switch(|policy| policy.sleep_until(until));
}

/// Sleep until a moment, by [`time::now_ns`], or until [`rouse`] ends it: [`NEVER`] for the latter
/// alone.
pub(crate) fn sleep_until(at: u64) {
    switch(|policy| policy.sleep_until(at));
}

/// Wake a thread that sleeps before its time; `false` when it does not sleep. Interrupt handlers may
/// call this.
pub(crate) fn rouse(id: ThreadId) -> bool {
    with_scheduler(|s| {
        let mut was_asleep = false;
        s.wake(|policy| was_asleep = policy.rouse(id));
        was_asleep
    })
}

/// Wait in a list until [`wake_from`] takes the calling thread out.
pub(crate) fn wait_in(list: &SpinLock<List>) {
    let _held = hold_interrupts();
    let mut waiters = list.lock();
    let switch = with_scheduler(|s| {
        let switch = s.policy.wait_in(&mut waiters);
        s.prepare(switch)
    });
    drop(waiters);
    perform(switch);
}

/// Make the first `most` threads of a list ready.
pub(crate) fn wake_from(list: &SpinLock<List>, most: usize) {
    let mut list = list.lock();
    if list.is_empty() {
        return;
    }
    with_scheduler(|s| {
        s.wake(|policy| {
            let mut left = most;
            while left > 0 && policy.wake_first(&mut list) {
                left -= 1;
            }
        });
    });
}

/// Let the first thread of a list run next, ahead of all that are ready, and soon: when the
/// interrupt is over.
pub(crate) fn wake_ahead(list: &SpinLock<List>) {
    let mut list = list.lock();
    if list.is_empty() {
        return;
    }
    with_scheduler(|s| {
        s.wake(|policy| {
            if policy.wake_first_ahead(&mut list) {
                MUST_SWITCH.store(true, Ordering::Relaxed);
            }
        });
    });
}

/// Who runs now. Takes no lock.
pub fn current() -> ThreadId {
    let index = CURRENT_SLOT.load(Ordering::Relaxed) as usize;
    ThreadId {
        slot: Slot::new(index).unwrap_or(Slot::IDLE),
        number: CURRENT.load(Ordering::Relaxed),
    }
}

/// The current thread's name, unless the scheduler itself is at work: for reports.
pub(crate) fn current_name() -> Option<&'static str> {
    let scheduler = SCHEDULER.try_lock()?;
    let slot = scheduler.policy.current().slot;
    if slot == Slot::IDLE {
        return Some("idle");
    }
    scheduler.policy.thread(slot).name
}

/// What a listing shows of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadInfo {
    /// The thread's number.
    pub number: u32,
    /// Its name.
    pub name: &'static str,
    /// What it is doing.
    pub state: State,
    /// How often it got the processor.
    pub runs: u64,
}

/// Visit every thread. Each row is a snapshot of its own; threads may come and go meanwhile.
pub fn for_each_thread(mut visit: impl FnMut(ThreadInfo)) {
    for slot in Slot::all() {
        let info = with_scheduler(|s| {
            let thread = s.policy.thread(slot);
            (thread.state != State::Free).then(|| ThreadInfo {
                number: thread.number,
                name: thread.name.unwrap_or("idle"),
                state: thread.state,
                runs: thread.runs,
            })
        });
        if let Some(info) = info {
            visit(info);
        }
    }
}
