//! The channel: how it is set up, how requests take turns, and what an interrupt does.
//!
//! The registers have one user at a time, the *owner*: whoever finds something to do while there is none,
//! be it the bottom half or a client that submits. It works without a lock, since a block takes long to
//! move, and looks again before it leaves: what came meanwhile left its mark, an answer or a task in the queue.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use driver_api::{BlockError, Completion, Dma, Halves, Lock, PortEnv, Refused, Request};

use crate::error::AtaError;
use crate::identify::Identity;
use crate::registers::{Registers, Stuck};
use crate::task::{BLOCK_WORDS, Progress, Task, check};

/// Requests that wait for a drive or are under way at it, at most.
pub const DEPTH: usize = 8;

/// A channel with its drives.
pub struct Channel<E: PortEnv> {
    env: E,
    registers: Registers<E::Ports>,
    drives: [Option<Identity>; 2],
    state: E::Lock<State<E::Dma>>,
}

/// What is to be done.
struct State<D> {
    waiting: VecDeque<Task<D>>,
    /// The task whose command the drive has.
    active: Option<Task<D>>,
    /// The block on its way; with the owner while there is one.
    words: Vec<u16>,
    has_owner: bool,
    is_broken: bool,
    /// Requests of each drive that are not complete.
    accepted: [usize; 2],
}

/// What an owner has to do.
enum Turn<D> {
    /// Give the drive a command.
    Start(Task<D>),
    /// The drive has answered with this status.
    GoOn(Task<D>, u8),
    /// It will be done no more.
    GiveUp(Task<D>),
}

impl<E: PortEnv> Channel<E> {
    /// Take over a channel: its command block, its control block, and the vector of its interrupts.
    ///
    /// # Errors
    /// [`AtaError`]; interrupts are held back then.
    pub fn new(
        env: E,
        command: E::Ports,
        control: E::Ports,
        vector: u8,
    ) -> Result<Arc<Self>, AtaError> {
        let registers = Registers::new(command, control);
        registers.reset().map_err(|Stuck| AtaError::Busy)?;
        let drives = [false, true].map(|is_second| registers.identify(is_second));
        if drives == [None; 2] {
            return Err(AtaError::NoDisk);
        }
        let channel = Arc::new(Self {
            env,
            registers,
            drives,
            state: E::Lock::new(State::new()),
        });
        channel.env.irq(vector, channel.clone())?;
        channel.registers.set_interrupts(true);
        Ok(channel)
    }

    /// The drives that are disks, in the order of the cable.
    pub fn drives(&self) -> impl Iterator<Item = (usize, &Identity)> {
        let drives = self.drives.iter().enumerate();
        drives.filter_map(|(number, drive)| Some((number, drive.as_ref()?)))
    }

    /// What is known of a drive.
    pub(crate) fn drive(&self, number: usize) -> Option<&Identity> {
        self.drives.get(number)?.as_ref()
    }

    /// Queue a request.
    pub(crate) fn submit(
        &self,
        number: usize,
        request: Request<E::Dma>,
        client: &Arc<dyn Completion<E::Dma>>,
    ) -> Result<(), Refused<E::Dma>> {
        let checked = match self.drive(number) {
            Some(drive) => check(&request, drive),
            None => Err(BlockError::Broken),
        };
        if let Err(error) = checked {
            return Err(Refused { request, error });
        }
        let task = Task::new(request, client.clone(), number > 0);
        let queued = self.state.with(|state| state.queue(task, number));
        queued.map_err(|(request, error)| Refused { request, error })
    }

    /// Do what there is to do, unless somebody else is at it.
    pub(crate) fn serve(&self) {
        while let Some((turn, mut words)) = self.state.with(|state| self.turn(state)) {
            let (task, progress) = self.take_turn(turn, &mut words);
            let over = self
                .state
                .with(|state| state.put_back(task, progress, words));
            if let Some((task, result)) = over {
                // No lock is held, and there is an owner yet: a client that submits returns at once.
                task.client.complete(task.request, result);
            }
            self.state.with(|state| state.has_owner = false);
        }
    }

    /// What is to be done next, for who becomes the owner.
    fn turn(&self, state: &mut State<E::Dma>) -> Option<(Turn<E::Dma>, Vec<u16>)> {
        if state.has_owner {
            return None;
        }
        let turn = match state.active.take() {
            Some(task) => match self.registers.take_answer() {
                Some(now) => Turn::GoOn(task, now),
                None => {
                    state.active = Some(task);
                    return None;
                }
            },
            None => match state.waiting.pop_front()? {
                task if state.is_broken => Turn::GiveUp(task),
                task => Turn::Start(task),
            },
        };
        state.has_owner = true;
        Some((turn, core::mem::take(&mut state.words)))
    }

    fn take_turn(&self, turn: Turn<E::Dma>, words: &mut [u16]) -> (Task<E::Dma>, Progress) {
        let gone = Progress::Over(Err(BlockError::Broken));
        match turn {
            Turn::GiveUp(task) => (task, gone),
            Turn::Start(mut task) => {
                let progress = match self.drive(task.number()) {
                    Some(drive) => task.start(&self.registers, drive, words),
                    None => gone,
                };
                (task, progress)
            }
            Turn::GoOn(mut task, now) => {
                let progress = match self.drive(task.number()) {
                    Some(drive) => task.go_on(&self.registers, drive, words, now),
                    None => gone,
                };
                (task, progress)
            }
        }
    }
}

impl<D: Dma> State<D> {
    fn new() -> Self {
        Self {
            waiting: VecDeque::with_capacity(2 * DEPTH),
            active: None,
            words: vec![0; BLOCK_WORDS],
            has_owner: false,
            is_broken: false,
            accepted: [0; 2],
        }
    }

    fn queue(&mut self, task: Task<D>, number: usize) -> Result<(), (Request<D>, BlockError)> {
        let accepted = self.accepted.get_mut(number);
        match accepted {
            _ if self.is_broken => Err((task.request, BlockError::Broken)),
            Some(count) if *count < DEPTH => {
                *count += 1;
                self.waiting.push_back(task);
                Ok(())
            }
            _ => Err((task.request, BlockError::Busy)),
        }
    }

    /// The owner is done with a task's turn: the task, if it is over.
    fn put_back(
        &mut self,
        task: Task<D>,
        progress: Progress,
        words: Vec<u16>,
    ) -> Option<(Task<D>, Result<(), BlockError>)> {
        self.words = words;
        let Progress::Over(result) = progress else {
            self.active = Some(task);
            return None;
        };
        self.is_broken |= result == Err(BlockError::Broken);
        if let Some(count) = self.accepted.get_mut(task.number()) {
            *count = count.saturating_sub(1);
        }
        Some((task, result))
    }
}

impl<E: PortEnv> Halves for Channel<E> {
    /// Take the status, which lowers the line: at an edge-triggered pin nothing would come any more.
    fn top(&self) -> bool {
        self.registers.acknowledge();
        true
    }

    fn bottom(&self) {
        self.serve();
    }
}
