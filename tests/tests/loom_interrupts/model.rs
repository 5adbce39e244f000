//! One processor of a pv guest, as far as interrupts go: the kernel's enable, idle and return paths
//! (`image-pv/src/hooks.rs`, `events.rs`, `pv-runtime/src/entry.S`) and the monitor's stub, gates
//! and frames (`hypervisor/src/monitor/entry.S`).
//!
//! Each instruction of the kernel that touches a shared word is a step, and before each step an
//! interrupt may arrive. The monitor runs with interrupts off, so what it does is one step.

use std::collections::BTreeMap;

/// The local APIC: where interrupts come from, and where time passes.
pub trait Controller {
    /// An instruction boundary with interrupts on: the request that is delivered there.
    fn take(&self) -> Option<u8>;
    /// An instruction boundary with interrupts off.
    fn pass(&self);
    /// Halt until there is a request; false when none will ever come.
    fn halt(&self) -> bool;
    /// The handler runs: what the device wrote before its request must be there.
    fn check(&self, vector: u8);
}

/// What can be wrong, to show that this model would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Nothing is.
    None,
    /// The kernel asks whether it needs the monitor, and then clears its flag.
    AskBeforeFlag,
    /// The kernel never asks.
    NeverAsk,
    /// The monitor lets interrupts in without looking for pending ones.
    UnmaskWithoutTest,
    /// The monitor halts without looking for pending ones.
    IdleWithoutTest,
    /// An interrupt gets in between the monitor's `sti` and its `hlt`.
    HaltTooLate,
    /// The stub forgets to say that an interrupt is pending.
    QuietStub,
    /// The kernel's entry forgets that interrupts are off since.
    QuietEntry,
    /// The way out of an event does not ask.
    ReturnWithoutTest,
    /// The gate of the way out does not look for pending ones.
    GateWithoutTest,
    /// Entering user mode does not look for pending ones.
    EnterWithoutTest,
}

impl Bug {
    /// Every one that must be found.
    pub const ALL: [Self; 10] = [
        Self::AskBeforeFlag,
        Self::NeverAsk,
        Self::UnmaskWithoutTest,
        Self::IdleWithoutTest,
        Self::HaltTooLate,
        Self::QuietStub,
        Self::QuietEntry,
        Self::ReturnWithoutTest,
        Self::GateWithoutTest,
        Self::EnterWithoutTest,
    ];
}

/// What the monitor bounces to the kernel's entries.
#[derive(Clone, Copy, Debug)]
enum Event {
    Interrupt(u8),
    Pending,
}

/// `hold` in the shared page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hold {
    cli: bool,
    event: bool,
    user: bool,
}

/// The processor.
pub struct Cpu<'a, C> {
    controller: &'a C,
    bug: Bug,
    /// The processor's own interrupt flag.
    is_on: bool,
    hold: Hold,
    needs_unmask: bool,
    pending: u64,
    /// How often each vector was handled.
    pub handled: BTreeMap<u8, u32>,
    /// Whether a handler lets another thread run, which lets interrupts in.
    pub preempts: bool,
    /// Frames of events on the kernel's stack, now and at most.
    depth: u32,
    deepest: u32,
    /// Whether the processor halted with nothing left to wake it.
    pub is_asleep: bool,
}

impl<'a, C: Controller> Cpu<'a, C> {
    /// A kernel that has just named its entries: interrupts are held.
    pub fn new(controller: &'a C, bug: Bug) -> Self {
        Self {
            controller,
            bug,
            is_on: true,
            hold: Hold {
                cli: true,
                ..Hold::default()
            },
            needs_unmask: false,
            pending: 0,
            handled: BTreeMap::new(),
            preempts: false,
            depth: 0,
            deepest: 0,
            is_asleep: false,
        }
    }

    /// How often a vector was handled.
    pub fn count(&self, vector: u8) -> u32 {
        self.handled.get(&vector).copied().unwrap_or(0)
    }

    /// What must hold once the kernel runs with interrupts on and no request is left.
    pub fn assert_settled(&self) -> Result<(), String> {
        let is_settled = self.is_on && self.hold == Hold::default() && self.pending == 0;
        // A handler that was preempted keeps its frame, and the thread that runs meanwhile has one.
        let is_shallow = self.deepest <= if self.preempts { 2 } else { 1 };
        match (is_settled, is_shallow) {
            (true, true) => Ok(()),
            (false, _) => Err(format!(
                "interrupts on: {}, {:?}, pending {:#x}",
                self.is_on, self.hold, self.pending
            )),
            (_, false) => Err(format!("{} frames", self.deepest)),
        }
    }

    // ---- The processor and the monitor's stub. ----

    /// An instruction boundary: the event that the monitor bounces to the kernel there.
    fn boundary(&mut self) -> Option<Event> {
        if !self.is_on {
            self.controller.pass();
            return None;
        }
        let vector = self.controller.take()?;
        self.stub(vector)
    }

    /// `INTERRUPT` of the monitor.
    fn stub(&mut self, vector: u8) -> Option<Event> {
        if !self.hold.cli && !self.hold.event {
            self.is_on = false;
            return Some(Event::Interrupt(vector));
        }
        self.pending |= 1 << vector;
        self.needs_unmask |= self.bug != Bug::QuietStub;
        self.is_on = false;
        None
    }

    // ---- The kernel. ----

    /// A boundary in the kernel's ordinary code.
    pub fn step(&mut self) {
        if let Some(event) = self.boundary() {
            self.event(event);
        }
    }

    /// The kernel's entry, handler and way out. What arrives on the way out takes the frame's place.
    fn event(&mut self, first: Event) {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        let mut next = Some(first);
        while let Some(event) = next {
            self.enter(event);
            self.handle_event(event);
            next = self.leave();
        }
        self.depth -= 1;
    }

    fn enter(&mut self, event: Event) {
        if matches!(event, Event::Interrupt(_)) && self.bug != Bug::QuietEntry {
            self.needs_unmask = true; // before any step: interrupts are off
        }
        self.step();
        self.hold.cli = true;
        self.step();
        self.hold.event = false;
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Interrupt(vector) => self.handle(vector),
            Event::Pending => self.deliver_pending(),
        }
    }

    /// `return_tail`: `hold.cli` is set until its first step.
    fn leave(&mut self) -> Option<Event> {
        self.step();
        self.hold.cli = false;
        if let Some(event) = self.boundary() {
            return self.restart(event);
        }
        if !self.needs_unmask || self.bug == Bug::ReturnWithoutTest {
            let event = self.boundary()?;
            return self.restart(event);
        }
        if let Some(event) = self.boundary() {
            return self.restart(event);
        }
        // The gate `event_return`.
        if self.pending != 0 && self.bug != Bug::GateWithoutTest {
            return self.bounce_pending();
        }
        self.let_in(Hold::default());
        let event = self.boundary()?;
        self.restart(event)
    }

    /// The kernel's entry finds that it interrupted the way out, which was to run with interrupts on.
    fn restart(&mut self, event: Event) -> Option<Event> {
        self.hold.cli = false;
        Some(event)
    }

    /// `.Lbounce_pending`: the frame of that entry has the interrupt flag set.
    fn bounce_pending(&mut self) -> Option<Event> {
        self.hold.event = true;
        self.is_on = true;
        self.restart(Event::Pending)
    }

    /// The monitor clears `hold` and `needs_unmask` and lets interrupts in, in one step.
    fn let_in(&mut self, hold: Hold) {
        self.hold = hold;
        self.needs_unmask = false;
        self.is_on = true;
    }

    /// A top half, with interrupts off.
    fn handle(&mut self, vector: u8) {
        assert!(self.hold.cli, "a handler runs with interrupts off");
        self.controller.check(vector);
        *self.handled.entry(vector).or_default() += 1;
        if self.preempts && self.depth <= 1 {
            // Another thread goes on where it had turned interrupts off, and later comes back.
            self.irq_enable();
            self.step();
            self.irq_disable();
        }
    }

    /// `events::deliver_pending`.
    fn deliver_pending(&mut self) {
        loop {
            self.step();
            let Some(vector) = self.pending.checked_ilog2() else {
                return;
            };
            self.step();
            self.pending &= !(1 << vector);
            self.handle(vector as u8);
        }
    }

    /// `hooks::irq_disable`.
    pub fn irq_disable(&mut self) {
        self.step();
        self.hold.cli = true;
    }

    /// `hooks::irq_enable`.
    pub fn irq_enable(&mut self) {
        self.step();
        let asked_before = self.needs_unmask;
        self.step();
        self.hold.cli = false;
        self.step();
        let must_ask = match self.bug {
            Bug::AskBeforeFlag => asked_before,
            Bug::NeverAsk => false,
            _ => self.needs_unmask,
        };
        if must_ask {
            self.unmask();
        }
    }

    /// `events::unmask`.
    fn unmask(&mut self) {
        loop {
            self.step();
            self.hold.cli = true;
            self.deliver_pending();
            self.step();
            if self.pending == 0 || self.bug == Bug::UnmaskWithoutTest {
                self.let_in(Hold::default());
                return self.step();
            }
        }
    }

    /// `hooks::idle`, with interrupts off: the call `idle`, and what came meanwhile.
    pub fn idle(&mut self) {
        self.step();
        self.halt();
        self.deliver_pending();
    }

    fn halt(&mut self) {
        let was_on = self.is_on;
        self.hold.cli = true;
        if self.pending != 0 && self.bug != Bug::IdleWithoutTest {
            return;
        }
        self.is_on = true; // sti: from the instruction after the next
        if self.bug == Bug::HaltTooLate {
            let bounced = self.boundary();
            assert!(bounced.is_none(), "`hold.cli` is set");
        }
        if !self.is_on || !self.controller.halt() {
            self.is_asleep = true;
            return;
        }
        let bounced = self.boundary();
        assert!(bounced.is_none(), "`hold.cli` is set");
        self.is_on = was_on;
    }

    /// Enter user mode, with interrupts off, run there for some steps, and come back with them off.
    pub fn user(&mut self, steps: u32) {
        let mut left = steps;
        loop {
            self.enter_user();
            let event = loop {
                match self.boundary() {
                    Some(event) => break Some(event),
                    None if left == 0 => break None,
                    None => left -= 1,
                }
            };
            // A system call, which comes under `hold.event`, or an interrupt.
            self.hold.event |= event.is_none();
            self.needs_unmask |= event.is_some();
            self.hold.user = false;
            self.step();
            self.hold.cli = true;
            self.step();
            self.hold.event = false;
            match event {
                Some(event) => self.handle_event(event),
                None => return,
            }
        }
    }

    /// The slot `enter_user`, until nothing is pending.
    fn enter_user(&mut self) {
        self.step();
        while self.pending != 0 && self.bug != Bug::EnterWithoutTest {
            self.hold.event = true;
            self.is_on = true;
            self.enter(Event::Pending);
            self.deliver_pending();
            self.step();
        }
        let user = Hold {
            user: true,
            ..Hold::default()
        };
        self.let_in(user);
    }
}
