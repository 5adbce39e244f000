//! Who runs next: the thread table and its lists, without any mechanism.
//!
//! Round robin: who becomes ready, or gives way, goes to the end of the queue. The idle thread runs
//! when the queue is empty, and is never in it.

use super::list::{Links, List, MAX_THREADS, Slot};
use super::state::{State, Thread, ThreadId};

/// The moment that does not come: until then sleeps who is roused by somebody.
pub const NEVER: u64 = u64::MAX;

/// A change of who has the processor; none when both are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the table says already that the other thread runs"]
pub struct Switch {
    /// Who had it.
    pub from: Slot,
    /// Who has it now.
    pub to: Slot,
}

/// The thread table.
#[derive(Debug)]
pub struct Policy {
    threads: [Thread; MAX_THREADS],
    links: Links,
    ready: List,
    sleepers: List,
    /// Ended threads that nobody joins.
    dead: List,
    current: Slot,
    last_number: u32,
}

impl Policy {
    /// A table with the idle thread alone, which runs.
    pub const fn new() -> Self {
        Self {
            threads: [const { Thread::free() }; MAX_THREADS],
            links: Links::new(),
            ready: List::new(),
            sleepers: List::new(),
            dead: List::new(),
            current: Slot::IDLE,
            last_number: 0,
        }
    }

    /// The row of a place.
    pub fn thread(&self, slot: Slot) -> &Thread {
        &self.threads[slot.index()]
    }

    fn thread_mut(&mut self, slot: Slot) -> &mut Thread {
        &mut self.threads[slot.index()]
    }

    /// Who has the processor.
    pub fn current(&self) -> ThreadId {
        let slot = self.current;
        let number = self.thread(slot).number;
        ThreadId { slot, number }
    }

    /// Whether nobody but the idle thread has the processor.
    pub fn is_idle(&self) -> bool {
        self.current == Slot::IDLE
    }

    /// Whether somebody waits for the processor.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether time must be sliced: more than one thread wants the processor.
    pub fn wants_tick(&self) -> bool {
        self.has_ready() && !self.is_idle()
    }

    /// When the first sleeper wakes; `None` when nobody sleeps, or all do [`NEVER`]'s sleep.
    pub fn earliest(&self) -> Option<u64> {
        let first = self.sleepers.first()?;
        Some(self.thread(first).wake_at).filter(|at| *at != NEVER)
    }

    /// Give a new thread a place; it is not ready yet. `None` when the table is full.
    pub fn admit(&mut self, name: &'static str) -> Option<ThreadId> {
        let is_free = |slot: &Slot| self.thread(*slot).state == State::Free;
        let slot = Slot::all().skip(1).find(is_free)?;
        self.last_number = self.last_number.wrapping_add(1);
        let number = self.last_number;
        *self.thread_mut(slot) = Thread {
            state: State::Waiting,
            number,
            name: Some(name),
            ..Thread::free()
        };
        Some(ThreadId { slot, number })
    }

    /// Put a thread at the end of the queue.
    pub fn make_ready(&mut self, slot: Slot) {
        self.thread_mut(slot).state = State::Ready;
        self.ready.push_back(&mut self.links, slot);
    }

    /// Make the first thread of a list ready; `false` when nobody is in it.
    pub fn wake_first(&mut self, list: &mut List) -> bool {
        let first = list.pop_front(&mut self.links);
        first.map(|slot| self.make_ready(slot)).is_some()
    }

    /// Make the first thread of a list the next to run; `false` when nobody is in it.
    pub fn wake_first_ahead(&mut self, list: &mut List) -> bool {
        let Some(slot) = list.pop_front(&mut self.links) else {
            return false;
        };
        self.thread_mut(slot).state = State::Ready;
        self.ready.insert(&mut self.links, slot, |_| true);
        true
    }

    /// Make every thread ready whose time has come.
    pub fn wake_sleepers(&mut self, now: u64) {
        while self.earliest().is_some_and(|at| at <= now) {
            if let Some(slot) = self.sleepers.pop_front(&mut self.links) {
                self.make_ready(slot);
            }
        }
    }

    /// Make a thread ready before its time; `false` when it does not sleep, or is no more.
    pub fn rouse(&mut self, id: ThreadId) -> bool {
        let thread = self.thread(id.slot);
        let is_asleep = thread.number == id.number && thread.state == State::Sleeping;
        if is_asleep && self.sleepers.remove(&mut self.links, id.slot) {
            self.make_ready(id.slot);
        }
        is_asleep
    }

    /// The current thread lets the next one run, and stays ready.
    pub fn give_way(&mut self) -> Switch {
        if !self.is_idle() {
            self.make_ready(self.current);
        }
        self.run_next()
    }

    /// The current thread sleeps until a moment, or until somebody rouses it.
    pub fn sleep_until(&mut self, wake_at: u64) -> Switch {
        let slot = self.leave(State::Sleeping);
        self.thread_mut(slot).wake_at = wake_at;
        let threads = &self.threads;
        let is_later = |at: Slot| threads[at.index()].wake_at > wake_at;
        self.sleepers.insert(&mut self.links, slot, is_later);
        self.run_next()
    }

    /// The current thread waits in a list.
    pub fn wait_in(&mut self, list: &mut List) -> Switch {
        let slot = self.leave(State::Waiting);
        list.push_back(&mut self.links, slot);
        self.run_next()
    }

    /// The current thread waits for another one's end. `None` when that has come.
    pub fn wait_for(&mut self, id: ThreadId) -> Option<Switch> {
        let thread = self.thread_mut(id.slot);
        if thread.number != id.number || thread.state == State::Exited {
            return None;
        }
        let mut joiners = core::mem::take(&mut thread.joiners);
        let switch = self.wait_in(&mut joiners);
        self.thread_mut(id.slot).joiners = joiners;
        Some(switch)
    }

    /// The current thread ends.
    pub fn exit(&mut self) -> Switch {
        let slot = self.leave(State::Exited);
        let mut joiners = core::mem::take(&mut self.thread_mut(slot).joiners);
        while self.wake_first(&mut joiners) {}
        if self.thread(slot).is_detached {
            self.dead.push_back(&mut self.links, slot);
        }
        self.run_next()
    }

    /// Nobody will join a thread.
    pub fn detach(&mut self, id: ThreadId) {
        let thread = self.thread_mut(id.slot);
        if thread.number != id.number {
            return;
        }
        thread.is_detached = true;
        if thread.state == State::Exited {
            self.dead.push_back(&mut self.links, id.slot);
        }
    }

    /// Take a thread that ended, and that nobody joins, from the list of the dead.
    pub fn next_dead(&mut self) -> Option<Slot> {
        self.dead.pop_front(&mut self.links)
    }

    /// Free the place of a thread that ended.
    pub fn release(&mut self, slot: Slot) {
        *self.thread_mut(slot) = Thread::free();
    }

    /// The current thread gives the processor up in a state.
    ///
    /// # Panics
    /// When it is the idle thread, which has nowhere to go.
    fn leave(&mut self, state: State) -> Slot {
        assert!(!self.is_idle(), "the idle thread cannot wait");
        let slot = self.current;
        self.thread_mut(slot).state = state;
        slot
    }

    fn run_next(&mut self) -> Switch {
        let from = self.current;
        if from == Slot::IDLE {
            self.thread_mut(from).state = State::Ready;
        }
        let to = self.ready.pop_front(&mut self.links).unwrap_or(Slot::IDLE);
        self.current = to;
        let thread = self.thread_mut(to);
        thread.state = State::Running;
        if from != to {
            thread.runs = thread.runs.wrapping_add(1);
        }
        Switch { from, to }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
