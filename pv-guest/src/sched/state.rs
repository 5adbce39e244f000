//! A thread's identity and its row in the table.

use core::fmt;

use super::list::{List, Slot};

/// What a thread is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// There is no thread.
    #[default]
    Free,
    /// It waits for the processor.
    Ready,
    /// It has the processor.
    Running,
    /// It waits for a moment.
    Sleeping,
    /// It waits for somebody to wake it.
    Waiting,
    /// It ended; its stack and its place are not free yet.
    Exited,
}

impl State {
    /// The state's name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::Waiting => "waiting",
            Self::Exited => "exited",
        }
    }
}

/// A thread: its place, and a number that no other thread had in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadId {
    pub(super) slot: Slot,
    pub(super) number: u32,
}

impl ThreadId {
    /// The thread's number, counted from 0, the idle thread's.
    pub const fn number(self) -> u32 {
        self.number
    }
}

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {}", self.number)
    }
}

/// A thread's row in the table.
#[derive(Debug, Default)]
pub struct Thread {
    /// What it is doing.
    pub state: State,
    /// Its number.
    pub number: u32,
    /// Its name, for people.
    pub name: Option<&'static str>,
    /// When it wakes, if it sleeps, in nanoseconds.
    pub wake_at: u64,
    /// How often it got the processor.
    pub runs: u64,
    /// Whether nobody will join it.
    pub is_detached: bool,
    /// Who waits for its end.
    pub(super) joiners: List,
}

impl Thread {
    /// A row without a thread.
    pub const fn free() -> Self {
        Self {
            state: State::Free,
            number: 0,
            name: None,
            wake_at: 0,
            runs: 0,
            is_detached: false,
            joiners: List::new(),
        }
    }
}
