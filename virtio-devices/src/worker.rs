//! A device's thread: sleeps until a doorbell rings, and has the device look at that queue. Nothing wakes it
//! otherwise.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::Device;
use crate::lines::Lines;
use crate::transport::mmio::lock;

/// What stands for the end of the thread among the numbers of queues.
const STOP: u64 = u64::MAX;

/// The thread; dropped, it ends, once the request that is under way is done.
pub(crate) struct Worker {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Start one.
    ///
    /// # Errors
    /// The host has no eventfd, epoll or thread left.
    pub fn start(
        device: &Arc<Mutex<Box<dyn Device>>>,
        lines: &Arc<Lines>,
        doorbells: &[EventFd],
    ) -> io::Result<Self> {
        let stop = EventFd::new(EFD_NONBLOCK)?;
        let epoll = Epoll::new()?;
        let all = doorbells.iter().zip(0..).chain([(&stop, STOP)]);
        for (event, number) in all {
            let what = EpollEvent::new(EventSet::IN, number);
            epoll.ctl(ControlOperation::Add, event.as_raw_fd(), what)?;
        }
        let doorbells = doorbells.iter().map(EventFd::try_clone);
        let mut looking = Looking {
            device: Arc::clone(device),
            lines: Arc::clone(lines),
            doorbells: doorbells.collect::<io::Result<_>>()?,
            epoll,
        };
        let thread = thread::Builder::new().name("virtio".to_owned());
        let thread = thread.spawn(move || looking.run())?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // A panic of its own has ended the process by then.
            let _ = thread.join();
        }
    }
}

struct Looking {
    device: Arc<Mutex<Box<dyn Device>>>,
    lines: Arc<Lines>,
    doorbells: Vec<EventFd>,
    epoll: Epoll,
}

impl Looking {
    fn run(&mut self) {
        let mut events = vec![EpollEvent::default(); self.doorbells.len() + 1];
        loop {
            let count = match self.epoll.wait(-1, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.lines.fail(),
            };
            for event in events.iter().take(count) {
                match event.data() {
                    STOP => return,
                    queue => {
                        if !self.look(queue as usize) {
                            return self.lines.fail();
                        }
                    }
                }
            }
        }
    }

    /// False when the device cannot go on.
    fn look(&self, queue: usize) -> bool {
        if let Some(doorbell) = self.doorbells.get(queue) {
            let _ = doorbell.read();
        }
        match lock(&self.device).notify(queue) {
            Ok(true) => self.lines.used(),
            Ok(false) => {}
            Err(_) => return false,
        }
        true
    }
}
