//! One thread per activated device: it waits for doorbells and for the device's own file
//! descriptors, and calls the [`DataPath`]. Started and stopped by the transport. Sleeps without
//! timers while nothing happens.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::timerfd::TimerFd;

use crate::device::{DataPath, DeviceError, Served};
use crate::transport::shared::{Counted, Shared};

/// What the transport asks of a worker.
enum Command {
    /// Drain the data path, and end.
    Stop,
    /// Drain the data path, use a queue no more, then say so.
    Disable(usize, SyncSender<()>),
}

/// A running worker; dropping it stops it, once its I/O has ended.
pub(crate) struct Worker {
    commands: Sender<Command>,
    wake: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Run a data path on a thread of its own.
    pub fn start(
        path: Box<dyn DataPath>,
        doorbells: &[EventFd],
        shared: Arc<Shared>,
    ) -> io::Result<Worker> {
        let wake = EventFd::new(EFD_NONBLOCK)?;
        let (commands, receiver) = mpsc::channel();
        let doorbells = doorbells.iter().map(EventFd::try_clone);
        let mut run = Run {
            epoll: Epoll::new()?,
            wake: wake.try_clone()?,
            own_rings: vec![0; doorbells.len()],
            doorbells: doorbells.collect::<io::Result<_>>()?,
            fds: path
                .fds()
                .iter()
                .map(|fd| (*fd, EventSet::empty()))
                .collect(),
            commands: receiver,
            shared,
            timer: None,
            reminders: REMINDERS.iter(),
            held: Vec::new(),
            path: Some(path),
        };
        run.watch_all()?;
        let thread = std::thread::Builder::new()
            .name("virtio".into())
            .spawn(move || {
                // The panic's message is out; a device that is gone silently would hang the guest.
                if catch_unwind(AssertUnwindSafe(|| run.run())).is_err() {
                    std::process::abort();
                }
                run.shared.count(Counted::CpuNs, cpu_ns());
            })?;
        Ok(Worker {
            commands,
            wake,
            thread: Some(thread),
        })
    }

    /// Use a queue no more; returns when nothing of it is in flight.
    pub fn disable(&self, queue: usize) {
        let (done, is_done) = mpsc::sync_channel(1);
        if self.tell(Command::Disable(queue, done)) {
            // An error means that the worker has ended, and uses nothing.
            let _ = is_done.recv();
        }
    }

    /// Send a command; returns whether the worker is there to receive it.
    fn tell(&self, command: Command) -> bool {
        self.commands.send(command).is_ok() && self.wake.write(1).is_ok()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.tell(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has ended the process.
            let _ = thread.join();
        }
    }
}

/// This thread's time on a processor, in nanoseconds.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (seconds, ns) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds * 1_000_000_000 + ns
}

/// The tokens of `wake` and of the timer; doorbells have their queue's index, other descriptors theirs from [`FDS`].
const WAKE: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;
const FDS: u64 = 1 << 32;

/// How long after its failure a driver is told again that has not acknowledged being told, and after that.
const REMINDERS: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
];

/// What the thread has.
struct Run {
    epoll: Epoll,
    wake: EventFd,
    doorbells: Vec<EventFd>,
    /// How often this thread rang each itself, since it was last read.
    own_rings: Vec<u64>,
    /// The device's descriptors, with what is waited for.
    fds: Vec<(RawFd, EventSet)>,
    commands: Receiver<Command>,
    shared: Arc<Shared>,
    /// Runs while requests wait for limits, or a driver has not heard of a failure; made when that is first so.
    timer: Option<TimerFd>,
    reminders: std::slice::Iter<'static, Duration>,
    /// The queues whose requests wait for that.
    held: Vec<usize>,
    /// Gone once it has failed: only commands are answered then.
    path: Option<Box<dyn DataPath>>,
}

impl Run {
    fn watch_all(&mut self) -> io::Result<()> {
        self.watch(self.wake.as_raw_fd(), WAKE)?;
        for (queue, doorbell) in self.doorbells.iter().enumerate() {
            self.watch(doorbell.as_raw_fd(), queue as u64)?;
        }
        self.update_interest()
    }

    fn watch(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let event = EpollEvent::new(EventSet::IN, token);
        self.epoll.ctl(ControlOperation::Add, fd, event)
    }

    /// The thread: ends when it is told to.
    fn run(&mut self) {
        // The driver may have filled queues before DRIVER_OK, without a doorbell that counts.
        for queue in 0..self.doorbells.len() {
            self.step(Some(queue), |path| path.notify(queue));
        }
        let mut events = vec![EpollEvent::default(); self.doorbells.len() + self.fds.len() + 2];
        loop {
            let count = match self.epoll.wait(-1, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    let what = "to wait for events";
                    self.fail(DeviceError::Host { what, source });
                    return self.obey_without_events();
                }
            };
            for event in events.iter().take(count) {
                let is_end = match event.data() {
                    WAKE => self.obey(),
                    TIMER => self.time_has_come(),
                    token if token >= FDS => self.fd_ready((token - FDS) as usize),
                    queue => self.doorbell_rang(queue as usize),
                };
                if is_end {
                    return;
                }
            }
        }
    }

    fn doorbell_rang(&mut self, queue: usize) -> bool {
        if let Some(doorbell) = self.doorbells.get(queue) {
            // Empty when a reset took the rings away: then there is nothing to take, either.
            let rings = doorbell.read().unwrap_or(0);
            let own = self.own_rings.get_mut(queue).map(std::mem::take);
            let rings = rings.saturating_sub(own.unwrap_or(0));
            self.shared.count(Counted::Doorbells, rings);
        }
        self.step(Some(queue), |path| path.notify(queue));
        false
    }

    /// Requests that waited for limits may go on; or a driver may not have heard that the device has failed.
    fn time_has_come(&mut self) -> bool {
        if let Some(timer) = &mut self.timer {
            // It may have been set again since: then this comes too early, and is no harm.
            let _ = timer.wait();
        }
        if self.path.is_none() && self.shared.tell_again() {
            self.remind();
        }
        for queue in std::mem::take(&mut self.held) {
            self.step(Some(queue), |path| path.notify(queue));
        }
        false
    }

    /// Come back when the limits let the requests through that wait for them.
    fn hold(&mut self) -> io::Result<()> {
        let queues = self.path.as_mut().map(|path| path.queues());
        let mut soonest: Option<Duration> = None;
        for (index, queue) in queues.into_iter().flatten().enumerate() {
            if let Some(wait) = queue.held() {
                soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait)));
                if !self.held.contains(&index) {
                    self.held.push(index);
                }
            }
        }
        match soonest {
            Some(wait) => self.set_timer(wait),
            None => Ok(()),
        }
    }

    fn set_timer(&mut self, wait: Duration) -> io::Result<()> {
        if self.timer.is_none() {
            let timer = TimerFd::new()?;
            self.watch(timer.as_raw_fd(), TIMER)?;
            self.timer = Some(timer);
        }
        match &mut self.timer {
            // A timer of no time would never fire.
            Some(timer) => Ok(timer.reset(wait.max(Duration::from_micros(50)), None)?),
            None => Ok(()),
        }
    }

    fn fd_ready(&mut self, fd: usize) -> bool {
        self.step(None, |path| path.ready(fd));
        false
    }

    /// Do what the transport asks; returns whether to end.
    fn obey(&mut self) -> bool {
        let _ = self.wake.read();
        while let Ok(command) = self.commands.try_recv() {
            if self.obey_one(command) {
                return true;
            }
        }
        false
    }

    /// Without events, commands are all that is left.
    fn obey_without_events(&mut self) {
        while let Ok(command) = self.commands.recv() {
            if self.obey_one(command) {
                return;
            }
        }
    }

    fn obey_one(&mut self, command: Command) -> bool {
        match command {
            Command::Stop => {
                self.step(None, |path| path.drain());
                self.path = None;
                true
            }
            Command::Disable(queue, done) => {
                self.step(None, |path| path.disable(queue));
                // The transport waits for it; it is never gone.
                let _ = done.send(());
                false
            }
        }
    }

    /// One call of the data path, and what follows from it.
    fn step(
        &mut self,
        queue: Option<usize>,
        call: impl FnOnce(&mut dyn DataPath) -> Result<Served, DeviceError>,
    ) {
        let Some(path) = &mut self.path else { return };
        let served = match call(path.as_mut()) {
            Ok(served) => served,
            Err(error) => return self.fail(error),
        };
        if served.interrupt {
            self.shared.used();
        }
        if served.copied > 0 {
            self.shared.count(Counted::Copied, served.copied);
        }
        if served.again {
            self.ring_again(queue);
        }
        if let Err(source) = self.hold().and_then(|()| self.update_interest()) {
            let what = "to wait for a file descriptor";
            self.fail(DeviceError::Host { what, source });
        }
    }

    /// Come back to queues after the events that wait already.
    fn ring_again(&mut self, queue: Option<usize>) {
        let is_meant = |index: usize| queue.is_none_or(|queue| queue == index);
        let places = self.doorbells.iter().zip(&mut self.own_rings).enumerate();
        for (_, (doorbell, own)) in places.filter(|(index, _)| is_meant(*index)) {
            // A full counter rings already.
            *own += u64::from(doorbell.write(1).is_ok());
        }
    }

    /// Wait for what the data path wants to wait for, and for nothing else: a descriptor whose
    /// other end is gone is always ready.
    fn update_interest(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        for (index, (fd, is)) in self.fds.iter_mut().enumerate() {
            let wanted = path.interest(index);
            if *is == wanted {
                continue;
            }
            let operation = match (is.is_empty(), wanted.is_empty()) {
                (true, _) => ControlOperation::Add,
                (_, true) => ControlOperation::Delete,
                _ => ControlOperation::Modify,
            };
            let event = EpollEvent::new(wanted, FDS + index as u64);
            self.epoll.ctl(operation, *fd, event)?;
            *is = wanted;
        }
        Ok(())
    }

    /// The device cannot go on: its I/O ends, the driver is told, commands are answered still.
    fn fail(&mut self, error: DeviceError) {
        for (fd, is) in self.fds.drain(..).filter(|(_, is)| !is.is_empty()) {
            let event = EpollEvent::new(is, 0);
            // What cannot be taken out is closed with the data path.
            let _ = self.epoll.ctl(ControlOperation::Delete, fd, event);
        }
        for doorbell in &self.doorbells {
            let (fd, event) = (doorbell.as_raw_fd(), EpollEvent::default());
            let _ = self.epoll.ctl(ControlOperation::Delete, fd, event);
        }
        self.path = None;
        self.shared.needs_reset(error.to_string());
        self.remind();
    }

    /// An interrupt that is an edge may merge with one before it, of used buffers, and a driver that reads no
    /// register on its data path then finds those alone: it would wait for ever for the rest. So it is told
    /// again until it has acknowledged, a few times.
    fn remind(&mut self) {
        if let Some(wait) = self.reminders.next() {
            // Without a timer the driver was told once, as the specification has it.
            let _ = self.set_timer(*wait);
        }
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
