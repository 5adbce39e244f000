//! No interrupt is lost: a model of the processor, the kernel and the monitor, in which interrupts
//! arrive between any two steps; tried with every schedule, and under loom.
//!
//! The same model with one thing wrong must fail, whatever that thing is.

mod model;

use std::cell::Cell;
use std::fmt::Debug;

use model::{Bug, Controller, Cpu};

/// What the kernel does while interrupts arrive.
#[derive(Clone, Copy, Debug)]
enum Scenario {
    /// It turns interrupts off and on.
    Enable,
    /// As before, and each handler lets another thread run.
    Preempt,
    /// It sleeps until every interrupt has come.
    Idle,
    /// It runs a user's program between two system calls.
    User,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario::Enable,
    Scenario::Preempt,
    Scenario::Idle,
    Scenario::User,
];

impl Scenario {
    /// Run the kernel on a processor, with these vectors to come, up to where it lets interrupts in
    /// for good.
    fn run<C: Controller>(self, cpu: &mut Cpu<'_, C>, vectors: &[u8]) {
        cpu.preempts = matches!(self, Self::Preempt);
        match self {
            Self::Enable | Self::Preempt => {
                for _ in 0..2 {
                    cpu.irq_enable();
                    cpu.step();
                    cpu.irq_disable();
                    cpu.step();
                }
            }
            Self::Idle => {
                while !cpu.is_asleep && vectors.iter().any(|v| cpu.count(*v) == 0) {
                    cpu.idle();
                }
            }
            Self::User => {
                cpu.user(2);
                cpu.step();
                cpu.user(1);
            }
        }
        cpu.irq_enable();
    }
}

/// Let the last requests arrive, and say what is wrong.
fn verdict<C: Controller>(cpu: &mut Cpu<'_, C>, vectors: &[u8]) -> Result<(), String> {
    for _ in 0..=vectors.len() {
        cpu.step();
    }
    if cpu.is_asleep {
        return Err("asleep for ever".to_owned());
    }
    for vector in vectors {
        match cpu.count(*vector) {
            1 => {}
            count => return Err(format!("vector {vector} was handled {count} times")),
        }
    }
    cpu.assert_settled()
}

/// Requests at chosen instruction boundaries.
struct Schedule<'a> {
    vectors: &'a [u8],
    at: &'a [u32],
    now: Cell<u32>,
    taken: Cell<u64>,
}

impl Schedule<'_> {
    /// The highest vector that is requested by now and not taken.
    fn requested(&self) -> Option<u8> {
        let is_due = |at: &u32| *at <= self.now.get();
        let requests = self.vectors.iter().zip(self.at);
        requests
            .filter(|(vector, at)| is_due(at) && self.taken.get() & 1 << **vector == 0)
            .map(|(vector, _)| *vector)
            .max()
    }
}

impl Controller for Schedule<'_> {
    fn take(&self) -> Option<u8> {
        self.pass();
        let vector = self.requested()?;
        self.taken.set(self.taken.get() | 1 << vector);
        Some(vector)
    }

    fn pass(&self) {
        self.now.set(self.now.get().saturating_add(1));
    }

    fn halt(&self) -> bool {
        let is_left = |(vector, _): &(&u8, &u32)| self.taken.get() & 1 << **vector == 0;
        let left = self.vectors.iter().zip(self.at).filter(is_left);
        match left.map(|(_, at)| *at).min() {
            Some(next) => {
                self.now.set(self.now.get().max(next));
                true
            }
            None => false,
        }
    }

    fn check(&self, vector: u8) {
        assert!(
            self.taken.get() & 1 << vector != 0,
            "nobody asked for {vector}"
        );
    }
}

/// Boundaries at which a request may come: more than a scenario has before its end.
const BOUNDARIES: u32 = 40;

/// The first schedule of three vectors that goes wrong, and how.
fn first_failure(scenario: Scenario, bug: Bug) -> Option<String> {
    const VECTORS: [u8; 3] = [1, 2, 3];
    let times = 0..BOUNDARIES;
    let schedules = times.clone().flat_map(|a| {
        let times = times.clone();
        times
            .clone()
            .flat_map(move |b| times.clone().map(move |c| [a, b, c]))
    });
    schedules.into_iter().find_map(|at| {
        let schedule = Schedule {
            vectors: &VECTORS,
            at: &at,
            now: Cell::new(0),
            taken: Cell::new(0),
        };
        let mut cpu = Cpu::new(&schedule, bug);
        scenario.run(&mut cpu, &VECTORS);
        // Whatever has not come yet comes now.
        schedule.now.set(BOUNDARIES);
        let wrong = verdict(&mut cpu, &VECTORS).err()?;
        Some(format!("{scenario:?} with requests at {at:?}: {wrong}"))
    })
}

#[test]
fn no_interrupt_is_lost_whenever_it_comes() {
    for scenario in SCENARIOS {
        assert_eq!(first_failure(scenario, Bug::None), None);
    }
}

#[test]
fn the_model_finds_every_bug_that_it_knows() {
    for bug in Bug::ALL {
        let failures: Vec<String> = SCENARIOS
            .into_iter()
            .filter_map(|scenario| first_failure(scenario, bug))
            .collect();
        println!("{bug:?}: {}", failures.first().map_or("-", String::as_str));
        assert!(!failures.is_empty(), "{bug:?} goes unnoticed");
    }
}

/// The local APIC under loom: a device on another thread asks for interrupts.
mod concurrent {
    use super::*;
    use loom::sync::atomic::{AtomicU32, Ordering};
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    const VECTORS: [u8; 2] = [1, 2];

    struct Apic {
        requests: Mutex<u64>,
        asked: Condvar,
        /// What the device writes before it asks, by vector.
        data: [AtomicU32; 3],
    }

    impl Apic {
        fn new() -> Self {
            Self {
                requests: Mutex::new(0),
                asked: Condvar::new(),
                data: [AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0)],
            }
        }

        fn ask(&self, vector: u8) {
            self.data[usize::from(vector)].store(1, Ordering::Relaxed);
            *self.requests.lock().unwrap() |= 1 << vector;
            self.asked.notify_one();
        }
    }

    impl Controller for Apic {
        fn take(&self) -> Option<u8> {
            let mut requests = self.requests.lock().unwrap();
            let vector = requests.checked_ilog2()?;
            *requests &= !(1 << vector);
            Some(vector as u8)
        }

        fn pass(&self) {}

        fn halt(&self) -> bool {
            let mut requests = self.requests.lock().unwrap();
            while *requests == 0 {
                // Loom fails the model when nobody is left to wake this.
                requests = self.asked.wait(requests).unwrap();
            }
            true
        }

        fn check(&self, vector: u8) {
            let data = self.data[usize::from(vector)].load(Ordering::Relaxed);
            assert_eq!(data, 1, "the handler sees what the device wrote");
        }
    }

    fn explore(scenario: Scenario, bug: Bug) {
        loom::model(move || {
            let apic = Arc::new(Apic::new());
            let device = thread::spawn({
                let apic = Arc::clone(&apic);
                move || VECTORS.into_iter().for_each(|vector| apic.ask(vector))
            });
            let mut cpu = Cpu::new(&*apic, bug);
            scenario.run(&mut cpu, &VECTORS);
            device.join().unwrap();
            if let Err(wrong) = verdict(&mut cpu, &VECTORS) {
                panic!("{wrong}");
            }
        });
    }

    #[test]
    fn an_interrupt_that_comes_while_the_flag_is_set_is_handled() {
        explore(Scenario::Enable, Bug::None);
    }

    #[test]
    fn an_interrupt_that_comes_while_threads_are_switched_is_handled() {
        explore(Scenario::Preempt, Bug::None);
    }

    #[test]
    fn an_interrupt_that_comes_on_the_way_to_user_mode_is_handled() {
        explore(Scenario::User, Bug::None);
    }

    #[test]
    fn halting_races_no_wake_up() {
        explore(Scenario::Idle, Bug::None);
    }

    #[test]
    #[should_panic(expected = "was handled 0 times")]
    fn asking_before_the_flag_is_cleared_would_lose_one() {
        explore(Scenario::Enable, Bug::AskBeforeFlag);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn halting_without_a_look_at_what_is_pending_would_sleep_for_ever() {
        explore(Scenario::Idle, Bug::IdleWithoutTest);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn halting_an_instruction_later_would_sleep_for_ever() {
        explore(Scenario::Idle, Bug::HaltTooLate);
    }
}
